"""`fraisier worker`."""

from __future__ import annotations

import click

from fraisier.cli.session import Session, refuse_strangers


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
    from fraisier.cli.serving import run_worker

    refuse_strangers(session.configuration.settings)
    run_worker(session.configuration)
