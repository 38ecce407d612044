"""`fraisier worker`."""

from __future__ import annotations

import click

from fraisier.cli.options import label_option
from fraisier.cli.session import Session, refuse_strangers


@click.command("worker")
@label_option
@click.pass_obj
def command(session: Session) -> None:
    """Perform deployments until told to stop; receive no webhooks.

    SIGTERM and Ctrl-C finish the running step (within `shutdown_grace`) and hand the rest to the next
    worker.

    Where several machines share one PostgreSQL database, each has a worker with a label of its own. An
    environment with `labels:` is deployed only by workers that have them all; one without only by workers
    without labels.

    \b
    Examples:
      fraisier worker
      fraisier worker --label web1
    """
    from fraisier.cli.serving import run_worker

    refuse_strangers(session.configuration.settings)
    run_worker(session.configuration)
