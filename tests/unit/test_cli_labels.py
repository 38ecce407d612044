"""The command line where environments live on machines with labels: who performs, and what is said if nobody does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fraisier import wiring
from fraisier.application.ports import Store
from tests.unit.cli_world import PRODUCTION, STAGING, World, request
from tests.unit.test_check_environments import findings, only

LACK = "no live worker has the labels [web1]"
START = "fraisier worker --label web1"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """production lives on web1, staging anywhere."""
    world = World.create(tmp_path)
    labelled = world.config.read_text().replace("production: {branch", "production: {labels: web1, branch")
    world.config.write_text(labelled)
    return world


def register(store: Store, *labels: str, host: str = "here", worker: str = "w1") -> None:
    store.register_worker(worker, info={"host": host, "pid": os.getpid(), "labels": labels})


@pytest.mark.parametrize("words", [["--no-wait"], ["--wait"], ["--wait", "--label", "web2"]])
def test_deploy_where_nobody_may_perform_stores_it_and_says_what_to_start(
    world: World, words: list[str]
) -> None:
    result = world.run("deploy", "orders", "production", *words)
    assert result.exit_code == 4
    assert LACK in result.stderr
    assert START in result.stderr
    (row,) = json.loads(world.run("history", "--json").stdout)
    assert row["status"] == "pending"


def test_a_worker_for_others_is_none_for_this_environment(world: World) -> None:
    with world.store() as store:
        register(store, "web2")
        labelled = world.run("deploy", "orders", "production", "--no-wait")
        unlabelled = world.run("deploy", "orders", "staging", "--no-wait")
    assert (labelled.exit_code, unlabelled.exit_code) == (4, 4)
    assert LACK in labelled.stderr
    assert "every live worker has labels, and the environment names none" in unlabelled.stderr


def test_deploy_does_not_guess_that_an_environment_without_labels_lives_here(world: World) -> None:
    with world.store() as store:
        register(store, "web2")
        assert world.run("deploy", "orders", "staging", "--wait").exit_code == 4
    assert not (world.folder / "staging").exists()


def test_a_worker_with_the_labels_will_do_it(world: World) -> None:
    with world.store() as store:
        register(store, "eu", "web1")
        assert world.run("deploy", "orders", "production", "--no-wait").exit_code == 0


def test_status_says_who_is_missing(world: World) -> None:
    with world.store() as store:
        request(store)
        shown = " ".join(world.run("status").stdout.split())
        assert f"1 waiting: {LACK}" in shown
        register(store, "web1")
        assert LACK not in " ".join(world.run("status").stdout.split())


def test_status_says_who_is_missing_for_what_was_interrupted(world: World) -> None:
    with world.store() as store:
        request(store)
        assert store.claim("dead", lease=0.01, environments=[PRODUCTION], labels=["web1"]) is not None
        assert LACK in " ".join(world.run("status").stdout.split())


def test_plan_says_who_would_perform_it_and_that_nobody_lives(world: World) -> None:
    shown = world.run("plan", "orders", "production").stdout
    assert "By a worker with the labels [web1]." in shown
    assert LACK in shown
    assert json.loads(world.run("plan", "orders", "production", "--json").stdout)["labels"] == ["web1"]
    assert "labels" not in world.run("plan", "orders", "staging").stdout


def test_list_shows_labels(world: World) -> None:
    assert "web1" in world.run("list", env={"COLUMNS": "200"}).stdout


@pytest.mark.parametrize("command", ["rollback", "adopt --yes"])
def test_what_lives_elsewhere_is_not_looked_at_here(world: World, command: str) -> None:
    name, *words = command.split()
    result = world.run(name, "orders", "production", *words)
    assert result.exit_code == 4
    assert "cannot reach orders/production from here: it lives on a machine labelled [web1]" in result.stderr
    assert "--label web1" in result.stderr
    assert not (world.folder / "production").exists()


def test_where_it_lives_it_is_reached(world: World) -> None:
    assert world.run("adopt", "orders", "production", "--yes", "--label", "web1").exit_code == 0
    world.config.write_text(world.config.read_text() + "worker: {labels: [web1, eu]}\n")
    result = world.run("rollback", "orders", "production")
    assert result.exit_code == 3  # there is no release yet


def test_the_doctor_looks_at_a_host_only_from_itself(world: World) -> None:
    found = findings(world, "orders", "production", "--offline")
    assert only(found, "orders/production", "host")["verdict"] == "warning"
    assert ("orders/production", "owner") not in found
    found = findings(world, "orders", "production", "--offline", "--label", "web1")
    assert only(found, "orders/production", "owner")["verdict"] == "ok"


def test_the_doctor_says_that_nobody_serves_a_label_and_what_waits_for_it(world: World) -> None:
    with world.store() as store:
        register(store, "web2")
        found = only(findings(world, "--offline"), "orders/production", "worker")
        assert (found["verdict"], START in found["hint"]) == ("warning", True)
        request(store)
        found = only(findings(world, "--offline"), "installation", "deployments")
        assert found["verdict"] == "problem"
        assert found["message"] == f"orders/production waits: {LACK}"
        assert "web2" in only(findings(world, "--offline"), "installation", "worker")["message"]


def test_the_doctor_warns_of_two_machines_that_deploy_the_same(world: World) -> None:
    with world.store() as store:
        register(store, host="a", worker="w1")
        assert len(findings(world, "--offline")["installation", "worker"]) == 1
        register(store, host="b", worker="w2")
        listed, doubled = findings(world, "--offline")["installation", "worker"]
    assert (listed["verdict"], doubled["verdict"]) == ("ok", "problem")
    assert doubled["message"].startswith(f"{STAGING}: deployed on any of a, b")


def test_a_label_is_checked_like_one_of_the_file(world: World) -> None:
    result = world.run("deploy", "orders", "production", "--label", "web 1")
    assert result.exit_code == 2
    assert "'web 1' is no label" in result.stderr


def test_labels_of_the_machine_do_not_change_the_configuration_s_digest(world: World) -> None:
    before = wiring.load(str(world.config)).digest
    world.config.write_text(world.config.read_text() + "worker: {labels: [web1]}\n")
    configuration = wiring.load(str(world.config))
    assert configuration.settings.labels == ("web1",)
    assert configuration.digest == before
