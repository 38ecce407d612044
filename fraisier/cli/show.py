"""`fraisier show`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from fraisier.cli import times
from fraisier.cli.options import json_option
from fraisier.cli.progress import MARKS, ended, step_name
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import Session
from fraisier.cli.tables import print_fields
from fraisier.cli.text import printable

if TYPE_CHECKING:
    from fraisier.application.ports import Row, Store


@click.command("show")
@click.argument("deployment", metavar="ID")
@json_option
@click.pass_obj
def command(session: Session, deployment: str, *, as_json: bool) -> None:
    """Show the deployment with this ID (its beginning is enough), step by step.

    With --json the row of the view, and its steps under "steps".

    \b
    Examples:
      fraisier show 0d9f3a51
    """
    with session.store() as store:
        row = store.deployment(deployment)
        steps = store.steps(row["id"])
        hold = _hold(session, store, row)
    if as_json:
        print_json({**row, "steps": [dict(step) for step in steps]})
        return
    screen = Screen.of_stdout()
    print_fields(screen, [*_fields(row, screen), ("Waits", printable(hold))])
    if steps:
        screen.say()
    for step in steps:
        lines = (
            [f"{MARKS['running']} {step_name(step)}"] if step["state"] == "running" else ended(step, screen)
        )
        for line in lines:
            screen.say(line)


def _hold(session: Session, store: Store, row: Row) -> str:
    """Why it is not begun, where somebody wants it so."""
    if row["status"] != "pending":
        return ""
    from fraisier.application.find_holds import FindHolds

    hold = FindHolds(session.configuration.environments, store, time.time()).hold_of(row["id"])
    return hold.reason if hold is not None else ""


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
