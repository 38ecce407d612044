"""`fraisier alerts`."""

from __future__ import annotations

import click

from fraisier.cli import tables
from fraisier.cli.options import environment_argument, fraise_argument, json_option
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session, asker
from fraisier.domain.run import AlertKind

COLUMNS = (
    tables.text("Fraise", "fraise_id"),
    tables.text("Environment", "environment"),
    tables.text("Job", "job"),
    tables.text("Kind", "kind"),
    tables.moment("Raised", "raised_at"),
    tables.text("What", "message", flexible=True),
    tables.text("What to do", "hint", flexible=True, spare=True),
)
CLEARED = (
    *COLUMNS[:5],
    tables.moment("Cleared", "cleared_at"),
    tables.text("By", "cleared_by"),
    *COLUMNS[5:],
)


@click.command("alerts")
@fraise_argument(required=False)
@environment_argument(required=False)
@click.option("--all", "everything", is_flag=True, help="Also those that were cleared.")
@click.option("--clear", is_flag=True, help="End those that stand for ENVIRONMENT, as seen to.")
@json_option
@click.pass_obj
def command(
    session: Session, fraise: str, environment: str, *, everything: bool, clear: bool, as_json: bool
) -> None:
    """List what a person should look at, newest first: everywhere, or in FRAISE, or in ENVIRONMENT.

    An alert stands where a run failed after its last try, began later than its `grace`, or never began,
    and where a backup is damaged or was not verified for too long. While one stands, `status` shows its
    environment as unhealthy. The next good run ends it; --clear does by hand, and it is not raised again for
    the same run.

    \b
    Examples:
      fraisier alerts
      fraisier alerts nightly production --json
      fraisier alerts nightly production --clear
    """
    if clear and not environment:
        raise click.UsageError("--clear needs FRAISE and ENVIRONMENT: it is about one of them at a time.")
    if clear:
        _clear(session, fraise, environment)
    with session.store() as store:
        rows = store.alerts(fraise, environment, standing=not everything)
    if as_json:
        print_rows(rows)
    elif rows:
        tables.print_table(Screen.of_stdout(), CLEARED if everything else COLUMNS, rows)
    else:
        Screen.of_stdout().note("No alert was ever raised." if everything else "No alert stands.")


def _clear(session: Session, fraise: str, environment: str) -> None:
    key = session.key(fraise, environment)
    with session.fraisier() as fraisier:
        jobs = {row["job"] for row in fraisier.store.alerts(fraise, environment)}
        for job in sorted(jobs):
            fraisier.store.clear_alert(key, job, list(AlertKind), by=asker())
