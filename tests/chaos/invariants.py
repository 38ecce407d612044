"""What must hold after anything that happened to a site, looked at from outside.

Nothing here calls Fraisier: the database is read by its driver, the host by its files and its process table,
the service by asking it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.chaos.run_invariants import RUN_INVARIANTS
from tests.chaos.site import FINAL, KEEP, ChaosSite
from tests.integration.outside import processes_below

Row = dict[str, Any]
_PATIENCE = 10.0  # seconds that a process gets to end, a lock to be let go, a restarted service to answer


@dataclass
class Promises:
    """What Fraisier answered to those who asked for something: the 202 of a webhook, a request that was taken.

    `events` are ids of events, `commits` ids of deployments with the commit that was asked for ('' = any),
    `runs` ids of runs.
    """

    events: set[str] = field(default_factory=set)
    commits: dict[str, str] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)

    def accepted(self, answer: Any) -> None:
        """Note the body of a webhook's 202."""
        self.events.add(answer["event_id"])
        for each in answer["deployments"]:
            self.commits[each["id"]] = each["commit"]

    def requested(self, deployment: str, commit: str = "") -> None:
        """Note a deployment that somebody asked for otherwise."""
        self.commits[deployment] = commit

    def ran(self, run: str) -> None:
        """Note a run that somebody asked for."""
        self.runs.add(run)


class Seen:
    """One look at a site: its tables, read once."""

    def __init__(self, site: ChaosSite, promises: Promises) -> None:
        self.site, self.promises = site, promises
        self.events = {row["id"]: row for row in site.rows("SELECT id, verdict FROM tb_webhook_events")}
        self.deployments = site.deployments()
        self.attempts = site.rows("SELECT * FROM tb_deployment_attempts ORDER BY token, pk")
        self.steps = site.rows("SELECT * FROM tb_deployment_steps ORDER BY pk")
        self.runs = site.rows("SELECT * FROM tb_runs ORDER BY pk")
        (self.environment,) = site.rows("SELECT * FROM tb_environments")
        self.own = site.app / ".fraisier"

    @property
    def current(self) -> str:
        """The name that `current` leads to; '' where there is no such link."""
        link = self.site.app / "current"
        return link.readlink().name if link.is_symlink() else ""

    def marker(self, release: str) -> Row:
        """What says that a release is whole; {} where nothing does."""
        path = self.own / "releases" / f"{release}.json"
        return json.loads(path.read_text()) if release and path.exists() else {}


def nothing_accepted_is_missing(seen: Seen) -> Iterator[str]:
    """Every 202 has its event and its deployments, and they are about the commit that was accepted."""
    known = {row["id"]: row for row in seen.deployments}
    for event in seen.promises.events - set(seen.events):
        yield f"event {event} was accepted and is not there"
    for deployment, commit in seen.promises.commits.items():
        if deployment not in known:
            yield f"deployment {deployment} was accepted and is not there"
        elif commit and known[deployment]["commit"] != commit:
            yield f"deployment {deployment} is about {known[deployment]['commit']}, asked for was {commit}"
    for row in seen.deployments:
        if row["event"] and row["event"] not in seen.events:
            yield f"deployment {row['id']} has lost its event"


def everything_ended(seen: Seen) -> Iterator[str]:
    """Every deployment, attempt and step has ended, and what went wrong says why."""
    for row in seen.deployments:
        if row["status"] not in FINAL or not row["completed_at"]:
            yield f"deployment {row['id']} is {row['status']}"
        elif row["status"] != "success" and not (row["cause"] and row["error_message"]):
            yield f"deployment {row['id']} ended {row['status']} and does not say why"
    for row in seen.attempts:
        if not row["ended_at"] or not row["outcome"]:
            yield f"attempt {row['number']} of {row['deployment']} (token {row['token']}) has not ended"
    for row in seen.steps:
        if row["state"] == "running" or not row["ended_at"]:
            yield f"step {row['step']} of {row['deployment']} has not ended"


def one_at_a_time(seen: Seen) -> Iterator[str]:
    """A token is one attempt's, and an attempt, with all of its steps, is over before the next one begins."""
    for before, after in pairwise(seen.attempts):
        if before["token"] == after["token"]:
            yield f"two attempts have token {after['token']}"
        if (before["ended_at"] or "9") > after["started_at"]:
            yield f"the attempts with tokens {before['token']} and {after['token']} overlap"
    tokens = {(row["deployment"], row["number"]): row["token"] for row in seen.attempts}
    order = [tokens.get((row["deployment"], row["attempt"]), 0) for row in seen.steps]
    if order != sorted(order):
        yield f"steps of older attempts began after those of newer ones: tokens {order}"
    for first, second in pairwise(seen.steps):
        if (first["ended_at"] or "9") > second["started_at"]:
            yield f"steps {first['step']} ({first['pk']}) and {second['step']} ({second['pk']}) overlap"


def current_is_whole(seen: Seen) -> Iterator[str]:
    """`current` leads to a release that was built once and marked, or there is none."""
    link, name = seen.site.app / "current", seen.current
    if not name:
        if os.path.lexists(link):
            yield "current is no link"
        return
    if not link.is_dir():
        yield f"current leads to {name}, which is not there"
        return
    if not seen.marker(name):
        yield f"current leads to {name}, which has no marker"
    built = link / "built"
    if not built.exists() or built.read_text() != "built\n":
        yield f"current leads to {name}, which was not built exactly once"


def what_runs_is_what_the_database_says(seen: Seen) -> Iterator[str]:
    """`current`, its marker, its files and the service are of the release and commit in v_fraise_status."""
    (status,) = seen.site.rows("SELECT current_release, current_commit, healthy FROM v_fraise_status")
    release, commit = status["current_release"], status["current_commit"]
    if seen.current != release:
        yield f"current leads to {seen.current or 'nothing'}, the database says {release or 'nothing'}"
        return
    if not release:
        return
    if seen.marker(release).get("commit") != commit:
        yield f"release {release} was made from {seen.marker(release).get('commit')}, not from {commit}"
    wanted = seen.site.version_of(commit)
    if seen.site.version != wanted:
        yield f"current holds version {seen.site.version!r}, commit {commit[:10]} is {wanted!r}"
    if seen.site.supervised and status["healthy"]:
        answer = _soon(seen.site.answer, lambda answer: answer == (200, wanted))
        if answer != (200, wanted):
            yield f"the service answers {answer}, commit {commit[:10]} is {wanted!r}"


def nothing_is_done_twice(seen: Seen) -> Iterator[str]:
    """A deployment migrates up once and down once at most, and down only after up: by the commands' notes."""
    owner = {row["release"]: row["deployment"] for row in seen.steps if row["step"] == "migrate"}
    notes = seen.site.folder / "migrations"
    lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    done = [(owner.get(release, f"nobody ({release})"), way) for way, release in lines]
    for (deployment, way), times in Counter(done).items():
        if times > 1:
            yield f"{deployment} migrated {way} {times} times"
        if way == "down" and ("up", deployment) not in [(w, d) for d, w in done]:
            yield f"{deployment} migrated down and never up"
    for release in (seen.site.app / "releases").glob("*/built"):
        if release.read_text() != "built\n":
            yield f"release {release.parent.name} was built more than once"


def nobody_else_is_at_work(seen: Seen) -> Iterator[str]:
    """No process of a command is left, and no scope is recorded."""

    def left() -> list[str]:
        return [line for line in processes_below(seen.site.app) if "service.py" not in line]

    if found := _soon(left, lambda found: not found):
        yield f"still runs: {found}"
    if names := sorted(path.name for scopes in seen.own.rglob("scopes") for path in scopes.iterdir()):
        yield f"scopes are recorded that do not run: {names}"


def tokens_are_in_order(seen: Seen) -> Iterator[str]:
    """The host never has a higher token than the database, nor an attempt one that was not given out."""
    token = seen.own / "token"
    newest = int(seen.environment["token"])
    if token.exists() and int(token.read_text()) > newest:
        yield f"the host has token {int(token.read_text())}, the database only {newest}"
    if seen.attempts and seen.attempts[-1]["token"] > newest:
        yield f"an attempt has token {seen.attempts[-1]['token']}, the environment only {newest}"


def nothing_is_locked(seen: Seen) -> Iterator[str]:
    """Nobody holds a lease, nor a lock on the host, and git has left none in the mirror."""
    if seen.environment["lease_worker"]:
        yield f"{seen.environment['lease_worker']} holds the environment"
    mirrors = seen.site.folder / "state" / "mirrors"
    for lock in (*seen.site.locks(), *mirrors.glob("*.lock")):
        if not _soon(lambda lock=lock: is_free(lock), bool):
            yield f"{lock} is held"
    if locks := _soon(lambda: list(mirrors.glob("*/**/*.lock")), lambda found: not found):
        yield f"git left {locks}"


def tidy(seen: Seen) -> Iterator[str]:
    """After a success: each release has its marker and each marker its release, and there are not too many."""
    if not seen.deployments or seen.deployments[-1]["status"] != "success":
        return
    folders = {path.name for path in (seen.site.app / "releases").iterdir()}
    markers = {path.stem for path in (seen.own / "releases").iterdir() if path.suffix == ".json"}
    if folders != markers:
        yield f"there are releases {sorted(folders)} and markers {sorted(markers)}"
    if len(folders) > KEEP + 1:
        yield f"{len(folders)} releases were kept"
    halves = [path for path in (*seen.site.app.glob(".*.new"), *seen.own.rglob(".*")) if path.is_file()]
    if halves:
        yield f"left half written: {[str(path) for path in halves]}"


INVARIANTS: tuple[Callable[[Seen], Iterator[str]], ...] = (
    nothing_accepted_is_missing,
    everything_ended,
    one_at_a_time,
    current_is_whole,
    what_runs_is_what_the_database_says,
    nothing_is_done_twice,
    nobody_else_is_at_work,
    tokens_are_in_order,
    nothing_is_locked,
    tidy,
)


def violations(site: ChaosSite, promises: Promises, *, without: Collection[str] = ()) -> list[str]:
    """What does not hold, a line each: `name of the invariant: what was found`. [] = all is well.

    Look when every deployment has ended (`site.settles()`). `without` are names of invariants that a scenario
    makes void, `one_at_a_time` where it sets the clock back.
    """
    seen = Seen(site, promises)
    checks = [check for check in (*INVARIANTS, *RUN_INVARIANTS) if check.__name__ not in without]
    return [f"{check.__name__}: {found}" for check in checks for found in check(seen)]


def is_free(lock: Path) -> bool:
    """Whether nobody holds this flock(2)."""
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _soon(look: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    """What `look` finds as soon as that is good, at the latest after a few seconds."""
    deadline = time.monotonic() + _PATIENCE
    while not good(found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found
