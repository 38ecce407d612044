"""The command line where an environment has several hosts: each one is named, and a terminal stays readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.ports import Ending, Serving, Store
from fraisier.cli.host_steps import Folding, in_few_words
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.rollout import HostState, Standing
from tests.unit.cli_world import SHA, World, begin, request

RELEASE = "1-5f1c0d2a77"
HOSTS = ("web1", "web2", "web3")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """production is on three hosts."""
    return on_hosts(World.create(tmp_path), *HOSTS)


def on_hosts(world: World, *hosts: str, rollout: str = "batch: 1, max_failures: 1") -> World:
    several = f"production: {{hosts: [{', '.join(hosts)}], rollout: {{{rollout}}}, branch"
    world.config.write_text(world.config.read_text().replace("production: {branch", several))
    return world


def deployed(store: Store, *lost: Standing) -> str:
    """A deployment that succeeded on all hosts but those that are lost."""
    deployment = request(store)
    claim, attempt = begin(store)
    standings = {
        name: Standing(host=name, state=HostState.current, release=RELEASE, commit=SHA) for name in HOSTS
    }
    standings |= {each.host: each for each in lost}
    for name in HOSTS:
        number = store.begin_step(
            claim, attempt, phase=Phase.deploy, name=StepName.build, release=RELEASE, host=name
        )
        store.write_output(claim, number, f"built on {name}\n")
        failed = standings[name].state is not HostState.current
        state = StepState.failed if failed else StepState.success
        failure = StepFailed(Cause.host, standings[name].detail) if failed else None
        store.end_step(claim, number, state=state, tail="", failure=failure)
    serving = Serving(release=RELEASE, commit=SHA, healthy=not lost)
    store.finish(
        claim, attempt, Ending(status=Status.success, serving=serving, hosts=tuple(standings.values()))
    )
    store.retire_worker("w1")
    return deployment.id


AWAY = Standing(
    host="web2",
    state=HostState.unreachable,
    release="0-old",
    cause=Cause.network,
    detail="web2: no route to host",
)


def test_status_has_a_line_for_each_host(world: World) -> None:
    with world.store() as store:
        deployed(store, AWAY)
        shown = world.run("status", "orders", "production").stdout.splitlines()
        (row,) = json.loads(world.run("status", "orders", "production", "--json").stdout)
    assert [line.split()[:2] for line in shown[2:]] == [
        ["-", "web1"],
        ["-", "web2"],
        ["-", "web3"],
    ]
    assert "unreachable" in shown[3]
    assert "0-old" in shown[3]
    assert "no route to host" in shown[3]
    assert [(host["host"], host["state"], host["release"]) for host in row["hosts"]] == [
        ("web1", "current", RELEASE),
        ("web2", "unreachable", "0-old"),
        ("web3", "current", RELEASE),
    ]
    assert row["healthy"] is False


def test_status_of_one_host_is_one_line_and_names_it_in_json(world: World) -> None:
    with world.store():
        shown = world.run("status", "orders", "staging").stdout.splitlines()
        (row,) = json.loads(world.run("status", "orders", "staging", "--json").stdout)
    assert len(shown) == 2
    assert [host["host"] for host in row["hosts"]] == ["localhost"]


def test_of_many_hosts_those_that_are_as_they_should_be_are_counted(tmp_path: Path) -> None:
    names = [f"web{number}" for number in range(1, 31)]
    world = on_hosts(World.create(tmp_path), *names)
    with world.store() as store:
        request(store)
        claim, attempt = begin(store)
        standings = [Standing(host=name, state=HostState.current, release=RELEASE) for name in names[2:]]
        serving = Serving(release=RELEASE, commit=SHA, healthy=False)
        store.finish(claim, attempt, Ending(status=Status.success, serving=serving, hosts=(AWAY, *standings)))
        shown = world.run("status", "orders", "production").stdout.splitlines()
    assert len(shown) == 2 + 3
    assert "28 hosts" in shown[-1]


def test_show_tells_steps_by_host_and_where_each_one_stands(world: World) -> None:
    with world.store() as store:
        deployment = deployed(store, AWAY)
        shown = world.run("show", deployment).stdout
        told = json.loads(world.run("show", deployment, "--json").stdout)
        logs = world.run("logs", deployment).stdout
    assert "build on web1" in shown
    assert "unreachable, runs 0-old: web2: no route to host" in shown
    assert [step["host"] for step in told["steps"]] == list(HOSTS)
    assert [host["state"] for host in told["hosts"]] == ["current", "unreachable", "current"]
    assert "build on web3" in logs


def test_plan_shows_who_comes_when(tmp_path: Path) -> None:
    names = [f"web{number}" for number in range(1, 6)]
    world = on_hosts(World.create(tmp_path), *names, rollout='batch: "40%", pause: 10s')
    shown = world.run("plan", "orders", "production").stdout
    assert "On 5 hosts" in shown
    assert "  1. web1\n  2. web2, web3\n  3. web4, web5\n" in shown
    assert "10 s apart" in shown
    told = json.loads(world.run("plan", "orders", "production", "--json").stdout)
    assert told["rollout"] == [["web1"], ["web2", "web3"], ["web4", "web5"]]


# ------------------------------------------------------------------------------------------- the progress


def row(number: int, step: str, host: str, state: str = "success", **fields: Any) -> dict[str, Any]:
    times = {"started_at": "2026-11-22T10:00:00.000000Z", "ended_at": "2026-11-22T10:00:01.000000Z"}
    return {
        "id": number,
        "attempt": 1,
        "phase": "deploy",
        "step": step,
        "host": host,
        "state": state,
        **times,
        **fields,
    }


def told(folding: Folding, *steps: dict[str, Any], final: bool = False) -> list[list[str]]:
    return [[step["host"] for step in together] for together in folding.ended(steps, final=final)]


def test_the_same_step_on_many_hosts_is_told_when_all_of_them_have_ended() -> None:
    folding = Folding()
    first, second = row(1, "build", "web1"), row(2, "build", "web2", "running")
    assert told(folding, first, second) == []
    ended = row(2, "build", "web2")
    assert told(folding, first, ended) == []  # a third host may come to it
    assert told(folding, first, ended, row(3, "activate", "web1", "running")) == [["web1", "web2"]]
    assert told(folding, first, ended, row(3, "activate", "web1"), final=True) == [["web1"]]


def test_a_host_that_failed_is_told_at_once_and_by_itself() -> None:
    folding = Folding()
    steps = row(1, "build", "web1", "running"), row(2, "build", "web2", "failed", error="oops")
    assert told(folding, *steps) == [["web2"]]


def test_many_names_are_counted_and_as_many_shown_as_fit() -> None:
    assert in_few_words(["web1", "web2"], 40) == "web1, web2"
    many = in_few_words([f"web{number}" for number in range(1, 101)], 40)
    assert many.startswith("100 hosts: web1, web2")
    assert len(many) <= 40
