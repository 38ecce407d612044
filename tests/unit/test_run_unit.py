"""Runs of systemd's jobs that a person asked for: their unit is started, and followed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fraisier.application.control import Control
from fraisier.application.perform_run import PerformRun
from fraisier.application.ports import Finished
from fraisier.application.run_unit import run_command_or_unit
from fraisier.deployers.timer_units import service_of
from fraisier.domain.job import JobKind, Keeper, Schedule
from tests.factories import KEY
from tests.unit.test_perform_run import World

INVOCATION = "a" * 32


class Systemd(World):
    """A host on which systemd keeps the job. `called` are the verbs of the program that was asked to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.with_job(keeper=Keeper.systemd, schedule=Schedule(expression="daily"), on_failure=("mourn",))
        self.called: list[str] = []
        self.is_active = False
        self.host.inspect = self.inspect  # type: ignore[method-assign]
        self.host.act = self.act  # type: ignore[method-assign]

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        state = "activating" if self.is_active else "inactive"
        shown = f"Id={service_of(KEY, 'main')}\nInvocationID={INVOCATION}\nActiveState={state}\n"
        return Finished(code=0, stdout=shown.encode() if argv[0] == "systemctl" else b"", stderr=b"")

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        verb = next(word for word in argv if word in ("start", "stop"))
        self.called.append(verb)
        self.is_active = verb == "start"
        return Finished(code=0, stdout=f"{INVOCATION}\n".encode(), stderr=b"")

    def followed_until(self, told: Callable[[Control], None]) -> None:
        self.ask()
        made, control = self.perform, Control()
        performers = {JobKind.command: run_command_or_unit}
        perform = PerformRun(
            made._tools, self.store, made._codec, self.find, performers=performers, listener=self.listen
        )
        threading.Timer(0.3, told, [control]).start()
        perform(self.claim(), control)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path)
    yield made
    made.store.close()


def test_who_calls_the_run_off_stops_its_unit(systemd: Systemd) -> None:
    systemd.followed_until(lambda control: control.cancel("bert"))
    assert systemd.called == ["start", "stop"]
    assert systemd.store.runs()[0]["status"] == "cancelled"


@pytest.mark.parametrize("ends", ["shut_down", "lose"])
def test_a_unit_goes_on_without_the_worker_that_follows_it(systemd: Systemd, ends: str) -> None:
    """To its own end, with its tries and hooks: an upgrade of Fraisier ends nothing that systemd runs."""
    systemd.followed_until(lambda control: getattr(control, ends)())
    assert systemd.called == ["start"]
    assert systemd.is_active
