"""`fraisier alerts`, and what the doctor says of jobs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fraisier.application.ports import Store
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.run import Alert, AlertKind
from tests.unit.cli_world import World

KEY = EnvironmentKey("nightly", "production")
PIPELINE = """
  nightly:
    type: scheduled
    repository: acme/nightly
    clone_url: {folder}/origin.git
    environments:
      production:
        branch: main
        app_path: {folder}/nightly
        keeper: worker
        timezone: UTC
        jobs:
          load: {{run: sh load.sh, schedule: "0 4 29 2 *"}}
          report: {{run: sh report.sh, depends_on: load}}
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World.create(tmp_path)
    made.config.write_text(made.config.read_text() + PIPELINE.format(folder=tmp_path))
    return made


def raised(store: Store, kind: AlertKind = AlertKind.failed, job: str = "load") -> None:
    assert store.raise_alert(
        Alert(environment=KEY, job=job, kind=kind, message=f"{job} failed: exit code 3", hint="Look at it")
    )


def of_jobs(world: World) -> list[dict[str, str]]:
    result = world.run("doctor", "--json", "--offline", "nightly", "production")
    found = [each for each in json.loads(result.stdout) if each["check"] == "jobs"]
    return [{key: each[key] for key in ("subject", "verdict", "message", "hint")} for each in found]


def test_what_stands_is_listed_and_ended_by_hand(world: World) -> None:
    assert world.run("alerts").stdout == ""
    with world.store() as store:
        raised(store)
        raised(store, AlertKind.missed, "report")
    shown = world.run("alerts")
    assert shown.exit_code == 0
    assert "load failed: exit code 3" in shown.stdout
    status = world.run("status", "nightly").stdout
    assert "never deployed; report failed: exit code 3; load failed: exit code 3" in status
    rows = json.loads(world.run("alerts", "nightly", "production", "--json").stdout)
    assert [(row["job"], row["kind"], row["cleared_at"]) for row in rows] == [
        ("report", "missed", None),
        ("load", "failed", None),
    ]
    assert json.loads(world.run("alerts", "orders", "--json").stdout) == []
    assert world.run("alerts", "nightly", "production", "--clear").exit_code == 0
    assert world.run("alerts").stdout == ""
    ended = json.loads(world.run("alerts", "--all", "--json").stdout)
    assert len(ended) == 2
    assert all(row["cleared_by"] for row in ended)
    assert "CLEARED" in world.run("alerts", "--all").stdout


def test_ending_alerts_needs_an_environment(world: World) -> None:
    assert world.run("alerts", "--clear").exit_code == 2
    assert world.run("alerts", "nightly", "nowhere", "--clear").exit_code == 3


def test_the_doctor_says_which_schedule_nobody_keeps(world: World) -> None:
    with world.store() as store:
        (found,) = of_jobs(world)
        assert found["verdict"] == "problem"
        assert found["message"] == "nobody keeps the schedule of load: no worker lives"
        assert "fraisier serve" in found["hint"]
        store.register_worker("w1", info={"host": "here", "pid": os.getpid(), "version": "0", "digest": ""})
        (found,) = of_jobs(world)
        assert found["verdict"] == "ok"
        assert found["message"].startswith("load is due at 20")
        assert found["message"].endswith("-02-29 04:00:00 UTC, kept by the worker")
        raised(store)
        (found,) = of_jobs(world)
        assert (found["verdict"], found["message"], found["hint"]) == (
            "problem",
            "load: load failed: exit code 3",
            "Look at it",
        )


def test_where_there_are_no_jobs_the_doctor_says_nothing_of_them(world: World) -> None:
    result = world.run("doctor", "--json", "--offline", "orders", "staging")
    assert not [each for each in json.loads(result.stdout) if each["check"] == "jobs"]
