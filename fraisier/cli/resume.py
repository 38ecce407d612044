"""`fraisier resume`."""

from __future__ import annotations

import click

from fraisier.cli.options import environment_argument, fraise_argument
from fraisier.cli.session import Session, asker


@click.command("resume")
@fraise_argument()
@environment_argument()
@click.pass_obj
def command(session: Session, fraise: str, environment: str) -> None:
    """Let deployments of ENVIRONMENT of FRAISE begin again: the newest that waits does so at once.

    \b
    Examples:
      fraisier resume api production
    """
    key = session.key(fraise, environment)
    with session.fraisier() as fraisier:
        was_paused = fraisier.resume(key, by=asker())
        (row,) = fraisier.store.fraise_status(fraise, environment)
        hold = fraisier.holds().hold_of_row(key, row)
    click.echo(f"{key} goes on." if was_paused else f"{key} was not paused.")
    if row["pending"] and hold is not None:
        click.echo(f"{_counted(row['pending'])} still: {hold.reason}.")
    elif row["pending"]:
        click.echo(f"{_counted(row['pending'])} no longer for this.")


def _counted(pending: int) -> str:
    return f"{pending} deployment{'s wait' if pending != 1 else ' waits'}"
