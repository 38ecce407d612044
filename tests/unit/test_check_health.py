"""How often a starting service is looked at: soon at first, then at the configured interval."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from fraisier.application.check_health import CheckHealth, Watch
from fraisier.application.control import Control
from fraisier.application.ports import Health, UnitState
from fraisier.domain.errors import Cause, StepFailed


@dataclass
class Starting:
    """A service that answers from some moment on, and a clock that only the waiting moves."""

    answers_at: float
    time: float = 0.0
    looks: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, seconds: float) -> bool:
        self.time += seconds
        return False

    def probe(self) -> Health:
        self.looks.append(self.time)
        return Health(passed=self.time >= self.answers_at, detail="")

    def check(self, *, passes: int = 1, interval: float = 1.0) -> None:
        watch = Watch(look=None, probe=self.probe, passes=passes, interval=interval, timeout=30.0)
        CheckHealth(self, self.wait)(watch, lambda _: None, Control())


@pytest.mark.parametrize("start", [0.1, 0.3, 1.0, 4.0])
def test_a_service_is_found_healthy_soon_after_it_started(start):
    service = Starting(start)
    service.check()
    assert start <= service.time <= max(start + 0.06, start * 1.25)


def test_passes_are_an_interval_apart():
    service = Starting(0.0)
    service.check(passes=3)
    assert service.looks == [0.0, 1.0, 2.0]


def test_a_slow_service_is_asked_no_more_often_than_configured():
    service = Starting(float("inf"))
    with pytest.raises(StepFailed):
        service.check()
    late = [b - a for a, b in zip(service.looks, service.looks[1:], strict=False) if a > 5]
    assert late
    assert min(late) == pytest.approx(1.0)
    assert len(service.looks) < 60


def test_an_interval_below_the_first_pauses_is_kept():
    service = Starting(0.2)
    service.check(interval=0.01)
    assert service.time < 0.22


@dataclass
class Crowd(Starting):
    """A service whose socket is held for it: who asks waits, and everybody who came before goes first."""

    answers_at: float = float("inf")
    crashes_at: float = float("inf")
    waits: bool = True
    served: threading.Event = field(default_factory=threading.Event)

    def probe(self) -> Health:
        self.looks.append(self.time)
        if self.waits:
            self.served.wait()
        return Health(passed=True, detail="HTTP 200")

    def look(self) -> UnitState:
        self.time += 0.1
        if self.time >= self.answers_at:
            self.served.set()
        return UnitState(known=True, running=True, restarts=int(self.time >= self.crashes_at), invocation="a")

    def check(self, *, passes: int = 1, interval: float = 1.0) -> None:
        watch = Watch(
            look=self.look, probe=self.probe, in_line=0.001, passes=passes, interval=interval, timeout=30.0
        )
        try:
            CheckHealth(self, self.wait)(watch, lambda _: None, Control())
        finally:
            self.served.set()


def test_in_line_it_asks_once_and_waits_for_its_turn():
    service = Crowd(answers_at=1.0)
    service.check()
    assert len(service.looks) == 1, "asking again would have been at the end of the line"
    assert service.time < 30


def test_in_line_each_pass_is_asked_for_anew():
    service = Crowd(waits=False)
    service.check(passes=2)
    assert len(service.looks) == 2


def test_in_line_a_unit_that_crashes_is_not_waited_for():
    service = Crowd(crashes_at=0.5)
    with pytest.raises(StepFailed, match="crashed"):
        service.check()
    assert service.time < 1


def test_in_line_a_service_that_accepts_nobody_is_waited_for_no_longer_than_configured():
    service = Crowd()
    with pytest.raises(StepFailed, match="30 s ago"):
        service.check()
    assert len(service.looks) == 1


def test_in_line_what_the_probe_raises_is_raised():
    def cannot() -> Health:
        raise StepFailed(Cause.host, "cannot reach web1")

    service = Crowd()
    watch = Watch(look=service.look, probe=cannot, in_line=0.001)
    with pytest.raises(StepFailed, match="web1"):
        CheckHealth(service, service.wait)(watch, lambda _: None, Control())
