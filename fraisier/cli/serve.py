"""`fraisier serve`."""

from __future__ import annotations

import click

from fraisier.cli.options import label_option
from fraisier.cli.session import Session, refuse_strangers


@click.command("serve")
@click.option("--host", default=None, metavar="ADDRESS", help="Listen here instead of `server.host`.")
@click.option("--port", default=None, type=click.IntRange(0, 65535), help="Instead of `server.port`.")
@label_option
@click.pass_obj
def command(session: Session, host: str | None, port: int | None) -> None:
    """Receive webhooks and perform deployments, until told to stop.

    SIGTERM and Ctrl-C finish the running step (within `shutdown_grace`); SIGHUP reads the configuration
    again. --label: see `fraisier worker`.

    \b
    Examples:
      fraisier serve
      fraisier serve --port 9000
    """
    from fraisier.cli.serving import run_server

    refuse_strangers(session.configuration.settings)
    run_server(session.configuration, host=host, port=port)
