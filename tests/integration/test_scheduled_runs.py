"""Schedules that the worker keeps: real processes begin when they are due, and what fails is told."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.outside import serving
from tests.integration.site import KEY, until
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


def test_schedules_are_kept_after_the_configuration_was_reloaded(site: Pipeline) -> None:
    with site.working():
        site.load("echo done")
        until("a run", lambda: dues(site, "success"), 60.0)
    with serving(site) as outside:
        outside.start()
        digest = site.fraisier.store.published_digest()
        site.config.write_text(site.config.read_text().replace("./load.sh", "././load.sh"))
        os.kill(outside.pid, signal.SIGHUP)
        until("the new digest", lambda: site.fraisier.store.published_digest() != digest)
        before = len(dues(site))
        until("three more", lambda: len(dues(site, "success")) >= before + 3, 30.0)


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


def test_a_real_serve_shows_what_stands_wherever_one_looks(site: Pipeline) -> None:
    with site.working():
        site.load("exit 3")
    with serving(site) as outside:
        outside.start()
        until("an alert", lambda: site.fraisier.store.alerts(), 60.0)
        (row,) = json.loads(outside.cli("alerts", "--json").stdout)
        assert (row["kind"], row["message"].partition(":")[0]) == ("failed", "main failed")
        with urllib.request.urlopen(f"http://127.0.0.1:{outside.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        name = f'environment="{KEY.environment}",fraise="{KEY.fraise}",job="main",kind="failed"'
        assert f"fraisier_alert{{{name}}} 1.0" in text
        assert outside.get("/ready")[0] == 200
        (status,) = json.loads(outside.cli("status", "--json").stdout)
        assert status["healthy"] is False
        logged = [json.loads(line) for line in outside.log.read_text().splitlines() if "alert raised" in line]
        assert [(line["event"], line["level"], line["kind"]) for line in logged] == [
            ("alert raised", "warning", "failed")
        ]
