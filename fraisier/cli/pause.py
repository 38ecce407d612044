"""`fraisier pause`."""

from __future__ import annotations

import click

from fraisier.cli.options import environment_argument, fraise_argument
from fraisier.cli.session import Session, asker
from fraisier.cli.text import SHORT_ID


@click.command("pause")
@fraise_argument()
@environment_argument()
@click.option("--reason", required=True, metavar="TEXT", help="Why; `status` shows it to everybody.")
@click.pass_obj
def command(session: Session, fraise: str, environment: str, *, reason: str) -> None:
    """Let nothing begin in ENVIRONMENT of FRAISE by itself, until `fraisier resume`.

    Pushes are still accepted and stored; of those that wait only the newest stays. What runs goes on to its
    end. A rollback is performed all the same, and so is `fraisier deploy --force`.

    \b
    Examples:
      fraisier pause api production --reason "the database is being moved"
    """
    key = session.key(fraise, environment)
    with session.fraisier() as fraisier:
        running = fraisier.pause(key, by=asker(), reason=reason)
    click.echo(
        f"{key} is paused: pushes are stored and wait. To go on: fraisier resume {fraise} {environment}"
    )
    if running:
        short = running[:SHORT_ID]
        click.echo(f"Deployment {short} runs, and goes on to its end. To stop it: fraisier cancel {short}")
