"""Runs are asked for when they are due: each time once, whoever plans, whoever was away, whatever the clock does."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraisier.application.plan_runs import PlanRuns
from fraisier.domain.job import JobKind
from fraisier.domain.run import RunWish
from tests import factories
from tests.factories import KEY
from tests.unit.job_world import BAD, MONDAY, World, by_systemd, configuration_of, hourly

HOUR = 3600.0


def test_a_job_runs_when_it_is_due_and_not_before(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    assert world.plan.due_in == HOUR
    world.passes(HOUR - 1)
    assert world.runs() == []
    world.passes(1)
    assert world.runs() == [("13:00", "pending")]
    row = world.store.runs()[0]
    assert (row["trigger"], row["kind"], row["not_before"]) == ("scheduled", "command", None)
    world.ends()
    world.passes(HOUR)
    assert world.runs() == [("13:00", "success"), ("14:00", "pending")]


def test_a_time_that_comes_while_the_run_before_goes_on_is_skipped(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    world.passes(2 * HOUR)
    assert world.runs() == [("13:00", "pending"), ("14:00", "skipped")]
    assert [row["due"][11:16] for row in world.told("run_skipped")] == ["14:00"]


def test_two_that_plan_ask_once(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(concurrency=5))
    other = PlanRuns(world.store, world.clock, lambda *_: None)
    other(world.configuration)
    for _ in range(3):
        world.is_away(HOUR)
        world.plan(world.configuration)
        other(world.configuration)
    assert [due for due, _ in world.runs()] == ["13:00", "14:00", "15:00"]


def test_a_worker_that_comes_next_asks_for_nothing_twice(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    world.passes(HOUR + 10)
    world.start()
    world.passes(600)
    assert world.runs() == [("13:00", "pending")]


def test_what_was_due_while_nobody_looked_is_caught_up_by_one_run(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    world.is_away(5 * HOUR + 1800)
    world.start()
    assert world.runs() == [("17:00", "pending")]
    assert [row["passed_over"] for row in world.told("run_requested")] == [4]
    world.passes(HOUR)
    assert world.runs() == [("17:00", "pending"), ("18:00", "skipped")]


def test_what_is_not_caught_up_is_noted_as_missed_once(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(persistent=False, grace=300.0))
    world.is_away(5 * HOUR + 1800)
    world.start()
    world.start()
    assert world.runs() == [("17:00", "missed")]
    assert (
        world.store.runs()[0]["error_message"]
        == "no worker was there when it was due, nor the 4 times before"
    )


def test_within_its_grace_it_is_run_and_only_the_times_before_are_missed(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(persistent=False, grace=300.0))
    world.is_away(2 * HOUR + 120)
    world.start()
    assert world.runs() == [("13:00", "missed"), ("14:00", "pending")]


def test_a_job_that_is_new_has_missed_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    world.passes(HOUR / 2)
    world.configure(hourly(), hourly("other"))
    world.passes(HOUR / 4)
    assert world.runs() == []
    world.passes(HOUR / 4)
    assert world.runs("other") == [("13:00", "pending")]


def test_a_schedule_that_is_changed_misses_nothing_by_the_new_one(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(expression="0 0 1 1 *"))
    world.passes(30 * 60)
    world.configure(hourly(expression="* * * * *"))
    world.look()
    assert world.runs() == []
    world.passes(60)
    assert world.runs() == [("12:31", "pending")]


def test_a_job_that_is_taken_out_runs_no_more(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    world.configure()
    world.passes(2 * HOUR)
    assert world.runs() == []


def test_a_clock_that_is_set_forward_makes_one_run_of_what_it_leaves_out(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    world.passes(60)
    world.clock.advance(26 * HOUR)
    world.look()
    assert world.runs() == [("14:00", "pending")]
    assert world.told("run_requested")[0]["passed_over"] == 25


def test_a_clock_that_is_set_back_neither_repeats_nor_waits_until_it_has_caught_up(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(concurrency=50))
    world.passes(3 * HOUR)
    assert [due for due, _ in world.runs()] == ["13:00", "14:00", "15:00"]
    world.clock.advance(-2.5 * HOUR)
    world.passes(HOUR)
    assert [due for due, _ in world.runs()] == ["13:00", "14:00", "15:00"]
    world.clock.advance(-26 * HOUR)
    world.start()
    world.passes(HOUR)
    assert [due for due, _ in world.runs()][3:] == ["12:00"]


def test_jitter_is_in_the_database_before_its_time(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(jitter=600.0))
    world.passes(HOUR)
    (row,) = world.store.runs()
    assert row["due"] < row["not_before"] < "2026-11-23T13:10"
    assert world.claims() is None
    world.start()
    assert world.runs() == [("13:00", "pending")]


def test_where_nothing_is_deployed_nothing_is_due(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(), deployed=False)
    world.passes(2 * HOUR)
    assert world.runs() == []
    world.deploy()
    world.passes(HOUR)
    assert world.runs() == [("15:00", "pending")]


def test_a_backup_of_no_repository_needs_no_release(tmp_path: Path) -> None:
    job = hourly(kind=JobKind.backup, run="")
    world = World(tmp_path, job, deployed=False, source=factories.source(clone_url=""))
    world.passes(HOUR)
    assert world.runs() == [("13:00", "pending")]
    assert world.store.runs()[0]["kind"] == "backup"


def test_what_systemd_keeps_is_left_to_systemd(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd())
    world.plan(world.configuration)
    assert world.plan.due_in > 1e9


@pytest.mark.parametrize("last", ["none", "failed", "success"])
def test_with_a_schedule_of_its_own_a_job_waits_for_a_good_end_of_the_other(
    tmp_path: Path, last: str
) -> None:
    world = World(tmp_path, hourly("load", expression="0 0 1 1 *"), hourly("report", depends_on="load"))
    if last != "none":
        world.store.request_run(RunWish(environment=KEY, job="load"))
        world.ends(*([BAD] if last == "failed" else []))
    world.passes(HOUR)
    expected = "pending" if last == "success" else "skipped"
    assert world.runs("report") == [("13:00", expected)]
    if last == "failed":
        assert world.store.runs(job="report")[0]["error_message"] == "the last run of load is failed"


def test_parameters_have_their_defaults(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(parameters={"day": "today"}))
    world.passes(HOUR)
    assert world.store.runs()[0]["parameters"] == {"day": "today"}


def test_an_environment_that_is_not_published_stops_no_other(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    strange = factories.environment(
        fraise="strange", jobs={"main": hourly(kind=JobKind.backup)}, source=factories.source(clone_url="")
    )
    world.configuration = configuration_of(strange, *world.configuration.environments.values())
    world.passes(HOUR)
    assert world.runs() == [("13:00", "pending")]
    assert world.told("run_not_requested")
    assert world.clock.now() > MONDAY


def test_what_was_let_pass_is_not_caught_up_by_the_next_worker(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(), deployed=False)
    world.passes(2 * HOUR + 60)
    world.deploy()
    world.start()
    assert world.runs() == []
