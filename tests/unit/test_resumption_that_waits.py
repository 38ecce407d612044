"""What is half done is taken over although its host cannot be had at once; and which numbers are free there."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest

from fraisier.application.control import Control
from fraisier.application.ports import Ground, Job
from fraisier.application.tools import Retries
from fraisier.domain.acts import Command
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Database
from tests.factories import SHA_A, SHA_B
from tests.fakes import FakeHost, FakeUnits
from tests.unit.test_run_deployment import Death, World

HELD = StepFailed(Cause.host, "cannot lock: another process has held it for 100 s")
FULL = StepFailed(Cause.disk, "cannot write the token: No space left on device")


class BusyHost(FakeHost):
    """One that cannot be taken over as long as `refusals` has something to say."""

    def __init__(self, units: FakeUnits) -> None:
        super().__init__(units=units)
        self.refusals: list[StepFailed] = []
        self.lasting: StepFailed | None = None

    def adopt(self, ground: Ground, *, force: bool = False) -> None:
        if self.lasting:
            raise self.lasting
        if self.refusals:
            raise self.refusals.pop(0)
        super().adopt(ground, force=force)


class FullHost(BusyHost):
    """One whose disk has no room for the next `refuses` links and commands."""

    refuses = 0

    def _write(self) -> None:
        if self.refuses:
            self.refuses -= 1
            raise OSError(errno.ENOSPC, "No space left on device")

    def point(self, link: str, to: str) -> None:
        self._write()
        super().point(link, to)

    def run(self, ground: Ground, command: Command, job: Job) -> int:
        self._write()
        return super().run(ground, command, job)


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    made.host = FullHost(made.units)
    made.retries = Retries(first=0.01, longest=0.02)
    for sha in (SHA_A, SHA_B):
        made.repository.commit(sha)
    made.deploy(SHA_A)
    yield made
    made.store.close()


def half_done(world: World, step: str = "restart") -> str:
    """A deployment of SHA_B whose worker died behind the switch."""
    deployment = world.wish(SHA_B)
    world.dies = ("step_started", step)
    claim = world.claim()
    with contextlib.suppress(Death):
        world.run(claim, Control())
    world.dies = ("", "")
    world.store.hand_back(claim)
    return deployment


@pytest.mark.parametrize("refusal", [HELD, FULL], ids=["held", "full"])
def test_a_host_that_can_be_had_a_little_later_is_waited_for(world, refusal):
    deployment = half_done(world)
    world.host.refusals = [refusal] * 3
    ended = world.run(world.claim(), Control())
    assert (ended.id, ended.status) == (deployment, Status.success)
    assert world.serves() == SHA_B
    assert ended.release == "2-bbbbbbbbbb"


def test_a_host_that_cannot_be_had_for_long_ends_the_deployment_and_says_so(world):
    half_done(world)
    world.host.lasting = HELD
    world.configure(retry_for=0.0)
    world.codec.kept = dict.fromkeys(world.codec.kept, world.environment)  # as it was resolved when it began
    ended = world.run(world.claim(), Control())
    assert (ended.status, ended.cause) == (Status.rollback_failed, Cause.host)
    assert "held" in ended.error_message


@pytest.mark.parametrize("halt", ["shut_down", "lose"])
def test_a_worker_that_is_to_end_waits_no_longer(world, halt):
    deployment = half_done(world)
    world.host.lasting = HELD
    world.retries = Retries(first=400.0)
    control = Control()
    getattr(control, halt)()
    assert world.run(world.claim(), control) is None
    assert world.store.deployment(deployment)["status"] == "running"


def test_a_cancel_while_the_host_cannot_be_had_goes_back_as_soon_as_it_can(world):
    half_done(world)
    world.host.refusals = [HELD] * 3
    control = Control()
    control.cancel("bob")
    ended = world.run(world.claim(), control)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.cancelled)
    assert world.serves() == SHA_A


def test_a_folder_that_is_no_whole_release_uses_up_no_number(world):
    """To count up to it would take a day, and its number has no successor of the same length."""
    (world.app / "releases" / "999999999-abcdef0").mkdir()
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.release) == (Status.success, "2-bbbbbbbbbb")
    assert not (world.app / "releases" / "999999999-abcdef0").exists()


@pytest.mark.parametrize("refusals", [1, 2, 5])
def test_a_disk_that_is_full_on_the_way_back_is_waited_for(world, refusals):
    world.configure(database=Database(up="echo up", down="echo down"))

    def fill(step: str, phase: str) -> None:
        if (step, phase) == ("activate", "deploy"):
            world.host.refuses = refusals

    world.on_step = fill
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.disk)
    assert world.serves() == SHA_A
    assert "The way back failed" not in ended.error_message
    assert [command.argv[-1] for command in world.host.commands].count("echo down") == 1
