"""A run, as `show` and `logs` print it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from fraisier.cli import times
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.tables import print_fields
from fraisier.cli.text import output_text, printable

if TYPE_CHECKING:
    from fraisier.application.ports import Row, Store

PAGE = 1000  # pieces
MIB = 1024 * 1024


def show_run(row: Row, *, as_json: bool) -> None:
    """Print the run's row."""
    if as_json:
        print_json(row)
        return
    screen = Screen.of_stdout()
    print_fields(screen, _fields(row, screen))


def _fields(row: Row, screen: Screen) -> list[tuple[str, str]]:
    def moment(key: str) -> str:
        if not screen.terminal or not row[key]:
            return row[key] or ""
        return f"{times.local(row[key])} ({times.ago(row[key], screen.now)})"

    def plain(value: object) -> str:
        return printable(str(value or ""), keep="\n").replace("\n", "\n" + " " * 14)

    peak = row["peak_memory_bytes"]
    return [
        ("Run", row["id"]),
        ("Environment", f"{row['fraise_id']}/{row['environment']}"),
        ("Job", row["job"]),
        ("Status", screen.status(row["status"])),
        ("Trigger", row["trigger"]),
        ("By", plain(row["requested_by"])),
        ("Try", f"{row['attempt']}" + (f" of {row['retry_of']}" if row["retry_of"] else "")),
        ("Parameters", plain("\n".join(f"{name}={value}" for name, value in row["parameters"].items()))),
        ("Release", row["release"]),
        ("Commit", row["commit"]),
        ("Host", row["host"]),
        ("Due", moment("due")),
        ("Requested", moment("requested_at")),
        ("Not before", moment("not_before") if row["status"] == "pending" else ""),
        ("Started", moment("started_at")),
        ("Ended", moment("ended_at")),
        ("Took", times.duration(times.between(row["started_at"], row["ended_at"], screen.now))),
        ("Exit code", "" if row["exit_code"] is None else str(row["exit_code"])),
        ("Peak memory", "" if peak is None else f"{peak / MIB:,.1f} MiB"),
        ("Artefacts", plain("\n".join(row["artefacts"]))),
        ("Detail", plain("\n".join(f"{name}: {value}" for name, value in row["detail"].items()))),
        ("Cancelled by", plain(row["cancel_requested_by"])),
        ("Cause", row["cause"] or ""),
        ("Error", plain(row["error_message"])),
        ("Hint", plain(row["hint"])),
    ]


def print_run_output(store: Store, row: Row, *, follow: bool, as_json: bool) -> None:
    """Print what it printed; with `follow` until it has ended."""
    if as_json:
        told = {"run": row["id"], "job": row["job"], "attempt": row["attempt"]}
        print_json([{**told, "text": text} for text in _pieces(store, row["id"], follow=follow)])
        return
    screen = Screen.of_stdout()
    at_line_start = True
    for piece in _pieces(store, row["id"], follow=follow):
        text = output_text(piece, colour=screen.colour)
        click.echo(text, nl=False, color=screen.colour)
        at_line_start = text.endswith("\n") if text else at_line_start
    click.echo("" if at_line_start else "\n", nl=False)


def _pieces(store: Store, run: str, *, follow: bool) -> Iterator[str]:
    if follow:
        from fraisier.application.follow_run import FollowRun

        for glimpse in FollowRun(store)(run):
            if glimpse.text:
                yield glimpse.text
        return
    after = 0
    while page := store.run_output(run, after=after, limit=PAGE):
        yield from (text for _, text in page)
        after = page[-1][0]
