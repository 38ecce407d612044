"""`run`, `runs`, and what `show`, `logs`, `cancel` and `status` say of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraisier.application.ports import RunClaim, Store
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.run import Alert, AlertKind, RunEnding, RunStatus, RunWish
from tests.unit.cli_world import World, deploy
from tests.unit.store_contract import sha, wish

KEY = EnvironmentKey("nightly", "production")
PIPELINE = """
  nightly:
    type: etl
    repository: acme/nightly
    clone_url: {folder}/origin.git
    environments:
      production:
        branch: main
        app_path: {folder}/nightly
        command: sh load.sh
        parameters: {{day: today}}
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World.create(tmp_path)
    made.config.write_text(made.config.read_text() + PIPELINE.format(folder=tmp_path))
    return made


def begun(store: Store, **parameters: str) -> RunClaim:
    store.register_worker("w1", info={"host": "here", "pid": 1})
    store.request_run(RunWish(environment=KEY, job="main", parameters=parameters, requested_by="ada"))
    claim = store.claim_run("w1", environments=[KEY])
    assert claim is not None
    return claim


def test_runs_are_listed_shown_and_their_output_printed(world: World) -> None:
    with world.store() as store:
        claim = begun(store, day="monday")
        store.write_run_output(claim, "3 rows\n")
        ending = RunEnding(
            status=RunStatus.failed, cause=Cause.run, error="exit code 3", hint="look", exit_code=3,
            peak_memory=5 * 1024 * 1024, artefacts=("/data/x.csv",),
        )  # fmt: skip
        store.finish_run(claim, ending)
    listed = world.run("runs", "nightly")
    assert listed.exit_code == 0
    assert [word in listed.stdout for word in (claim.id, "main", "failed", "manual", "exit code 3")] == [
        True
    ] * 5
    (row,) = json.loads(world.run("runs", "--json", "--job", "main").stdout)
    assert (row["id"], row["parameters"]) == (claim.id, {"day": "monday"})
    assert world.run("runs", "--status", "success").stdout == ""
    shown = world.run("show", claim.id[:8]).stdout
    assert [word in shown for word in ("day=monday", "5.0 MiB", "/data/x.csv", "exit code 3", "ada")] == [
        True
    ] * 5
    assert json.loads(world.run("show", claim.id, "--json").stdout)["exit_code"] == 3
    for args in (("logs", claim.id[:8]), ("logs", "nightly", "production"), ("logs", "-f", claim.id)):
        assert world.run(*args).stdout == "3 rows\n"
    by_job = world.run("logs", "nightly", "production", "--job", "main", "--json").stdout
    assert [piece["text"] for piece in json.loads(by_job)] == ["3 rows\n"]
    assert world.run("logs", "nightly", "production", "--job", "other").exit_code == 3


def test_logs_of_an_environment_are_those_of_what_was_asked_for_last(world: World) -> None:
    with world.store() as store:
        store.finish_run(begun(store), RunEnding(status=RunStatus.success))
        store.retire_worker("w1")
        deploy(store, KEY)
    assert "built" in world.run("logs", "nightly", "production").stdout


def test_logs_find_the_run_however_many_were_skipped_since(world: World) -> None:
    with world.store() as store:
        store.write_run_output(begun(store), "3 rows\n")
        for number in range(25):
            store.note_missed(RunWish(environment=KEY, job="main", due=float(number + 1)), why="too many")
    assert world.run("logs", "nightly", "production", "--job", "main").stdout == "3 rows\n"
    assert world.run("logs", "nightly", "production").stdout == "3 rows\n"


def test_what_is_wrong_is_said_with_its_exit_status(world: World) -> None:
    for args, status, said in (
        (("run", "nightly", "nowhere"), 3, "nowhere"),
        (("run", "orders", "production"), 3, "no jobs"),
        (("run", "nightly", "production", "other"), 3, "'other'"),
        (("run", "nightly", "production", "--param", "day"), 2, "NAME=VALUE"),
        (("run", "nightly", "production", "--param", "x=1"), 2, "no such one"),
        (("runs", "nobody"), 3, "nobody"),
        (("cancel", "00000000"), 3, "a deployment or a run"),
        (("show", ""), 3, "a deployment or a run"),
    ):
        result = world.run(*args)
        assert (result.exit_code, said in result.stderr) == (status, True), (args, result.output)


def test_a_run_is_not_meant_where_several_deployments_may_be(world: World) -> None:
    with world.store() as store:
        run, ids = begun(store).id, list[str]()
        while sum(each[0] == run[0] for each in ids) < 2:
            requested = store.request(wish(sha(len(ids) + 1)))
            assert requested.deployment is not None
            ids.append(requested.deployment.id)
    for command in ("cancel", "show", "logs"):
        result = world.run(command, run[0])
        assert (result.exit_code, "more than one begins like this" in result.stderr) == (3, True), (
            result.output
        )
    with world.store() as store:
        assert store.run(run)["status"] == "running"


def test_a_run_that_nobody_takes_is_stored_and_said_so(world: World) -> None:
    result = world.run("run", "nightly", "production", "--no-wait", "--param", "day=$(reboot); x")
    assert (result.exit_code, "no worker lives" in result.stderr) == (4, True)
    with world.store() as store:
        (row,) = store.runs()
    assert (result.stdout.strip(), row["status"], row["parameters"]) == (
        row["id"],
        "pending",
        {"day": "$(reboot); x"},
    )
    assert world.run("run", "nightly", "production", "--no-wait").exit_code == 1
    cancelled = world.run("cancel", row["id"][:8])
    assert (cancelled.exit_code, "is cancelled" in cancelled.stdout) == (0, True)
    assert world.run("cancel", row["id"][:8]).exit_code == 1


def test_a_run_under_way_is_asked_to_stop(world: World) -> None:
    with world.store() as store:
        claim = begun(store)
        result = world.run("cancel", claim.id)
        assert "is being stopped" in result.stdout
        assert list(store.run_cancel_requests("w1")) == [claim.id]


def test_a_run_where_nothing_was_deployed_fails_in_this_process(world: World) -> None:
    result = world.run("run", "nightly", "production")
    assert (result.exit_code, "no release is there" in result.stderr) == (1, True), result.output
    assert "fraisier deploy nightly production" in result.stderr


def test_status_shows_the_last_run_and_what_a_person_should_look_at(world: World) -> None:
    with world.store() as store:
        before = world.run("status").stdout
        assert "LAST RUN" not in before
        store.finish_run(begun(store), RunEnding(status=RunStatus.failed))
        store.raise_alert(Alert(environment=KEY, job="main", kind=AlertKind.failed, message="it failed"))
    shown = world.run("status").stdout
    assert [word in shown for word in ("LAST RUN", "failed", "unhealthy", "main: it failed")] == [True] * 4
    (row,) = json.loads(world.run("status", "nightly", "--json").stdout)
    assert (row["alerts"], row["last_run_status"], row["healthy"]) == (1, "failed", False)
