"""`fraisier show`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fraisier.cli import times
from fraisier.cli.either import deployment_or_run
from fraisier.cli.options import json_option
from fraisier.cli.progress import MARKS, ended, step_name
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import Session
from fraisier.cli.show_run import show_run
from fraisier.cli.tables import print_fields
from fraisier.cli.text import printable
from fraisier.domain.fraise import EnvironmentKey

if TYPE_CHECKING:
    from fraisier.application.ports import Row, Store


@click.command("show")
@click.argument("wanted", metavar="ID")
@json_option
@click.pass_obj
def command(session: Session, wanted: str, *, as_json: bool) -> None:
    """Show the deployment with this ID (its beginning is enough), step by step, or the run of a job.

    With --json the row of the view, its steps under "steps", what was noted of the database under
    "database" and, where there are several, its environment's hosts under "hosts", as they stand now.

    \b
    Examples:
      fraisier show 0d9f3a51
    """
    with session.store() as store:
        row, run = deployment_or_run(store, wanted)
        if row is None:
            assert run is not None  # noqa: S101 - one of them is there
            show_run(run, as_json=as_json)
            return
        steps = store.steps(row["id"])
        hold = _hold(session, store, row)
        key = EnvironmentKey(row["fraise_id"], row["environment"])
        changes = store.database_changes(key, deployment=row["id"])
        hosts = store.hosts(row["fraise_id"], row["environment"]) if any(s["host"] for s in steps) else []
    if as_json:
        told = {"hosts": [dict(host) for host in hosts]} if hosts else {}
        print_json({**row, "steps": [dict(step) for step in steps], "database": changes, **told})
        return
    screen = Screen.of_stdout()
    waits = ("Waits", printable(hold))
    print_fields(screen, [*_fields(row, screen), waits, *_database(changes)])
    if steps:
        screen.say()
    for step in steps:
        lines = (
            [f"{MARKS['running']} {step_name(step)}"] if step["state"] == "running" else ended(step, screen)
        )
        for line in lines:
            screen.say(line)
    if hosts:
        screen.say()
        print_fields(screen, [(host["host"], _stands(host)) for host in hosts])


def _stands(host: Row) -> str:
    runs = f"{host['state']}, runs {host['release'] or 'nothing'}"
    return f"{runs}: {printable(host['detail'])}" if host["detail"] else runs


def _hold(session: Session, store: Store, row: Row) -> str:
    """Why it is not begun, where somebody wants it so."""
    if row["status"] != "pending":
        return ""
    from fraisier.application.find_holds import FindHolds

    hold = FindHolds(session.configuration.environments, store, time.time()).hold_of(row["id"])
    return hold.reason if hold is not None else ""


def _database(changes: Sequence[Row]) -> list[tuple[str, str]]:
    """Where the database was, and is; the newest note of each kind counts."""
    newest = {change["kind"]: change for change in changes}
    found = []
    if planned := newest.get("planned"):
        at, verdict = planned["revision"] or "not told", planned["detail"].get("verdict", "")
        found.append(("Database", f"was at {at}" + (f"; {verdict}" if verdict else "")))
        found.append(("Pending", ", ".join(each["name"] for each in planned["detail"].get("pending") or ())))
    if (dump := newest.get("backed_up")) and "path" in dump["detail"]:
        found.append(("Backup", f"{dump['detail']['path']} ({dump['detail']['bytes']:,} bytes)"))
    for kind, text in _NOTES.items():
        if note := newest.get(kind):
            why = note["detail"].get("reason", "")
            at = note["revision"] or "a revision that is not told"
            found.append(("Database", text.format(at=at) + (f": {why}" if why else "")))
    return [(name, printable(value)) for name, value in found]


_NOTES = {"migrated": "migrated to {at}", "taken_back": "taken back to {at}", "left": "stays at {at}"}


def _fields(row: Row, screen: Screen) -> list[tuple[str, str]]:
    def moment(key: str) -> str:
        if not screen.terminal or not row[key]:
            return row[key] or ""
        return f"{times.local(row[key])} ({times.ago(row[key], screen.now)})"

    def plain(key: str) -> str:
        return printable(row[key] or "", keep="\n").replace("\n", "\n" + " " * 14)

    took = times.between(row["started_at"], row["completed_at"], screen.now)
    return [
        ("Deployment", row["id"]),
        ("Environment", f"{row['fraise_id']}/{row['environment']}"),
        ("Status", screen.status(row["status"])),
        ("Commit", plain("commit")),
        ("Ref", plain("ref")),
        ("Trigger", row["trigger"]),
        ("By", plain("requested_by")),
        ("Requested", moment("requested_at")),
        ("Started", moment("started_at")),
        ("Completed", moment("completed_at")),
        ("Took", times.duration(took)),
        ("Next attempt", moment("not_before") if row["status"] == "pending" else ""),
        ("Release", row["release"]),
        ("Before it", row["previous_release"]),
        ("Webhook", row["event_id"] or ""),
        ("Cancelled by", plain("cancel_requested_by")),
        ("Cause", row["cause"] or ""),
        ("Error", plain("error_message")),
        ("Hint", plain("hint")),
    ]
