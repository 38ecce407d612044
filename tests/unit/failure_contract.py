"""A worker that is killed right after a step had failed changes nothing about how the deployment ends.

Used like `store_contract`: what a successor knows of the failure is what the store has kept of it.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fraisier.application.control import Control
from fraisier.application.ports import Finished, Ground, Job, Store
from fraisier.application.tools import Retries
from fraisier.domain.acts import Command
from fraisier.domain.deployment import Deployment, Status
from fraisier.domain.errors import Cause, HostUnreachable, StepFailed
from fraisier.domain.fraise import Database
from tests.factories import KEY, SHA_A, SHA_B, SHA_C
from tests.fakes import FakeHost, FakeUnits
from tests.unit.test_run_deployment import Death, World

FULL = OSError(errno.ENOSPC, "No space left on device")
AWAY = HostUnreachable(Cause.host, "cannot reach web1: no route", "See that it is switched on")
ABSENT = StepFailed(Cause.network, "cannot reach the forge", "See that the forge answers")
NO_END = StepFailed(Cause.timeout, "cannot build: it took more than 600 s")


@dataclass(frozen=True)
class Failure:
    """What goes wrong in a step, and how the deployment ends; `times`: after so many it goes well.

    `cancelled`: while it does, somebody calls the deployment off.
    """

    step: str
    why: Exception | None  # None: what is done there ends badly by itself, because of the commit
    status: Status
    cause: Cause | None = None
    barred: bool = False
    times: int = 1
    cancelled: bool = False


LASTS = 100  # times
FAILURES = {
    "network, for a while": Failure("fetch", ABSENT, Status.success),
    "network, for long": Failure("fetch", ABSENT, Status.failed, Cause.network, times=LASTS),
    "full disk, for a while": Failure("build", FULL, Status.success),
    "full disk, for long": Failure("build", FULL, Status.failed, Cause.disk, times=LASTS),
    "host away, for a while": Failure("build", AWAY, Status.success),
    "host away in the migration": Failure("migrate", AWAY, Status.failed, Cause.host),
    "full disk at the switch": Failure("activate", FULL, Status.rolled_back, Cause.disk),
    "full disk behind the switch": Failure("restart", FULL, Status.rolled_back, Cause.disk),
    "host away behind the switch": Failure("restart", AWAY, Status.rolled_back, Cause.host),
    "called off in a bad build": Failure("build", None, Status.cancelled, Cause.cancelled, cancelled=True),
    "called off in a bad migration": Failure(
        "migrate", None, Status.cancelled, Cause.cancelled, cancelled=True
    ),
    "called off behind the switch": Failure(
        "restart", FULL, Status.rolled_back, Cause.cancelled, cancelled=True
    ),
    "bad build": Failure("build", None, Status.failed, Cause.build, barred=True),
    "endless build": Failure("build", NO_END, Status.failed, Cause.timeout, barred=True),
    "bad migration": Failure("migrate", None, Status.failed, Cause.migration, barred=True),
    "bad start": Failure("restart", None, Status.rolled_back, Cause.restart, barred=True),
    "sick": Failure("check_health", None, Status.rolled_back, Cause.unhealthy, barred=True),
}


class TroubledHost(FakeHost):
    """One on which the next command, link or unit's start fails for `trouble`."""

    def __init__(self, units: FakeUnits) -> None:
        super().__init__(units=units)
        self.trouble: Exception | None = None

    def _meet(self) -> None:
        trouble, self.trouble = self.trouble, None
        if trouble is not None:
            raise trouble

    def run(self, ground: Ground, command: Command, job: Job) -> int:
        self._meet()
        return super().run(ground, command, job)

    def point(self, link: str, to: str) -> None:
        self._meet()
        super().point(link, to)

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        self._meet()
        return super().act(argv, timeout=timeout)


class Stricken(World):
    """The update to SHA_B, in which one step fails."""

    def __init__(self, folder: Path, failure: Failure, store: Store | None = None) -> None:
        super().__init__(folder, store)
        self.host: TroubledHost = TroubledHost(self.units)
        self.retries = Retries(first=0.01, longest=0.02)
        self.configure(database=Database(up="echo up"), retry_for=0.3)
        for sha in (SHA_A, SHA_B, SHA_C):
            self.repository.commit(sha)
        self.deploy(SHA_A)
        self._failure, self._left = failure, failure.times
        self.control = Control()
        self.on_step = self._strike

    def _strike(self, step: str, phase: str) -> None:
        if phase == "rollback":
            self.units.failing = {}
        if (step, phase) != (self._failure.step, "deploy") or not self._left:
            return
        self._left -= 1
        if self._failure.cancelled:
            self.control.cancel("bob")
            self.store.cancel(self.store.history(limit=1)[0]["id"], by="bob")
        if self._failure.why is None:
            self._spoil(step)
        elif step == "fetch":
            self.repository.failures = [self._failure.why]
        else:
            self.host.trouble = self._failure.why

    def _spoil(self, step: str) -> None:
        """The commit is bad, each time that it is tried."""
        self._left = LASTS
        self.host.scripts.update({"echo building": 1} if step == "build" else {"echo up": 1})
        self.units.failing = {"restart": "no such program"} if step == "restart" else {}
        self.prober.unhealthy = {"2-bbbbbbbbbb"} if step == "check_health" else set()

    def is_killed(self) -> None:
        """Right after the journal has that the step failed; another worker takes over."""
        claim = self.claim()
        self.dies = ("step_ended", self._failure.step)
        with pytest.raises(Death):
            self.run(claim, self.control)
        self.dies, self.control = ("", ""), Control()
        self.store.register_worker("other", info={})
        self.store.hand_back(claim)

    def ends(self) -> Deployment:
        """Whoever goes on, and however often it is tried."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            claim = self.store.claim("w", lease=10, environments=[KEY])
            ended = self.run(claim, self.control) if claim else None
            if ended is not None and ended.status.is_final:
                return ended
            time.sleep(0.01)
        raise AssertionError("it did not end")

    def bars(self, commit: str) -> bool:
        """Whether only `--force` brings a commit again."""
        self.wish(SHA_C)
        return commit in self.claim().quarantined


def outcome(world: Stricken, *, killed: bool) -> tuple[object, ...]:
    """All that a person is told, and what is done next."""
    deployment = world.wish(SHA_B)
    if killed:
        world.is_killed()
    ended = world.ends()
    assert ended.id == deployment
    told = (ended.error_message, ended.hint.replace(deployment, "ID"))
    serving = (world.app / "current" / "app.txt").read_text()
    return (ended.status, ended.cause, *told, serving, world.bars(SHA_B))


class FailureContract:
    """At exactly that moment the successor judges as the dead one would have."""

    @pytest.mark.parametrize("name", FAILURES)
    def test_a_kill_right_after_a_failed_step_changes_nothing(self, store: Store, tmp_path: Path, name: str):
        failure = FAILURES[name]
        calm = Stricken(tmp_path / "undisturbed", failure)
        with contextlib.closing(calm.store):
            undisturbed = outcome(calm, killed=False)
        killed = outcome(Stricken(tmp_path / "killed", failure, store), killed=True)
        assert killed == undisturbed
        assert killed[:2] == (failure.status, failure.cause)
        assert killed[-1] is failure.barred
