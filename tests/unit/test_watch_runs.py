"""Whoever should have run and did not, came late or failed is told, until the next good run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.domain.run import AlertKind, RunTrigger, RunWish
from tests.factories import KEY
from tests.unit.job_world import BAD, GOOD, World, by_systemd, hourly

HOUR = 3600.0


def manual(world: World, job: str = "main") -> None:
    assert world.store.request_run(RunWish(environment=KEY, job=job)) is not None


def test_good_runs_raise_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    for _ in range(3):
        world.passes(HOUR)
        world.ends()
    world.look()
    assert world.alerts() == []
    assert not world.told("alert_raised")


def test_a_run_that_failed_is_told_once_until_a_good_one(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    manual(world)
    failed = world.ends(BAD)
    world.look()
    world.look()
    assert world.alerts() == [("main", "failed")]
    (row,) = world.store.alerts()
    assert row["message"] == "main failed: exit code 3"
    assert row["hint"] == f"See what it printed: `fraisier logs {failed['id'][:8]}`"
    assert row["run_id"] == failed["id"]
    (status,) = world.store.fraise_status()
    assert (status["healthy"], status["alerts"]) == (False, 1)
    assert [told["kind"] for told in world.told("alert_raised")] == ["failed"]
    world.start()  # who looks next tells it no second time
    assert len(world.told("alert_raised")) == 1
    manual(world)
    world.ends()
    world.look()
    assert world.alerts() == []
    assert [told["kind"] for told in world.told("alert_cleared")] == ["failed"]
    assert world.store.fraise_status()[0]["healthy"] is not False


def test_a_failure_that_is_tried_again_is_not_told(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(retries=1))
    manual(world)
    claim = world.begins()
    again = RunWish(environment=KEY, job="main", trigger=RunTrigger.retry, attempt=2, retry_of=claim.id)
    world.store.finish_run(claim, replace(BAD, again=again))
    world.look()
    assert world.alerts() == []
    second = world.begins()
    world.look()
    assert world.alerts() == []
    world.store.finish_run(second, BAD)
    world.look()
    assert world.alerts() == [("main", "failed")]
    assert world.store.alerts()[0]["message"] == "main failed after 2 tries: exit code 3"


def test_a_run_that_has_not_begun_by_its_grace_is_told_and_its_late_end_too(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(expression="0 13 * * *", grace=600.0))
    world.passes(HOUR + 599)
    assert world.alerts() == []
    world.passes(2, step=1)
    assert world.alerts() == [("main", "missed")]
    assert "was due at 2026-11-23T13:00:00" in world.store.alerts()[0]["message"]
    world.ends()
    world.look()
    assert world.alerts() == [("main", "late")]
    assert world.store.alerts()[0]["message"] == "main began 601 s after it was due"
    world.passes(24 * HOUR - 601)
    world.ends()
    world.look()
    assert world.alerts() == []


def test_who_comes_back_tells_what_was_missed(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(persistent=False))
    world.is_away(3 * HOUR + 1200)
    world.start()
    assert world.alerts() == [("main", "missed")]
    assert "no worker was there when it was due" in world.store.alerts()[0]["message"]
    world.passes(2400)
    world.ends()
    world.look()
    assert world.alerts() == []


def test_what_was_caught_up_too_late_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    world.is_away(HOUR + 1200)
    world.start()
    world.ends()
    world.look()
    assert world.alerts() == [("main", "late")]


def test_jitter_is_not_late(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(jitter=3000.0, grace=10.0))
    world.passes(HOUR)
    world.clock.advance(3000)
    world.ends()
    assert world.alerts() == []


def test_what_somebody_has_ended_by_hand_is_not_told_again(tmp_path: Path) -> None:
    world = World(tmp_path, hourly())
    manual(world)
    world.ends(BAD)
    world.look()
    world.store.clear_alert(KEY, "main", [AlertKind.failed], by="anna")
    world.start()
    assert world.alerts() == []
    manual(world)
    world.ends(BAD)
    world.look()
    assert world.alerts() == [("main", "failed")]


def test_alerts_of_a_job_that_is_gone_end(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(), hourly("other"))
    manual(world, "other")
    world.ends(BAD)
    world.look()
    assert world.alerts() == [("other", "failed")]
    world.configure(hourly())
    world.look()
    assert world.alerts() == []
    assert world.told("alert_cleared")[0]["by"] == "the configuration has no such job"


def test_one_job_s_good_run_ends_no_other_s_alert(tmp_path: Path) -> None:
    world = World(tmp_path, hourly(), hourly("other"))
    manual(world, "other")
    world.ends(BAD)
    manual(world)
    world.ends()
    world.look()
    assert world.alerts() == [("other", "failed")]


# ------------------------------------------------------------------------------------------- systemd


def test_a_run_of_systemd_that_is_told_in_time_raises_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd(grace=300.0))
    world.passes(HOUR)
    world.reports(world.clock.now() + 3)
    world.passes(HOUR - 10)
    assert world.alerts() == []
    assert [status for _, status in world.runs()] == ["success"]


def test_a_run_of_systemd_that_nobody_heard_of_is_missed(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd(grace=300.0))
    world.passes(HOUR + 300)
    assert world.alerts() == []
    world.passes(60)
    assert world.runs() == [("13:00", "missed")]
    assert world.alerts() == [("main", "missed")]
    assert "localhost has not told of a run since it was due" in world.store.alerts()[0]["message"]
    world.start()
    world.passes(120)
    assert world.runs() == [("13:00", "missed")]
    world.passes(HOUR - 480)
    world.reports(world.clock.now())
    world.look()
    assert world.alerts() == []


def test_a_run_of_systemd_that_came_late_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd(grace=300.0, jitter=60.0))
    world.passes(HOUR)
    world.reports(world.clock.now() + 1000)
    world.passes(60)
    assert world.alerts() == [("main", "late")]
    assert world.store.alerts()[0]["message"] == "main began 940 s after it was due"


def test_a_failure_of_systemd_s_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd())
    world.passes(HOUR)
    world.reports(world.clock.now(), BAD)
    world.look()
    assert world.alerts() == [("main", "failed")]


def test_while_no_worker_lived_systemd_went_on_and_nothing_was_missed(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd(grace=300.0))
    world.is_away(10 * HOUR + 1800)
    world.start()
    world.reports(world.clock.now() - 1800)
    world.passes(600)
    assert world.alerts() == []
    assert [status for _, status in world.runs()] == ["success"]


def test_what_was_deployed_after_it_was_due_has_not_missed_it(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd(grace=300.0), deployed=False)
    world.passes(HOUR + 60)
    world.deploy()
    world.passes(HOUR - 120)
    assert world.alerts() == []


@pytest.mark.parametrize("ending", [GOOD, BAD])
def test_a_run_that_is_under_way_is_not_missed(tmp_path: Path, ending: object) -> None:
    world = World(tmp_path, by_systemd(grace=60.0))
    world.passes(HOUR)
    world.reports(world.clock.now(), None)
    world.passes(HOUR / 2)
    assert world.alerts() == []
    assert ending


def test_a_run_that_takes_longer_than_its_interval_is_no_missed_one(tmp_path: Path) -> None:
    """systemd begins the next one as soon as it has ended: systemd.timer(5), DeferReactivation=."""
    world = World(tmp_path, by_systemd(grace=300.0, timeout=3 * HOUR))
    world.passes(HOUR)
    began = world.clock.now()
    world.reports(began, None)
    world.passes(HOUR + 900)
    assert world.alerts() == []
    world.reports(began, lasted=HOUR + 900)
    world.passes(60)
    assert world.alerts() == []
    world.reports(began + HOUR + 901)
    world.passes(600)
    assert world.alerts() == [("main", "late")]
    assert [status for _, status in world.runs()] == ["success", "success"]


def test_a_time_after_a_long_run_that_never_begins_is_missed(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd(grace=300.0, timeout=3 * HOUR))
    world.passes(HOUR)
    world.reports(world.clock.now(), lasted=HOUR + 60)
    world.passes(HOUR + 600)
    assert world.alerts() == [("main", "missed")]


def test_a_host_that_is_gone_in_the_middle_of_a_run_is_no_excuse_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd(grace=300.0, timeout=2 * HOUR))
    world.passes(HOUR)
    world.reports(world.clock.now(), None)
    world.passes(2 * HOUR)
    assert world.alerts() == []
    world.passes(600)
    assert world.alerts() == [("main", "missed")]


def test_up_to_when_a_job_was_seen_to_moves_on_however_often_it_runs(tmp_path: Path) -> None:
    world = World(tmp_path, by_systemd(expression="* * * * *", grace=60.0))
    for _ in range(10):
        world.passes(60)
        world.reports(world.clock.now(), lasted=50)
    (until,) = world.store.planned_until([KEY]).values()
    assert until > world.clock.now() - 240
