"""Following a deployment: everything that happens is seen once, in order, and the end is the end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fraisier.application.find_workers import FindWorkers
from fraisier.application.follow_deployment import FollowDeployment
from fraisier.application.ports import Ending, Store
from fraisier.application.watch_worker import WorkerWatch
from fraisier.domain.deployment import Status
from fraisier.domain.errors import NotFound, NoWorker
from fraisier.domain.plan import Phase, StepName, StepState
from tests.fakes import FakeClock
from tests.unit.cli_world import World, begin, deploy, request


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path)


def test_what_has_ended_is_one_glimpse(world: World) -> None:
    with world.store() as store:
        identifier = deploy(store)
        glimpses = list(FollowDeployment(store)(identifier))
    assert [glimpse.status for glimpse in glimpses] == [Status.success]
    assert [step["step"] for step in glimpses[0].steps] == ["fetch", "build"]
    assert "".join(piece.text for piece in glimpses[0].output) == "built\n"


def test_steps_and_output_are_seen_while_they_happen(world: World) -> None:
    with world.store() as store:
        identifier = request(store).id
        glimpses = FollowDeployment(store, poll=0.01)(identifier)
        assert next(glimpses).status == "pending"
        claim, attempt = begin(store)
        number = store.begin_step(
            claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-aaaaaaaaaa"
        )
        store.write_output(claim, number, "one\n")
        seen = next(glimpses)
        while not seen.output:
            seen = next(glimpses)
        assert seen.steps[-1]["state"] == "running"
        store.write_output(claim, number, "two\n")
        assert [piece.text for piece in next(glimpses).output] == ["two\n"]
        store.end_step(claim, number, state=StepState.success, tail="two\n")
        store.finish(claim, attempt, Ending(status=Status.cancelled))
        assert [glimpse.status for glimpse in glimpses][-1] == "cancelled"


def test_the_end_is_noticed_at_once_and_not_at_the_next_look(world: World) -> None:
    with world.store() as store:
        identifier = request(store).id
        seen: list[str] = []
        ready, ended = threading.Event(), threading.Event()

        def follow() -> None:
            for glimpse in FollowDeployment(store, poll=60.0)(identifier, attend=ready.set):
                seen.append(glimpse.status)
            ended.set()

        thread = threading.Thread(target=follow)
        thread.start()
        assert ready.wait(10)
        store.cancel(identifier, by="ada")
        assert ended.wait(10)
        thread.join()
    assert seen == ["pending", "cancelled"]


def test_output_that_was_seen_before_is_not_repeated(world: World) -> None:
    with world.store() as store:
        identifier = deploy(store)
        (first,) = FollowDeployment(store)(identifier)
        (again,) = FollowDeployment(store)(identifier, after=first.output[-1].seq)
    assert again.output == []


def test_whoever_attends_can_end_the_waiting(world: World) -> None:
    def give_up() -> None:
        raise NoWorker("cannot wait")

    with world.store() as store:
        identifier = request(store).id
        with pytest.raises(NoWorker):
            list(FollowDeployment(store)(identifier, attend=give_up))


def test_an_unknown_deployment_is_not_found(world: World) -> None:
    with world.store() as store, pytest.raises(NotFound):
        list(FollowDeployment(store)("ffffffff"))


def test_a_missing_worker_is_forgiven_for_a_while(world: World) -> None:
    clock = FakeClock()
    with world.store() as store:
        watch = worker_watch(store, clock)
        clock.advance(9.0)
        watch()
        clock.advance(2.0)
        with pytest.raises(NoWorker) as refused:
            watch()
    assert "fraisier serve" in refused.value.hint


def worker_watch(store: Store, clock: FakeClock) -> WorkerWatch:
    """For a deployment that was just requested."""
    deployment = request(store).id
    return WorkerWatch("deployment", lambda: FindWorkers(store).lack_of(deployment), clock, patience=10.0)


def test_a_living_worker_is_waited_for_for_ever(world: World) -> None:
    clock = FakeClock()
    with world.store() as store:
        store.register_worker("w1", info={"host": "here", "pid": 1, "version": "0", "digest": ""})
        watch = worker_watch(store, clock)
        for _ in range(5):
            clock.advance(60.0)
            watch()
