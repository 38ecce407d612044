"""`fraisier worker`."""

from __future__ import annotations

import click

from fraisier.cli.session import Session


@click.command("worker")
@click.pass_obj
def command(session: Session) -> None:
    """Perform deployments until told to stop; receive no webhooks.

    SIGTERM and Ctrl-C finish the running step (within `shutdown_grace`) and hand the rest to the next
    worker.

    \b
    Examples:
      fraisier worker
    """
    with session.fraisier() as fraisier:
        from fraisier.worker import Worker

        Worker(fraisier).run_until_stopped()
