"""`fraisier cancel`."""

from __future__ import annotations

import click

from fraisier.cli.options import json_option
from fraisier.cli.screen import print_json
from fraisier.cli.session import Session, asker
from fraisier.cli.text import SHORT_ID


@click.command("cancel")
@click.argument("deployment", metavar="ID")
@json_option
@click.pass_obj
def command(session: Session, deployment: str, *, as_json: bool) -> None:
    """Cancel the deployment with this ID (its beginning is enough).

    A waiting one ends at once. Of a running one the present step's processes are stopped, all of them,
    and the environment keeps, or gets back, the last good release.

    \b
    Examples:
      fraisier cancel 0d9f3a51
    """
    with session.fraisier() as fraisier:
        found = fraisier.store.deployment(deployment)
        cancelled = fraisier.cancel(found["id"], by=asker())
        if as_json:
            print_json(fraisier.store.deployment(cancelled.id))
            return
        short = cancelled.id[:SHORT_ID]
        if cancelled.status.is_final:
            click.echo(f"Deployment {short} of {cancelled.environment} is {cancelled.status}.")
        else:
            click.echo(
                f"Deployment {short} of {cancelled.environment} is being stopped: fraisier logs -f {short}"
            )
