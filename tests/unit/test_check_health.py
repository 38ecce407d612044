"""How often a starting service is looked at: soon at first, then at the configured interval."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from fraisier.application.check_health import CheckHealth, Watch
from fraisier.application.control import Control
from fraisier.application.ports import Health
from fraisier.domain.errors import StepFailed


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
