"""Pushes that no webhook told are found; what a person decided stands."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from fraisier.application.ports import Configuration, Settings
from fraisier.application.sweep_refs import SweepRefs
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.deployment import Trigger, Wish
from fraisier.domain.errors import Cause, StepFailed, StoreUnavailable
from fraisier.domain.fraise import EnvironmentKey, Source
from tests.factories import KEY, SHA_A, SHA_B, SHA_C, environment, fraise
from tests.migrated import lay_migrated

MAIN = "refs/heads/main"
INTERVAL = 120.0


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.wall, self.steady = time.time(), 50.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


class Remote:
    """What `ls-remote` would say; `during` happens while it is asked."""

    def __init__(self) -> None:
        self.refs: dict[str, str] = {}
        self.asked: list[list[str]] = []
        self.fails = False
        self.during: Any = lambda: None

    def tips(self, source: Source, refs: Sequence[str], *, stop: Event | None = None) -> Mapping[str, str]:
        self.asked.append(list(refs))
        found = {ref: self.refs[ref] for ref in refs if ref in self.refs}
        self.during()
        if self.fails:
            raise StepFailed(Cause.network, "cannot ask acme/orders", "Look at the network")
        return found


class World:
    """One store, one remote, a configuration of one or more environments."""

    def __init__(self, folder: Any, *environments: Any) -> None:
        self.clock, self.remote = Clock(), Remote()
        lay_migrated(folder / "db" / "f.db")
        self.store = open_sqlite(f"sqlite://{folder}/db/f.db", state_folder=str(folder / "db"))
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.stop = Event()
        self.configure(*environments)
        self.sweep = SweepRefs(self.remote, self.store, self.clock, lambda *told: self.events.append(told))  # type: ignore[arg-type]

    def configure(self, *environments: Any, interval: float = INTERVAL, **fields: Any) -> None:
        found = environments or (environment(),)
        self.configuration = Configuration(
            path="",
            digest="d",
            settings=Settings(database_url="", state_folder="", sweep_interval=interval),
            fraises={},
            environments={each.key: each for each in found},
            **fields,
        )
        self.store.publish([fraise(*found)], digest="d", documents={})

    def look(self, after: float = INTERVAL * 2) -> list[tuple[str, str]]:
        """Time passes; what was requested by sweeps since the last look: commit and ref."""
        before = {row["id"] for row in self.store.history(limit=100)}
        self.clock.passes(after)
        self.sweep(self.configuration, self.stop)
        new = [row for row in self.store.history(limit=100) if row["id"] not in before]
        assert {row["trigger"] for row in new} <= {"sweep"}
        return [(row["commit"], row["ref"]) for row in new]

    def wish(self, commit: str, trigger: Trigger = Trigger.webhook, **fields: Any) -> None:
        tip = commit if trigger is Trigger.webhook else ""
        self.store.request(Wish(environment=KEY, ref=MAIN, trigger=trigger, commit=commit, tip=tip, **fields))

    @property
    def seen_tip(self) -> str:
        return str(self.store.fraise_status()[0]["seen_tip"])


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


def test_a_push_without_a_webhook_is_requested_once(world):
    world.wish(SHA_A)
    world.remote.refs[MAIN] = SHA_B
    assert world.look() == [(SHA_B, MAIN)]
    assert world.seen_tip == SHA_B
    assert world.look() == []


def test_what_a_webhook_told_is_not_requested_again(world):
    world.wish(SHA_A)
    world.remote.refs[MAIN] = SHA_A
    assert world.look() == []
    assert len(world.remote.asked) == 1


def test_a_new_environment_is_left_for_one_look_to_whoever_sets_it_up(world):
    world.remote.refs[MAIN] = SHA_A
    assert world.look() == []
    assert world.look() == [(SHA_A, MAIN)]
    assert world.look() == []


def test_a_new_environment_that_somebody_has_deployed_is_not_asked_for(world):
    world.remote.refs[MAIN] = SHA_A
    assert world.look() == []
    world.wish(SHA_A)
    assert world.look() == []


def test_a_push_to_a_new_environment_is_found_with_all_webhooks_blocked(world):
    assert world.look() == []
    world.remote.refs[MAIN] = SHA_A
    world.remote.fails = True
    assert world.look() == []
    world.remote.fails = False
    assert world.look(after=INTERVAL * 3) == [(SHA_A, MAIN)]


def test_a_branch_that_was_not_there_before_is_a_push(world):
    assert world.look() == []
    world.remote.refs[MAIN] = SHA_A
    assert world.look() == [(SHA_A, MAIN)]


def test_a_repository_is_asked_at_the_start_and_then_once_an_interval(world):
    world.remote.refs[MAIN] = SHA_A
    for _ in range(30):
        world.look(after=INTERVAL / 10)
    assert 3 <= len(world.remote.asked) <= 4  # at 0, 1 and 2 intervals, each 10 % sooner or later


def test_it_says_how_long_nobody_need_look(world):
    assert world.sweep.due_in == math.inf
    world.look()
    assert INTERVAL / 2 < world.sweep.due_in < INTERVAL * 2
    world.clock.passes(INTERVAL * 2)
    assert world.sweep.due_in == 0
    world.configure(interval=0)
    world.look()
    assert world.sweep.due_in == math.inf


def test_a_gap_is_noticed_by_the_clock_that_runs_on_in_a_suspend(world):
    world.look()
    world.clock.wall += INTERVAL * 2
    world.look(after=0)
    assert len(world.remote.asked) == 2


def test_a_clock_that_is_set_back_stops_no_sweep(world):
    world.look()
    world.clock.wall -= 7200
    world.look(after=INTERVAL * 1.2)
    assert len(world.remote.asked) == 2


def test_a_rollback_is_not_undone_and_the_next_push_is_deployed(world):
    world.wish(SHA_A)
    world.wish(SHA_B)
    world.remote.refs[MAIN] = SHA_C  # its webhook was lost, and then somebody rolled back
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    assert world.look(after=1) == []
    assert world.seen_tip == SHA_C
    assert world.look() == []
    world.remote.refs[MAIN] = SHA_B
    assert world.look() == [(SHA_B, MAIN)]


@pytest.mark.parametrize("outage", ["the repository does not answer", "no worker lives"])
def test_a_push_after_a_rollback_is_found_though_nobody_could_look_in_between(world, outage):
    world.wish(SHA_A)
    world.wish(SHA_B)
    world.remote.refs[MAIN] = SHA_B
    world.look()
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    if outage == "the repository does not answer":
        world.remote.fails = True
        assert world.look(after=1) == []
        world.remote.fails = False
    world.remote.refs[MAIN] = SHA_C  # pushed meanwhile; its webhook was lost
    assert world.look(after=3600) == [(SHA_C, MAIN)]
    assert world.seen_tip == SHA_C
    assert world.look() == []


def test_a_rollback_is_not_undone_either_when_nobody_could_look_for_long(world):
    world.wish(SHA_A)
    world.wish(SHA_B)
    world.remote.refs[MAIN] = SHA_B
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    assert world.look(after=3600) == []
    assert world.seen_tip == SHA_B


def test_a_branch_that_came_after_a_rollback_is_found(world):
    world.wish(SHA_A)
    world.look()
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    world.look(after=1)
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    world.remote.refs[MAIN] = SHA_C
    assert world.look(after=3600) == [(SHA_C, MAIN)]


def test_who_performs_a_decision_alone_notes_where_the_branch_is(world):
    world.wish(SHA_A)
    world.remote.refs[MAIN] = SHA_C  # its webhook was lost
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    world.sweep.note_tip(world.configuration, KEY, world.stop)
    assert world.seen_tip == SHA_C
    assert world.look(after=3600) == []
    world.sweep.note_tip(world.configuration, KEY, world.stop)
    assert len(world.remote.asked) == 2, "who is not asked to decide anew asks nobody"


def test_a_commit_that_a_person_named_is_not_undone(world):
    world.wish(SHA_B)
    world.remote.refs[MAIN] = SHA_B
    world.wish(SHA_A, Trigger.manual, requested_by="bob")
    assert world.look() == []
    assert world.look() == []


def test_after_a_persons_decision_the_branch_is_looked_at_at_once(world):
    world.remote.refs[MAIN] = SHA_A
    world.look()
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    world.look(after=1)
    assert len(world.remote.asked) == 2
    world.look(after=1)
    assert len(world.remote.asked) == 2


def test_a_branch_that_is_gone_is_not_looked_at_all_the_time(world):
    world.look()
    world.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bob")
    for _ in range(5):
        world.look(after=1)
    assert len(world.remote.asked) == 2
    world.remote.refs[MAIN] = SHA_B
    assert world.look() == [(SHA_B, MAIN)]


def test_a_quarantined_commit_is_never_asked_for(world):
    world.wish(SHA_A)
    world.store.register_worker("w", info={})
    claim = world.store.claim("w", lease=10, environments=[KEY])
    attempt = world.store.begin_attempt(claim, resolved="")
    from fraisier.application.ports import Ending
    from fraisier.domain.deployment import Status

    world.store.finish(
        claim, attempt, Ending(status=Status.failed, cause=Cause.build, error="no", quarantine=True)
    )
    world.wish(SHA_B)
    world.remote.refs[MAIN] = SHA_A  # a force push back to it
    assert world.look() == []
    assert world.look() == []


def test_a_webhook_that_is_faster_than_the_answer_of_the_repository_wins(world):
    world.wish(SHA_A)
    world.remote.refs[MAIN] = SHA_B
    world.remote.during = lambda: world.wish(SHA_C)
    world.sweep(world.configuration, world.stop)
    commits = [(row["commit"], row["status"]) for row in world.store.history(limit=10)]
    assert commits[0] == (SHA_C, "pending")
    assert SHA_B not in dict(commits)


def test_a_repository_that_does_not_answer_is_asked_less_often_and_told_of(world):
    world.wish(SHA_B)
    world.remote.fails = True
    for _ in range(12):
        world.look(after=INTERVAL * 1.2)
    assert 3 <= len(world.remote.asked) <= 5
    assert {event for event, _ in world.events} == {"sweep_failed"}
    world.remote.fails, world.remote.refs[MAIN] = False, SHA_A
    assert world.look(after=7200) == [(SHA_A, MAIN)]
    asked = len(world.remote.asked)
    world.look(after=INTERVAL * 1.2)
    assert len(world.remote.asked) == asked + 1


def test_environments_of_one_repository_are_asked_for_together(world):
    staging = environment(name="staging", branch="develop", app_path="/srv/staging")
    world.configure(environment(), staging)
    assert world.look() == []
    assert world.remote.asked == [["refs/heads/develop", MAIN]]
    world.remote.refs = {MAIN: SHA_A, "refs/heads/develop": SHA_B}
    assert sorted(world.look()) == sorted([(SHA_A, MAIN), (SHA_B, "refs/heads/develop")])


def test_tags_and_environments_of_several_branches_are_left_to_webhooks(world):
    tagged = environment(name="tagged", branch="", tag="v*", app_path="/srv/tagged")
    many = environment(name="many", branch="main", app_path="/srv/many")
    world.configure(tagged, many, routes={"main": (many.key,), "develop": (many.key,)})
    world.remote.refs[MAIN] = SHA_A
    assert world.look() == []
    assert world.remote.asked == []


def test_a_routed_environment_follows_its_one_branch(world):
    routed = environment(name="routed", branch="main", app_path="/srv/routed")
    world.configure(routed, routes={"develop": (routed.key,)})
    assert world.look() == []
    world.remote.refs = {MAIN: SHA_A, "refs/heads/develop": SHA_B}
    assert world.look() == [(SHA_B, "refs/heads/develop")]


def test_a_branch_that_is_not_there_asks_for_nothing(world):
    world.wish(SHA_A)
    assert world.look() == []


def test_an_interval_of_zero_asks_nobody(world):
    world.configure(interval=0)
    world.remote.refs[MAIN] = SHA_A
    assert world.look() == []
    assert world.remote.asked == []


def test_what_is_not_published_is_not_asked_for(world):
    other = replace(environment(), name="new", app_path="/srv/new")
    world.configuration = replace(
        world.configuration, environments={EnvironmentKey(other.fraise, "new"): other}
    )
    world.remote.refs[MAIN] = SHA_A
    assert world.look() == []


def test_a_store_that_cannot_be_written_makes_nobody_ask_all_the_time(world, monkeypatch):
    world.wish(SHA_A)
    world.remote.refs[MAIN] = SHA_B

    def full(_wish):
        raise StoreUnavailable("cannot write", "Free some space")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "request", full)
        for _ in range(30):
            with suppress(StoreUnavailable):
                world.look(after=1)
    assert len(world.remote.asked) == 1
    assert world.look() == [(SHA_B, MAIN)]
