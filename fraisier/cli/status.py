"""`fraisier status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from fraisier.application.find_holds import FindHolds, paused_by
from fraisier.application.find_workers import FindWorkers
from fraisier.cli import tables, times
from fraisier.cli.options import environment_argument, fraise_argument, json_option, label_option
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session
from fraisier.domain.fraise import EnvironmentKey, FraiseType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fraisier.application.find_holds import Hold
    from fraisier.application.find_workers import Lack
    from fraisier.application.ports import Row, Store

HEALTH = {None: "", True: "healthy", False: "unhealthy"}
MOST_HOSTS = 20  # of one environment, that are all shown
COLUMNS = (
    tables.text("Fraise", "fraise_id"),
    tables.text("Environment", "environment"),
    tables.status("Status", "status"),
    tables.commit("Commit", "current_commit"),
    tables.text("Release", "current_release"),
    tables.status("Health", "health"),
    tables.moment("Last deployed", "last_deployed"),
    tables.status("Last run", "last_run_status"),
    tables.text("Now", "now", flexible=True),
)


@click.command("status")
@fraise_argument(required=False)
@environment_argument(required=False)
@click.option("--verify", is_flag=True, help="Compare each host with what the database says.")
@json_option
@label_option
@click.pass_obj
def command(session: Session, fraise: str, environment: str, *, verify: bool, as_json: bool) -> None:
    """Show what runs in every environment, or in those of FRAISE, or in ENVIRONMENT.

    STATUS is what became of the newest deployment; COMMIT and RELEASE are what runs, also after a
    deployment that failed. NOW says what a deployment waits for: a worker that lives and may take it, the end
    of a pause, a time that is allowed; and where the newest deployment has left a database that was not
    taken back. An environment with several hosts has a line for each: where it stands (current, behind,
    unreachable, broken, or on its way), and what it runs; of one that cannot be reached, what was last known.

    --verify looks at the hosts: where `current` points, whether the release is there and whole, from which
    release the unit was started, whose the folder is. It changes nothing, and says for each difference which
    command heals it. Exit status 1 if there is one, else 4 if a host could not be looked at.

    \b
    Examples:
      fraisier status
      fraisier status api production
      fraisier status --json
      fraisier status --verify api production
    """
    keys = session.keys(fraise, environment)
    if verify:
        from fraisier.cli.verify import verify_and_exit

        verify_and_exit(session, keys, as_json=as_json)
        return
    with session.store() as store:
        rows = store.fraise_status(fraise, environment)
        holds = FindHolds(session.configuration.environments, store, time.time())
        hosts = by_environment(store.hosts(fraise, environment))
        if as_json:
            print_rows([{**_with_hold(row, holds), "hosts": hosts.get(_place(row), [])} for row in rows])
            return
        is_any_open = any(map(_is_open, rows))
        vain = FindWorkers(store).waiting_in_vain() if is_any_open else {}
        held = holds.waiting() if is_any_open else {}
        shown = [_shown(store, row, vain, held) for row in rows]
    present = {(row["fraise_id"], row["environment"]) for row in shown}
    missing = [key for key in keys if (key.fraise, key.environment) not in present]
    shown += [
        {"fraise_id": key.fraise, "environment": key.environment, "now": "never deployed"} for key in missing
    ]
    is_any_run = any(row.get("last_run") for row in shown)
    columns = COLUMNS if is_any_run else [column for column in COLUMNS if column.title != "Last run"]
    lines = [line for row in shown for line in (row, *_host_lines(hosts.get(_place(row), [])))]
    tables.print_table(Screen.of_stdout(), columns, lines)


def _place(row: Row) -> tuple[str, str]:
    return row["fraise_id"], row["environment"]


def by_environment(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows of v_environment_hosts, each with those of the same environment."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault(_place(row), []).append(row)
    return found


def _host_lines(hosts: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each host, if there are several; of many, those that are as they should be are counted."""
    if len(hosts) == 1:
        return []
    named = [host for host in hosts if len(hosts) <= MOST_HOSTS or host["state"] != "current"]
    lines = [_host_line(host) for host in named]
    if others := len(hosts) - len(named):
        lines.append({"environment": f"  {others} hosts", "status": "current"})
    return lines


def _host_line(host: Row) -> dict[str, Any]:
    return {
        "environment": f"  {host['host']}",
        "status": host["state"],
        "current_commit": host["commit"],
        "current_release": host["release"],
        "health": HEALTH[host["healthy"]],
        "last_deployed": host["since"],
        "now": host["detail"],
    }


def _is_open(row: Row) -> bool:
    return bool(row["running_deployment_id"] or row["pending"])


def _with_hold(row: Row, holds: FindHolds) -> dict[str, Any]:
    """The view's row, and why nothing begins by itself in the environment, where that is so."""
    hold = holds.hold_of_row(_key(row), row)
    return {
        **row,
        "held_because": hold.reason if hold else None,
        "held_until": times.iso(hold.until) if hold else None,
    }


def _key(row: Row) -> EnvironmentKey:
    return EnvironmentKey(row["fraise_id"], row["environment"])


def _shown(
    store: Store, row: Row, vain: Mapping[EnvironmentKey, Lack], held: Mapping[EnvironmentKey, Hold]
) -> dict[str, Any]:
    now = [_busy(store, row)]
    if row["paused"]:
        now.append(paused_by(row).removeprefix(f"{_key(row)} is "))
    elif (hold := held.get(_key(row))) is not None:
        now.append(hold.reason.removeprefix(f"{_key(row)} is "))
    elif (lack := vain.get(_key(row))) is not None:
        now.append(lack.reason)
    told = [": ".join(filter(None, now)), *_alerts(store, row)]
    return {**row, "health": HEALTH[row["healthy"]], "now": "; ".join(filter(None, told))}


def _alerts(store: Store, row: Row) -> list[str]:
    """What a person should look at."""
    if not row["alerts"]:
        return []
    return [_of_its_job(each) for each in store.alerts(row["fraise_id"], row["environment"])]


def _of_its_job(alert: Row) -> str:
    message = str(alert["message"])
    return message if message.startswith(alert["job"]) else f"{alert['job']}: {message}"


def _busy(store: Store, row: Row) -> str:
    """What the environment is busy with, or how much waits."""
    if row["running_deployment_id"]:
        steps = store.steps(row["running_deployment_id"])
        return str(steps[-1]["step"]) if steps else "begins"
    if row["pending"]:
        return f"{row['pending']} waiting"
    if row["status"] is None:
        never = "never run" if row["type"] == FraiseType.backup else "never deployed"
        return "" if row["paused"] or row["last_run"] else never
    return _left(store, row)


def _left(store: Store, row: Row) -> str:
    """Where the newest deployment has left a database that it did not take back."""
    key = EnvironmentKey(row["fraise_id"], row["environment"])
    changes = store.database_changes(key, deployment=row["deployment_id"])
    if not changes or changes[-1]["kind"] != "left":
        return ""
    return f"the database stays at {changes[-1]['revision'] or 'a revision that is not told'}"
