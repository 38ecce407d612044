"""`fraisier webhooks`."""

from __future__ import annotations

import click

from fraisier.cli import tables
from fraisier.cli.options import json_option
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session

COLUMNS = (
    tables.ident("Id", "id"),
    tables.moment("Received", "received_at"),
    tables.text("Forge", "forge"),
    tables.text("Type", "type", spare=True),
    tables.text("Repository", "repository", flexible=True),
    tables.ref("Ref", "ref"),
    tables.commit("After", "after"),
    tables.text("Sender", "sender", flexible=True, spare=True),
    tables.status("Verdict", "verdict"),
    tables.text("Reason", "reason", flexible=True),
)


@click.command("webhooks")
@click.option(
    "--verdict", type=click.Choice(["accepted", "ignored", "pong"]), help="Only those of this verdict."
)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@json_option
@click.pass_obj
def command(session: Session, *, verdict: str | None, limit: int, as_json: bool) -> None:
    """List the authentic webhooks that were received, newest first, and what became of them.

    \b
    Examples:
      fraisier webhooks
      fraisier webhooks --verdict ignored           why did nothing happen?
    """
    with session.store() as store:
        rows = store.events(limit=limit, verdict=verdict or "")
    if as_json:
        print_rows(rows)
    elif rows:
        tables.print_table(Screen.of_stdout(), COLUMNS, rows)
    else:
        Screen.of_stdout().note("No webhook was received yet.")
