"""`fraisier history`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from fraisier.cli import tables
from fraisier.cli.options import environment_argument, fraise_argument, json_option
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session
from fraisier.domain.deployment import Status

COLUMNS = (
    tables.ident("Id", "id"),
    tables.text("Fraise", "fraise_id"),
    tables.text("Environment", "environment"),
    tables.status("Status", "status"),
    tables.commit("Commit", "commit"),
    tables.ref("Ref", "ref"),
    tables.text("Trigger", "trigger", spare=True),
    tables.text("By", "requested_by", flexible=True, spare=True),
    tables.moment("Requested", "requested_at"),
    tables.elapsed("Took", "started_at", "completed_at"),
    tables.text("Why", "error_message", flexible=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The command line of `history`."""

    fraise: str
    environment: str
    status: str | None
    limit: int
    offset: int
    as_json: bool


@click.command("history")
@fraise_argument(required=False)
@environment_argument(required=False)
@click.option(
    "--status", type=click.Choice([each.value for each in Status]), help="Only those of this status."
)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Leave out so many of the newest.")
@json_option
@click.pass_obj
def command(session: Session, /, **options: Any) -> None:
    """List deployments, newest first: all, or those of FRAISE, or of ENVIRONMENT.

    \b
    Examples:
      fraisier history
      fraisier history api production --status failed
      fraisier history -n 100 --json
    """
    wanted = Wanted(**options)
    with session.store() as store:
        rows = store.history(
            wanted.fraise,
            wanted.environment,
            status=wanted.status or "",
            limit=wanted.limit,
            offset=wanted.offset,
        )
    if not rows:
        session.keys(wanted.fraise, wanted.environment)  # what left the configuration keeps its history
    if wanted.as_json:
        print_rows(rows)
    elif rows:
        tables.print_table(Screen.of_stdout(), COLUMNS, rows)
    else:
        Screen.of_stdout().note("There are no such deployments.")
