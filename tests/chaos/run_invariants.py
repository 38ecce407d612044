"""What must hold of runs and of backups, by the database, what scripts noted, and the folders of backups."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.run_site import RUN_FINAL, TRIES, BackupSite, notes_of
from tests.chaos.site import ChaosSite

if TYPE_CHECKING:
    from tests.chaos.invariants import Seen


def no_run_is_missing(seen: Seen) -> Iterator[str]:
    """Every run that was taken is there, and a time of a schedule was used once."""
    for run in seen.promises.runs - {row["id"] for row in seen.runs}:
        yield f"run {run} was taken and is not there"
    dues = [(row["job"], row["due"]) for row in seen.runs if row["due"] and row["attempt"] == 1]
    for due in sorted({each for each in dues if dues.count(each) > 1}):
        yield f"{due} was used {dues.count(due)} times"


def every_run_ended(seen: Seen) -> Iterator[str]:
    """And what was no success says why."""
    for row in seen.runs:
        if row["status"] not in RUN_FINAL or (row["started_at"] and not row["ended_at"]):
            yield f"run {row['id']} of {row['job']} is {row['status']}"
        elif row["status"] != "success" and not row["error_message"]:
            yield f"run {row['id']} of {row['job']} ended {row['status']} and does not say why"


def runs_are_what_scripts_did(seen: Seen) -> Iterator[str]:
    """A success is a script that came to its end; none is run twice by one run, beside another one of its job,
    or over a switch. The hook has run after the last try, again where its worker died in it or right after.
    """
    notes = notes_of(seen.site)
    for row in (row for row in seen.runs if row["kind"] == "command"):
        run, job = row["id"], row["job"]
        if row["status"] == "success" and (notes["ends", run] != 1 or row["exit_code"] != 0):
            yield f"run {run} of {job} is a success with exit code {row['exit_code']}, its script did not end"
        if row["cause"] == "run" and not row["exit_code"]:
            yield f"run {run} of {job} failed with exit code {row['exit_code']}"
        if job == "bad" and not _had_its_hooks(row, hooks := notes["hook", run]):
            yield f"after run {run} of {job}, try {row['attempt']} ({row['cause']}), the hook ran {hooks} times"
    for (what, run), times in notes.items():
        if what in ("overlaps", "switched") or (times > 1 and what != "hook"):
            yield f"the script of run {run} {what} ({times} times)"
    for run in {run for _, run in notes} - {row["id"] for row in seen.runs}:
        yield f"a script ran for run {run}, which is not there"


def _had_its_hooks(row: dict[str, Any], hooks: int) -> bool:
    """Whether it was followed by its hook as often as it should be."""
    if row["attempt"] < TRIES["bad"]:
        return hooks == 0
    return hooks >= 1 if row["cause"] == "interrupted" else hooks == 1


def tries_are_counted(seen: Seen) -> Iterator[str]:
    """Each try of a run is one, there are no more than the job has, and no fewer where they failed."""
    tries: dict[str, list[dict[str, Any]]] = {}
    for row in seen.runs:
        tries.setdefault(row["retry_of"] or row["id"], []).append(row)
    for first, rows in tries.items():
        job, last = rows[0]["job"], rows[-1]
        if [row["attempt"] for row in rows] != list(range(1, len(rows) + 1)):
            yield f"the tries of {first} ({job}) are {[row['attempt'] for row in rows]}"
        if len(rows) > TRIES.get(job, 1):
            yield f"{first} ({job}) was tried {len(rows)} times"
        if len(rows) < TRIES.get(job, 1) and last["cause"] in ("run", "interrupted"):
            yield f"{first} ({job}) was not tried again"


def tokens_of_runs_are_in_order(seen: Seen) -> Iterator[str]:
    """No job's part of the host has a higher token than the database gave out."""
    newest = int(seen.environment["run_token"])
    for token in (seen.own / "jobs").glob("*/.fraisier/token"):
        if int(token.read_text()) > newest:
            yield f"{token} is {int(token.read_text())}, the database has {newest}"


def backups_are_kept(seen: Seen) -> Iterator[str]:
    """What is listed as good is whole, also the newest that was ever verified; after a success nothing is half."""
    site = seen.site
    if not isinstance(site, BackupSite):
        return
    yield from torn_backups(site)
    verified = site.rows("SELECT name FROM tb_backups WHERE verified_at IS NOT NULL ORDER BY name")
    for place in site.places:
        if verified and not (site.kept_in(place) / verified[-1]["name"] / "manifest.json").exists():
            yield f"{verified[-1]['name']}, the last that was verified, is gone from {place}"
    made = [row for row in seen.runs if row["job"] == "main"]
    if made and made[-1]["status"] == "success":
        for place in site.places:
            query = "SELECT name FROM tb_backups WHERE state = 'unknown' AND destination = ?"
            unknown = {row["name"] for row in site.rows(query, place)}  # those nobody lets go before a look
            names = sorted({path.name for path in site.kept_in(place).iterdir()} - unknown)
            if any(name.startswith(".") for name in names) or len(names) > 2:
                yield f"{place} has {names}"
        if staged := [*(site.app / "backups" / "staging").glob("*@main@*")]:  # each job sees to its own
            yield f"{staged} was left"


def torn_backups(site: ChaosSite) -> Iterator[str]:
    """What is not whole, of what the folders show as backups and the database lists as good; whenever that is."""
    assert isinstance(site, BackupSite)
    listed = site.rows("SELECT * FROM tb_backups WHERE state = 'whole' AND pruned_at IS NULL")
    for place in site.places:
        there = {path.parent.name for path in site.kept_in(place).glob("[!.]*/manifest.json")}
        good = {row["name"]: row["manifest"] for row in listed if row["destination"] == place}
        yield from (f"{place} has no {name}, which is listed as whole" for name in good.keys() - there)
        for name in there:
            folder = site.kept_in(place) / name
            if wrong := _wrong_with(folder, good.get(name, "")):
                yield f"{name} in {place} is not whole: {wrong}"


def _wrong_with(folder: Path, digest: str) -> str:
    content = (folder / "manifest.json").read_bytes()
    if digest and sha256(content).hexdigest() != digest:
        return "its manifest is another"
    for each in json.loads(content)["artefacts"]:
        path = folder / each["file"]
        if not path.exists() or sha256(path.read_bytes()).hexdigest() != each["sha256"]:
            return f"{each['file']} is not what the manifest says"
    return ""


RUN_INVARIANTS: tuple[Callable[[Seen], Iterator[str]], ...] = (
    no_run_is_missing,
    every_run_ended,
    runs_are_what_scripts_did,
    tries_are_counted,
    tokens_of_runs_are_in_order,
    backups_are_kept,
)
