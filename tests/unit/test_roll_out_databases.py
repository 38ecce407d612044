"""The database of an environment on several hosts: migrated once, and back, by what it says and what was noted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.control import Control
from fraisier.application.ports import JournaledStep
from fraisier.domain.deployment import Deployment, Status, Trigger
from fraisier.domain.errors import Cause
from fraisier.domain.migration import Story
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.recovery import Course
from fraisier.domain.rollout import HostState, Rollout, Standing
from fraisier.domain.rollout_recovery import resume_rollout
from tests.factories import KEY, SHA_A, SHA_B
from tests.fleet import Death, Fleet
from tests.fleet_database import SharedDatabase


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    for sha in (SHA_A, SHA_B):
        made.repository.commit(sha)
    yield made
    made.close()


@pytest.fixture
def base(fleet: Fleet) -> SharedDatabase:
    """Of an environment that runs SHA_A at revision 1; SHA_B wants 2 and 3, too."""
    made = SharedDatabase(fleet)
    assert fleet.deploy(SHA_A).status is Status.success
    assert made.asked == ["web1 up"]
    made.wanted = ["1", "2", "3"]
    made.asked.clear()
    return made


def notes(fleet: Fleet) -> list[tuple[str, str]]:
    rows = fleet.store.database_changes(KEY)
    return [(r["kind"], r["revision"]) for r in rows if r["deployment_id"] == rows[-1]["deployment_id"]]


def killed(fleet: Fleet, commit: str = SHA_B, **wish: Any) -> None:
    fleet.wish(commit, **wish)
    claim = fleet.claim()
    with contextlib.suppress(Death):
        fleet.run(claim, Control())
    fleet.store.register_worker("other", info={})
    fleet.store.hand_back(claim)


def resumed(fleet: Fleet) -> Deployment:
    ended = fleet.run(fleet.claim("other"), Control())
    assert ended is not None
    return ended


def test_what_is_migrated_is_noted_once_for_all_hosts(fleet: Fleet, base: SharedDatabase) -> None:
    assert fleet.deploy(SHA_B).status is Status.success
    assert notes(fleet) == [("planned", "1"), ("migrated", "3")]
    assert base.asked == ["web1 up"]


def test_a_rollout_that_goes_back_takes_the_database_to_its_revision(
    fleet: Fleet, base: SharedDatabase
) -> None:
    fleet[3].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.rolled_back, ended.error_message
    assert fleet.runs == ["a", "a", "a"]
    assert base.asked == ["web1 up", "web1 down to 1"]
    assert base.applied == ["1"]
    assert notes(fleet) == [("planned", "1"), ("migrated", "3"), ("taken_back", "1")]


def test_the_way_back_is_taken_from_another_host_where_the_first_is_away(
    fleet: Fleet, base: SharedDatabase
) -> None:
    fleet[3].unhealthy = {"b"}
    fleet.at_turn_of("web3", lambda: setattr(fleet[1], "away", True))
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.rolled_back
    assert base.asked == ["web1 up", "web2 down to 1"]


def test_a_database_without_a_way_back_stays_and_the_end_says_so(fleet: Fleet, base: SharedDatabase) -> None:
    base.is_configured(down="")
    fleet[3].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.rolled_back
    assert base.applied == ["1", "2", "3"]
    assert notes(fleet)[-1] == ("left", "3")
    assert "The database has been migrated and stays so at revision 3" in ended.error_message


def test_a_migration_that_failed_changes_no_host_and_is_taken_back(
    fleet: Fleet, base: SharedDatabase
) -> None:
    base.fails = True
    ended = fleet.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.migration)
    assert fleet.runs == ["a", "a", "a"]
    assert notes(fleet) == [("planned", "1"), ("taken_back", "1")]


def test_a_migration_that_was_cut_off_before_it_began_is_begun_again(
    fleet: Fleet, base: SharedDatabase
) -> None:
    base.dies_before = True
    killed(fleet)
    assert resumed(fleet).status is Status.success
    assert base.asked == ["web1 up", "web1 up"]
    assert fleet.runs == ["b", "b", "b"]


def test_a_migration_that_was_done_when_its_worker_died_is_gone_on_from(
    fleet: Fleet, base: SharedDatabase
) -> None:
    base.dies_after = True
    killed(fleet)
    assert resumed(fleet).status is Status.success
    assert base.asked == ["web1 up"]
    assert notes(fleet) == [("planned", "1"), ("migrated", "3")]
    assert fleet.runs == ["b", "b", "b"]


def test_a_migration_that_may_run_on_where_nobody_can_look_is_not_begun_elsewhere(
    fleet: Fleet, base: SharedDatabase
) -> None:
    fleet.configure(retry_for=0.05, rollout=Rollout(max_failures=1, canary=0))
    base.dies_before = True
    killed(fleet)
    fleet[1].away = True
    ended = resumed(fleet)
    assert (ended.status, ended.cause) == (Status.failed, Cause.migration_interrupted)
    assert "web1" in ended.error_message
    assert base.asked == ["web1 up"]
    assert fleet.runs[1:] == ["a", "a"]


def test_the_host_that_migrated_is_taken_over_before_the_database_is_asked(
    fleet: Fleet, base: SharedDatabase
) -> None:
    base.dies_before = True
    killed(fleet)
    acts: list[str] = []

    def answers(act: str) -> None:
        acts.append(act)
        fleet[1].away = len(acts) == 1

    fleet[1].on_act = answers
    assert resumed(fleet).status is Status.success
    assert acts[:3] == ["adopt", "adopt", "run"]


def test_a_migration_is_remembered_where_its_host_is_lost_before_the_first_turn() -> None:
    done = partial(
        JournaledStep, attempt=1, phase=Phase.deploy, state=StepState.success, started_at=0.0, release="2-b"
    )
    journal = [
        done(id=1, name=StepName.build, host="web2"),
        done(id=2, name=StepName.migrate, host="web1"),
    ]
    standings = [
        Standing(host="web1", state=HostState.unreachable),
        Standing(host="web2", state=HostState.waiting),
    ]
    story = Story(planned=True, before="1", after="3", migrated=True, tells=True)
    found = resume_rollout(journal, standings, database=story)
    assert (found.course, found.migrated) == (Course.go_on, True)


def test_a_rollback_leaves_the_database_and_notes_where(fleet: Fleet, base: SharedDatabase) -> None:
    first = fleet.store.history()[-1]["release"]
    fleet.deploy(SHA_B)
    ended = fleet.deploy(SHA_A, trigger=Trigger.rollback, release=first)
    assert ended.status is Status.success, ended.error_message
    assert fleet.runs == ["a", "a", "a"]
    assert notes(fleet) == [("left", "3")]
    assert base.applied == ["1", "2", "3"]


@pytest.mark.parametrize("lacks", ["", "web1"])
def test_a_rollback_with_the_database_takes_it_back_once(
    fleet: Fleet, base: SharedDatabase, lacks: str
) -> None:
    first = fleet.store.history()[-1]["release"]
    fleet.deploy(SHA_B)
    if lacks:
        fleet.hosts[lacks].remove(f"/srv/orders/.fraisier/releases/{first}.json")
    base.asked.clear()
    ended = fleet.deploy(SHA_A, trigger=Trigger.rollback, release=first, with_database=True)
    assert ended.status is Status.success, ended.error_message
    assert fleet.runs == ["a", "a", "a"]
    assert base.asked == ["web1 down to 1"]
    assert notes(fleet) == [("planned", "3"), ("migrated", "1")]


def test_a_way_back_of_the_database_that_was_cut_off_ends_for_a_person_to_look_at(
    fleet: Fleet, base: SharedDatabase
) -> None:
    fleet[3].unhealthy = {"b"}
    base.dies_down = True
    killed(fleet)
    ended = resumed(fleet)
    assert ended.status is Status.rollback_failed
    assert "its way down was interrupted, and it is at revision 2" in ended.error_message
    assert fleet.runs == ["a", "a", "a"]
    assert base.asked == ["web1 up", "web1 down to 1"]


def test_a_rollback_with_the_database_that_was_done_when_its_worker_died_is_gone_on_from(
    fleet: Fleet, base: SharedDatabase
) -> None:
    first = fleet.store.history()[-1]["release"]
    base.wanted = ["1", "2"]
    fleet.deploy(SHA_B)
    base.asked.clear()
    base.dies_down = True
    killed(fleet, SHA_A, trigger=Trigger.rollback, release=first, with_database=True)
    ended = resumed(fleet)
    assert ended.status is Status.success, ended.error_message
    assert fleet.runs == ["a", "a", "a"]
    assert base.asked == ["web1 down to 1"]
    assert notes(fleet) == [("planned", "2"), ("migrated", "1")]
