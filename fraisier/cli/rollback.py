"""`fraisier rollback`."""

from __future__ import annotations

import click

from fraisier.cli.options import (
    environment_argument,
    fraise_argument,
    json_option,
    label_option,
    not_empty,
    wait_option,
)
from fraisier.cli.session import Session, asker


@click.command("rollback")
@fraise_argument()
@environment_argument()
@click.option(
    "--to",
    "release",
    default="",
    callback=not_empty,
    metavar="RELEASE",
    help="This release; otherwise the one before.",
)
@click.option("--with-database", is_flag=True, help="Take the database back to that release's revision, too.")
@wait_option
@json_option
@label_option
@click.pass_obj
def command(
    session: Session,
    fraise: str,
    environment: str,
    *,
    release: str,
    with_database: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Go back to an earlier release of ENVIRONMENT, and watch until it runs.

    It goes before everything that waits, takes the place of what waits for its next try, and cancels a
    running deployment that has not begun to migrate. No push and no sweep undoes it: the next new commit
    does. The releases that exist are in `fraisier history`.

    The database stays as it is, and it is said where. With --with-database it goes back to the revision that
    it had when that release was deployed, if all that was migrated since can be taken back.

    \b
    Examples:
      fraisier rollback api production
      fraisier rollback api production --to 41-5f1c0d2a77
      fraisier rollback api production --with-database
    """
    key = session.key(fraise, environment)
    with session.fraisier() as fraisier:
        from fraisier.cli.deployment_waiting import conclude

        requested = fraisier.roll_back(key, to=release, by=asker(), with_database=with_database)
        if requested.database:
            click.echo(requested.database, err=as_json)
        conclude(fraisier, requested, wait=wait, as_json=as_json)
