"""`fraisier cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fraisier.cli.either import deployment_or_run
from fraisier.cli.options import json_option
from fraisier.cli.screen import print_json
from fraisier.cli.session import Session, asker
from fraisier.cli.text import SHORT_ID

if TYPE_CHECKING:
    from fraisier.application.ports import Row
    from fraisier.wiring import Fraisier


@click.command("cancel")
@click.argument("wanted", metavar="ID")
@json_option
@click.pass_obj
def command(session: Session, wanted: str, *, as_json: bool) -> None:
    """Cancel the deployment, or the run of a job, with this ID (its beginning is enough).

    A waiting one ends at once. Of a running one the present step's processes are stopped, all of them,
    and the environment keeps, or gets back, the last good release. What a run has done stays done, and it is
    not tried again.

    \b
    Examples:
      fraisier cancel 0d9f3a51
    """
    with session.fraisier() as fraisier:
        found, run = deployment_or_run(fraisier.store, wanted)
        if found is None:
            assert run is not None  # noqa: S101 - one of them is there
            _cancel_run(fraisier, run, as_json=as_json)
            return
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


def _cancel_run(fraisier: Fraisier, run: Row, *, as_json: bool) -> None:
    cancelled = fraisier.cancel_run(run["id"], by=asker())
    if as_json:
        print_json(cancelled)
        return
    short, what = run["id"][:SHORT_ID], f"{run['fraise_id']}/{run['environment']} {run['job']}"
    if cancelled["status"] == "running":
        click.echo(f"Run {short} of {what} is being stopped: fraisier logs -f {short}")
    else:
        click.echo(f"Run {short} of {what} is {cancelled['status']}.")
