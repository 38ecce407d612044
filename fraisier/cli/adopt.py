"""`fraisier adopt`."""

from __future__ import annotations

import sys

import click

from fraisier.cli.options import environment_argument, fraise_argument, label_option
from fraisier.cli.session import Session, asker
from fraisier.domain.errors import EXIT_ENDED_OTHERWISE, UsageError


@click.command("adopt")
@fraise_argument()
@environment_argument()
@click.option("--yes", is_flag=True, help="Do not ask.")
@label_option
@click.pass_obj
def command(session: Session, fraise: str, environment: str, *, yes: bool) -> None:
    """Take over the folder of ENVIRONMENT that another installation, or an older database, owns.

    Needed after the database was restored from a backup, or after a move to another machine. The other
    installation's running commands there are ended; it can change nothing there any more.

    \b
    Examples:
      fraisier adopt api production
      fraisier adopt api production --yes
    """
    key = session.key(fraise, environment)
    where = session.configuration.environments[key]
    question = f"Take over {where.app_path} on {', '.join(where.hosts)} from whoever owns it?"
    if not yes and not _agreed(question):
        raise click.exceptions.Exit(EXIT_ENDED_OTHERWISE)
    with session.fraisier() as fraisier:
        fraisier.adopt(key, by=asker())
    click.echo(f"{key} belongs to this installation now.")


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise  # Ctrl-C
        click.echo(err=True)
        raise UsageError("cannot ask: nobody answers here", "Say that it is meant: --yes") from None
