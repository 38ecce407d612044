"""Hooks: whenever a run has failed for good somebody is told, whoever performed it and died."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.control import Control
from fraisier.application.ports import Job as Listening
from fraisier.application.ports import RunClaim
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.job import Keeper
from fraisier.domain.run import Reported
from fraisier.domain.secret import MASK
from tests.factories import KEY
from tests.unit.test_perform_run import RELEASE, Death, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def left_by_a_dead_worker(world: World) -> RunClaim:
    world.ask()
    world.claim()
    world.store.retire_worker("w")
    world.store.register_worker("w2", info={})
    return world.claim("w2")


def left_by_a_worker_that_ends(world: World, line: str) -> RunClaim:
    """It is told to end in the middle of this line."""
    control = Control()

    def is_told(_: Command, job: Listening) -> int:
        control.shut_down()
        assert job.stop.wait(5)
        raise StepFailed(Cause.cancelled, "stopped")

    world.host.scripts[line] = is_told
    world.ask()
    assert world.perform(world.claim(), control) is None
    del world.host.scripts[line]
    world.store.retire_worker("w")
    world.store.register_worker("w2", info={})
    return world.claim("w2")


def hooks(world: World) -> list[str]:
    return [command.argv[2] for command in world.host.commands]


def test_what_a_dead_worker_left_for_good_is_followed_by_the_hooks_of_a_failure(world: World) -> None:
    world.with_job(on_failure=("mourn",), on_success=("cheer",))
    world.host.scripts["mourn"] = lambda _, job: job.output(b"hunter22") or 0
    row = world.perform(left_by_a_dead_worker(world), Control())
    assert row is not None
    assert (row["status"], row["cause"], hooks(world)) == ("failed", "interrupted", ["mourn"])
    hook = world.host.commands[0]
    assert (hook.env["FRAISIER_STATUS"], hook.env["FRAISIER_EXIT_CODE"]) == ("failed", "")
    assert "its worker died" in str(hook.env["FRAISIER_ERROR"])
    assert hook.cwd == str(world.app / "releases" / RELEASE)
    assert world.output(row["id"]).splitlines() == ["$ mourn", MASK]


def test_hooks_follow_only_the_last_try_that_was_interrupted(world: World) -> None:
    world.with_job(on_failure=("mourn",), retries=1, retry_delay=0.0)
    world.perform(left_by_a_dead_worker(world), Control())
    assert hooks(world) == []
    assert world.claim("w2").attempt == 2
    world.store.retire_worker("w2")
    world.store.register_worker("w3", info={})
    world.perform(world.claim("w3"), Control())
    assert hooks(world) == ["mourn"]


def test_no_hook_follows_what_was_called_off_whoever_ends_it(world: World) -> None:
    world.with_job(on_failure=("mourn",), on_success=("cheer",))
    world.ask()
    world.store.cancel_run(world.claim().id, by="bert")
    world.store.retire_worker("w")
    world.store.register_worker("w2", info={})
    world.perform(world.claim("w2"), Control())
    assert hooks(world) == []


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_death_beside_the_hook_leaves_nobody_untold(
    world: World, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    """At least once: who dies between the hook and the run's stored end is followed by another hook."""
    world.with_job(on_failure=("mourn",))
    world.host.scripts["load"] = 1

    def die(*_: Any) -> int:
        raise Death

    world.ask()
    with monkeypatch.context() as patched:
        if dies == "before":
            patched.setitem(world.host.scripts, "mourn", die)
        else:
            patched.setattr(world.store, "finish_run", die)
        with pytest.raises(Death):
            world.perform(world.claim(), Control())
    world.store.retire_worker("w")
    world.store.register_worker("w2", info={})
    row = world.perform(world.claim("w2"), Control())
    assert row is not None
    assert row["status"] == "failed"
    assert hooks(world) == ["load", "mourn", "mourn"]
    assert world.store.claim_run("w2", environments=[KEY]) is None


def test_a_worker_that_is_stopped_leaves_the_hooks_of_a_failure_to_the_next_one(world: World) -> None:
    world.with_job(run="sleep 30", on_failure=("mourn",))
    row = world.perform(left_by_a_worker_that_ends(world, "sleep 30"), Control())
    assert row is not None
    assert (row["status"], row["cause"], hooks(world)) == ("failed", "interrupted", ["sleep 30", "mourn"])


def test_a_hook_that_is_cut_off_by_the_workers_end_is_run_by_the_next_one(world: World) -> None:
    world.with_job(run="exit 3", on_failure=("sleep 20",))
    left = left_by_a_worker_that_ends(world, "sleep 20")
    world.host.scripts["sleep 20"] = 0
    assert world.perform(left, Control()) is not None
    assert hooks(world) == ["exit 3", "sleep 20", "sleep 20"]


def test_a_run_ends_though_nobody_can_read_the_secrets_of_its_hooks(world: World) -> None:
    world.with_job(on_failure=("mourn",))
    claim = left_by_a_dead_worker(world)
    world.environment = replace(world.environment, env_file="/etc/orders.env")

    def away(*_: Any, **__: Any) -> bytes:
        raise StepFailed(Cause.host, "cannot read it")

    world.host.read = away  # type: ignore[method-assign]
    row = world.perform(claim, Control())
    assert row is not None
    assert (row["status"], hooks(world)) == ("failed", [])
    assert world.told == ["hooks_not_run"]


def test_what_a_power_cut_left_of_systemds_is_followed_by_its_hooks_and_by_no_try(world: World) -> None:
    """Its unit, which has the tries, was not there any more to run them."""
    world.with_job(keeper=Keeper.systemd, on_failure=("mourn",), retries=3, retry_delay=0.0)
    reported = Reported(environment=KEY, host="localhost", job="main", invocation="i-1", started_at=1.0)
    world.store.report_run(replace(reported, left=True))
    row = world.perform(world.claim(), Control())
    assert row is not None
    assert (row["status"], row["cause"], hooks(world)) == ("failed", "interrupted", ["mourn"])
    assert "lost its power" in row["error_message"]
    assert world.store.runs(status="pending") == []


def test_hooks_of_a_unit_whose_follower_died_are_the_units(world: World) -> None:
    world.with_job(keeper=Keeper.systemd, on_failure=("mourn",))
    world.perform(left_by_a_dead_worker(world), Control())
    assert hooks(world) == []
