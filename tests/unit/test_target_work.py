"""A target that works by itself: in the step it belongs to, with what it started counting as the release's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.ports import Workplace
from fraisier.domain.acts import Command, TargetWork
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.plan import TargetActs
from tests.factories import SHA_A, SHA_B, SHA_C
from tests.fakes import FakeTarget
from tests.unit.test_run_deployment import World


class WorkingFake(FakeTarget):
    """Restarts only what is not running already, as Docker Compose does; `done` is what it was asked for."""

    def __init__(self, world: World) -> None:
        super().__init__(world.units)
        self.done: list[tuple[str, str]] = []
        self.failing: dict[str, StepFailed] = {}

    def acts(self, environment: Any, release_folder: str) -> TargetActs:
        super().acts(environment, release_folder)
        name = release_folder.rpartition("/")[2]

        def work(what: str) -> TargetWork:
            return TargetWork(work=what, release=name, shown=f"$ {what}", brings_in=what == "up")

        return TargetActs(
            build=(work("build"),),
            restart=(work("up"),),
            stop=(work("down"),),
            explain=(work("logs"),),
            discard=(work("discard"),),
        )

    def perform(self, work: TargetWork, place: Workplace) -> None:
        self.done.append((work.work, work.release.partition("-")[0]))
        if work.work in self.failing:
            raise self.failing[work.work]
        said = place.run(Command.shell("echo secret-9f3", cwd="/"), shown=work.work == "build")
        assert said.output == b"secret-9f3\n"
        with place.guard():
            self.units.running = work.work != "down"
            self.units.starts = self.units.starts or 1
        place.say(f"did {work.work} of {place.commit[:1]}")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    for sha in (SHA_A, SHA_B, SHA_C):
        made.repository.commit(sha)
    made.target = WorkingFake(made)
    made.configure(keep_releases=2)
    yield made
    made.store.close()


def test_what_had_not_to_be_started_anew_counts_as_the_releases(world: World) -> None:
    first, second = world.deploy(SHA_A), world.deploy(SHA_B)
    assert (first.status, second.status) == (Status.success, Status.success)
    assert world.units.starts == 1


def test_restarts_of_an_earlier_release_are_not_held_against_this_one(world: World) -> None:
    world.deploy(SHA_A)
    world.units.restarts = 7
    assert world.deploy(SHA_B).status is Status.success


def test_what_a_target_hears_is_shown_only_if_it_is_meant_to_be(world: World) -> None:
    deployed = world.deploy(SHA_A)
    shown = "".join(piece.text for piece in world.store.output(deployed.id, after=0, limit=1000))
    assert shown.count("secret-9f3") == 1
    assert "did build of a" in shown


def test_what_was_made_outside_of_a_releases_folder_goes_with_it(world: World) -> None:
    for commit in (SHA_A, SHA_B, SHA_C):
        assert world.deploy(commit).status is Status.success
    assert [name for what, name in world.target.done if what == "discard"] == ["1"]


def test_a_build_of_the_target_that_fails_leaves_no_whole_release(world: World) -> None:
    world.target.failing["build"] = StepFailed(Cause.build, "cannot build the images: no")
    ended = world.deploy(SHA_A)
    assert (ended.status, ended.cause) == (Status.failed, Cause.build)
    assert not (world.app / "current").exists()
    assert ("up", "1") not in world.target.done


def test_an_unhealthy_release_is_explained_before_it_goes(world: World) -> None:
    world.deploy(SHA_A)
    world.prober.unhealthy = {f"2-{SHA_B[:10]}"}
    assert world.deploy(SHA_B).status is Status.rolled_back
    assert world.target.done[-3:] == [("up", "2"), ("logs", "2"), ("up", "1")]


def test_what_cannot_explain_does_not_change_how_it_ends(world: World) -> None:
    world.deploy(SHA_A)
    world.target.failing["logs"] = StepFailed(Cause.host, "cannot show the logs")
    world.prober.unhealthy = {f"2-{SHA_B[:10]}"}
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.unhealthy)


def test_a_first_release_that_fails_is_taken_down(world: World) -> None:
    world.target.failing["up"] = StepFailed(Cause.restart, "cannot start the containers: port")
    assert world.deploy(SHA_A).status is Status.failed
    assert world.target.done[-1] == ("down", "1")
