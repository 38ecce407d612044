"""`fraisier stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fraisier.cli import tables, times
from fraisier.cli.options import environment_argument, fraise_argument, json_option
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session

if TYPE_CHECKING:
    from fraisier.application.ports import Row

BAR = 10  # columns


@click.command("stats")
@fraise_argument(required=False)
@environment_argument(required=False)
@click.option("--days", type=click.IntRange(1, 36500), default=30, show_default=True, help="How far back.")
@json_option
@click.pass_obj
def command(session: Session, fraise: str, environment: str, *, days: int, as_json: bool) -> None:
    """Count the deployments of each environment: how many, how they ended, how long they took.

    The success rate leaves out what was cancelled or superseded.

    \b
    Examples:
      fraisier stats
      fraisier stats api --days 365 --json
    """
    with session.store() as store:
        rows = store.stats(fraise, environment, days=days)
    if not rows:
        session.keys(fraise, environment)
    if as_json:
        print_rows(rows)
    elif rows:
        tables.print_table(Screen.of_stdout(), COLUMNS, rows)
    else:
        Screen.of_stdout().note(f"There were no deployments in the last {days} days.")


def _rate(row: Row, screen: Screen) -> str:
    rate = row["success_rate"]
    if rate is None:
        return ""
    percent = f"{rate * 100:.0f} %"
    if not screen.terminal:
        return percent
    filled = round(rate * BAR)
    return f"{'█' * filled}{'░' * (BAR - filled)} {percent}"


def _average(row: Row, _screen: Screen) -> str:
    return times.duration(row["average_duration_seconds"])


def _count(title: str, key: str, *, spare: bool = False) -> tables.Column:
    return tables.Column(title, lambda row, _: str(row[key]), right=True, spare=spare)


COLUMNS = (
    tables.text("Fraise", "fraise_id"),
    tables.text("Environment", "environment"),
    _count("Total", "total"),
    _count("Success", "succeeded"),
    _count("Failed", "failed"),
    _count("Rolled back", "rolled_back"),
    _count("Rollback failed", "rollback_failed"),
    _count("Cancelled", "cancelled", spare=True),
    _count("Superseded", "superseded", spare=True),
    tables.Column("Rate", _rate),
    tables.Column("Average", _average, right=True, spare=True),
)
