"""`fraisier status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fraisier.application.find_workers import FindWorkers
from fraisier.cli import tables
from fraisier.cli.options import environment_argument, fraise_argument, json_option
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session
from fraisier.domain.fraise import EnvironmentKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fraisier.application.find_workers import Lack
    from fraisier.application.ports import Row, Store

HEALTH = {None: "", True: "healthy", False: "unhealthy"}
COLUMNS = (
    tables.text("Fraise", "fraise_id"),
    tables.text("Environment", "environment"),
    tables.status("Status", "status"),
    tables.commit("Commit", "current_commit"),
    tables.text("Release", "current_release"),
    tables.status("Health", "health"),
    tables.moment("Last deployed", "last_deployed"),
    tables.text("Now", "now", flexible=True),
)


@click.command("status")
@fraise_argument(required=False)
@environment_argument(required=False)
@json_option
@click.pass_obj
def command(session: Session, fraise: str, environment: str, *, as_json: bool) -> None:
    """Show what runs in every environment, or in those of FRAISE, or in ENVIRONMENT.

    STATUS is what became of the newest deployment; COMMIT and RELEASE are what runs, also after a
    deployment that failed. NOW says so where a deployment waits and no worker lives that may take it, and
    where the newest deployment has left a database that was not taken back.

    \b
    Examples:
      fraisier status
      fraisier status api production
      fraisier status --json
    """
    keys = session.keys(fraise, environment)
    with session.store() as store:
        rows = store.fraise_status(fraise, environment)
        if as_json:
            print_rows(rows)
            return
        vain = FindWorkers(store).waiting_in_vain() if any(map(_is_open, rows)) else {}
        shown = [_shown(store, row, vain) for row in rows]
    present = {(row["fraise_id"], row["environment"]) for row in shown}
    missing = [key for key in keys if (key.fraise, key.environment) not in present]
    shown += [
        {"fraise_id": key.fraise, "environment": key.environment, "now": "never deployed"} for key in missing
    ]
    tables.print_table(Screen.of_stdout(), COLUMNS, shown)


def _is_open(row: Row) -> bool:
    return bool(row["running_deployment_id"] or row["pending"])


def _shown(store: Store, row: Row, vain: Mapping[EnvironmentKey, Lack]) -> dict[str, Any]:
    lack = vain.get(EnvironmentKey(row["fraise_id"], row["environment"]))
    now = _now(store, row)
    return {**row, "health": HEALTH[row["healthy"]], "now": f"{now}: {lack.reason}" if lack else now}


def _now(store: Store, row: Row) -> str:
    """What the environment is busy with, or what it waits for."""
    if row["running_deployment_id"]:
        steps = store.steps(row["running_deployment_id"])
        return str(steps[-1]["step"]) if steps else "begins"
    if row["pending"]:
        return f"{row['pending']} waiting"
    if row["paused"]:
        return "paused"
    return "never deployed" if row["status"] is None else _left(store, row)


def _left(store: Store, row: Row) -> str:
    """Where the newest deployment has left a database that it did not take back."""
    key = EnvironmentKey(row["fraise_id"], row["environment"])
    changes = store.database_changes(key, deployment=row["deployment_id"])
    if not changes or changes[-1]["kind"] != "left":
        return ""
    return f"the database stays at {changes[-1]['revision'] or 'a revision that is not told'}"
