"""Schedules that the worker keeps: real processes begin when they are due, and what fails is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.site import until
from tests.integration.test_deployment_flow_etl import Pipeline, pipeline

EVERY_SECOND = "command: sh ./load.sh\nschedule: '* * * * * *'"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Pipeline]:
    with pipeline(tmp_path, EVERY_SECOND) as made:
        yield made


def dues(site: Pipeline, status: str = "") -> list[str]:
    return [row["due"] for row in reversed(site.fraisier.store.runs(status=status, limit=1000)) if row["due"]]


def test_runs_begin_when_they_are_due_through_a_restart_and_each_time_once(site: Pipeline) -> None:
    with site.working():
        site.load("echo done")
        until("three runs", lambda: len(dues(site, "success")) >= 3, 60.0)
    before = dues(site)
    with site.working():
        until("three more", lambda: len(dues(site, "success")) >= len(before) + 3, 60.0)
    everything = dues(site)
    assert len(everything) == len(set(everything))
    assert everything == sorted(everything)
    rows = site.fraisier.store.runs(status="success", limit=1000)
    assert {row["trigger"] for row in rows} == {"scheduled"}
    assert all(row["due"] <= row["started_at"] for row in rows)


def test_a_run_that_fails_is_an_alert_until_the_next_good_one(site: Pipeline) -> None:
    store = site.fraisier.store
    marker = site.folder / "broken"
    marker.touch()
    with site.working():
        site.load(f"test ! -e {marker}")
        until("an alert", lambda: store.alerts(), 60.0)
        (row,) = store.alerts()
        assert (row["job"], row["kind"]) == ("main", "failed")
        assert store.fraise_status()[0]["healthy"] is False
        marker.unlink()
        until("its end", lambda: not store.alerts(), 60.0)
    assert store.fraise_status()[0]["healthy"] is not False
    (ended,) = store.alerts(standing=False)
    assert ended["cleared_by"] == "the next good run"
