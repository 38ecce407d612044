"""`fraisier rollback`."""

from __future__ import annotations

import click

from fraisier.cli.options import environment_argument, fraise_argument, json_option, label_option, wait_option
from fraisier.cli.session import Session, asker


@click.command("rollback")
@fraise_argument()
@environment_argument()
@click.option(
    "--to", "release", default="", metavar="RELEASE", help="This release; otherwise the one before."
)
@wait_option
@json_option
@label_option
@click.pass_obj
def command(
    session: Session, fraise: str, environment: str, *, release: str, wait: bool, as_json: bool
) -> None:
    """Go back to an earlier release of ENVIRONMENT, and watch until it runs.

    It goes before everything that waits, and cancels a running deployment that has not begun to migrate.
    No push and no sweep undoes it: the next new commit does. The releases that exist are in
    `fraisier history`.

    \b
    Examples:
      fraisier rollback api production
      fraisier rollback api production --to 41-5f1c0d2a77
    """
    key = session.key(fraise, environment)
    with session.fraisier() as fraisier:
        from fraisier.cli.waiting import conclude

        requested = fraisier.roll_back(key, to=release, by=asker())
        conclude(fraisier, requested, wait=wait, as_json=as_json)
