"""`fraisier runs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from fraisier.cli import tables
from fraisier.cli.options import environment_argument, fraise_argument, json_option, not_empty
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session
from fraisier.domain.run import RunStatus

COLUMNS = (
    tables.ident("Id", "id"),
    tables.text("Fraise", "fraise_id"),
    tables.text("Environment", "environment"),
    tables.text("Job", "job"),
    tables.status("Status", "status"),
    tables.text("Trigger", "trigger", spare=True),
    tables.text("Try", "attempt", spare=True),
    tables.text("Release", "release", spare=True),
    tables.moment("Requested", "requested_at"),
    tables.elapsed("Took", "started_at", "ended_at"),
    tables.text("Why", "error_message", flexible=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The command line of `runs`."""

    fraise: str
    environment: str
    job: str
    status: str | None
    limit: int
    offset: int
    as_json: bool


@click.command("runs")
@fraise_argument(required=False)
@environment_argument(required=False)
@click.option("--job", default="", callback=not_empty, metavar="NAME", help="Only those of this job.")
@click.option(
    "--status", type=click.Choice([each.value for each in RunStatus]), help="Only those of this status."
)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Leave out so many of the newest.")
@json_option
@click.pass_obj
def command(session: Session, /, **options: Any) -> None:
    """List runs of jobs, newest first: all, or those of FRAISE, or of ENVIRONMENT.

    A try that failed is a run, the next try another one. `skipped` are those that were due while another one
    was under way, `missed` those that were due while nobody was there.

    \b
    Examples:
      fraisier runs
      fraisier runs nightly production --status failed
      fraisier runs reports production --job weekly --json
    """
    wanted = Wanted(**options)
    with session.store() as store:
        rows = store.runs(
            wanted.fraise,
            wanted.environment,
            job=wanted.job,
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
        Screen.of_stdout().note("There are no such runs.")
