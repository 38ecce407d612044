"""A rollout over played hosts, struck at every single moment: `python -m tests.chaos.fleet` plays them all.

A moment is before or after a call of the store, or of a host. The worker is killed there, or it stops while
another one takes over, and goes on when that one is done. In the end all is as if nothing had happened.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraisier.application.control import Control
from fraisier.domain.deployment import Trigger
from fraisier.domain.fraise import Database
from fraisier.domain.rollout import Rollout
from tests.factories import SHA_A, SHA_B
from tests.fleet import Death, Fate, Fleet
from tests.fleet_database import SharedDatabase

KINDS = ("kill", "takeover")
MEMORY = "/dev/shm"
Outcome = tuple[Any, ...]
PAIRS = Rollout(batch=2)


@dataclass(frozen=True)
class Story:
    """`setting` is what the hosts are like when the deployment begins."""

    name: str
    ends: str  # the status, where nothing strikes
    rollout: Rollout = PAIRS
    before: bool = True
    setting: Callable[[Fleet], Any] = lambda _: None
    migrates: bool = False
    tells: bool = False  # the database says where it is
    heals: bool = False
    beside: bool = False  # releases run side by side
    size: int = 3


def _sick(number: int) -> Callable[[Fleet], None]:
    return lambda fleet: fleet[number].unhealthy.add("b")


def _away(number: int) -> Callable[[Fleet], None]:
    return lambda fleet: setattr(fleet[number], "away", True)


def _lost_with_the_new_release(fleet: Fleet) -> None:
    fleet[1].lost_with = {"b"}


def _was_away(fleet: Fleet) -> None:
    fleet[3].away = True
    fleet.deploy(SHA_B)
    fleet[3].away = False


STORIES = (
    Story("good", "success"),
    Story("sick", "rolled_back", setting=_sick(2)),
    Story("one is allowed to be sick", "success", Rollout(batch=2, max_failures=1), setting=_sick(3)),
    Story("one is allowed to be away", "success", Rollout(batch=2, max_failures=1), setting=_away(2)),
    Story("first", "success", before=False),
    Story("first and sick", "failed", before=False, setting=_sick(3)),
    Story("migrates and is sick", "rolled_back", setting=_sick(3), migrates=True),
    Story("migrates by revisions", "success", tells=True),
    Story("migrates by revisions and is sick", "rolled_back", setting=_sick(3), tells=True),
    Story("beside", "success", beside=True),
    Story("beside and sick at once", "failed", setting=_sick(1), beside=True),
    Story("beside and sick", "rolled_back", setting=_sick(2), beside=True),
    Story(
        "beside, migrates by revisions and is sick at once",
        "failed",
        setting=_sick(1),
        beside=True,
        tells=True,
    ),
    Story("beside, and its first host is lost", "pending", setting=_lost_with_the_new_release, beside=True),
    Story("heals", "success", Rollout(batch=2, max_failures=1), setting=_was_away, heals=True),
)


def stage(story: Story, folder: Path) -> Fleet:
    """The fleet as it is when the story begins, its deployment requested."""
    fleet = Fleet(folder, size=story.size, rollout=story.rollout, at_once=1, beside=story.beside)
    for sha in (SHA_A, SHA_B):
        fleet.repository.commit(sha)
    database = SharedDatabase(fleet) if story.tells else None
    if story.before:
        fleet.deploy(SHA_A)
    if database is not None:
        database.wanted = ["1", "2", "3"]
    if story.migrates:
        fleet.configure(database=Database(up="migrate up", down="migrate down"))
    story.setting(fleet)
    if story.heals:
        fleet.wish("", trigger=Trigger.heal)
    else:
        fleet.wish(SHA_B)
    return fleet


def outcome(fleet: Fleet) -> Outcome:
    """What is left of the last deployment: how it ended, what runs, what is said of each host."""
    (row,) = fleet.store.history(limit=1)
    migrated = [line for host in fleet.hosts.values() for line in map(_migration, host.commands) if line]
    said = [(each["host"], each["state"], each["commit"], each["healthy"]) for each in fleet.store.hosts()]
    # By the commit: who is lost at the start of a release that was never noted has another number.
    idle = tuple(unit.partition("-")[2][:1] for host in fleet.hosts.values() for unit in host.idle)
    runs = (*fleet.runs, *idle)
    return row["status"], row["cause"], runs, tuple(said), (*migrated, *fleet.applied)


def _migration(command: Any) -> str:
    return command.argv[2] if len(command.argv) > 2 and command.argv[2].startswith("migrate") else ""


def as_planned(story: Story, folder: Path) -> tuple[Outcome, int]:
    """How it ends where nothing strikes, and how many moments that takes."""
    fleet = stage(story, folder)
    fleet.fate.passed = 0
    fleet.perform()
    ended, moments = outcome(fleet), fleet.fate.passed
    fleet.close()
    return ended, moments


def play(story: Story, kind: str, moment: int, folder: Path) -> Outcome:
    """The same, struck at one moment."""
    fleet = stage(story, folder)
    first = Fate(moment, pauses=kind == "takeover")
    claim = fleet.claim()
    left: list[BaseException] = []

    def begin() -> None:
        try:
            fleet.run_of(first)(claim, Control())
        except BaseException as error:  # noqa: BLE001 - Death is none of them
            left.append(error)
            first.struck.set()
        else:
            first.struck.set()

    threading.excepthook = _unless_dead
    thread = threading.Thread(target=begin)
    thread.start()
    assert first.struck.wait(60)
    if kind == "kill":
        thread.join()
        assert not [error for error in left if not isinstance(error, Death)], left
    if fleet.store.deployment(claim.deployment.id)["status"] == "running":
        fleet.store.register_worker("w2", info={})
        fleet.store.retire_worker("w")
        fleet.run_of(Fate())(fleet.claim("w2"), Control())
    ended, host_sides = outcome(fleet), fleet.sides()
    first.goes_on.set()
    thread.join()
    assert (outcome(fleet), fleet.sides()) == (ended, host_sides), "who woke up changed something"
    fleet.close()
    return ended


def _unless_dead(hook: threading.ExceptHookArgs) -> None:
    """Timers of a worker that was killed have nobody to tell."""
    if hook.exc_type is not Death:
        threading.__excepthook__(hook)


def allowed(story: Story, ended: Outcome) -> Iterator[Outcome]:
    """A migration that was cut is never repeated: nothing else may come of a moment."""
    yield ended
    if story.migrates:
        yield "failed", "migration_interrupted", ("a", "a", "a"), ended[3], ended[4][:1]
        yield "failed", "migration_interrupted", ("a", "a", "a"), ended[3], ()
        yield "rollback_failed", ended[1], *ended[2:]
        yield "rollback_failed", *ended[1:4], ended[4][:1]


def violations(story: Story, kind: str, *, every: int = 1, start: int = 1) -> Iterator[str]:
    """What does not hold, a line each; every so many moments are played."""
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as name:
        folder = Path(name) / "fleet"
        ended, moments = as_planned(story, folder)
        if ended[0] != story.ends:
            yield f"{story.name} · undisturbed: {ended}, not {story.ends}"
        for moment in range(start, moments + 1, every):
            shutil.rmtree(folder)
            found = play(story, kind, moment, folder)
            if found not in allowed(story, ended):
                yield f"{story.name} · {kind} at {moment} of {moments}: {found}, not {ended}"


def main() -> int:
    """Play everything; the exit status says whether all held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="play every so many moments")
    parser.add_argument("--only", default="", help="play the story of this name")
    options = parser.parse_args()
    violated = 0
    for story in STORIES if not options.only else [s for s in STORIES if s.name == options.only]:
        for kind in KINDS:
            found = list(violations(story, kind, every=options.every))
            violated += len(found)
            print(f"{story.name} · {kind}: {'VIOLATED' if found else 'held'}", *found, sep="\n  ", flush=True)
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
