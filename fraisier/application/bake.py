"""Goes on watching a release that serves: what fails late is a failure, too."""

from __future__ import annotations

from collections.abc import Callable

from fraisier.application.check_health import Watch, observe
from fraisier.application.control import Control
from fraisier.application.ports import Clock
from fraisier.domain.errors import Cause, StepFailed


class BakeRelease:
    """Healthy stays: no crash, no restart, and never as many failed probes in a row as a check has passes."""

    def __init__(self, clock: Clock, wait: Callable[[float], bool]) -> None:
        """`wait` sleeps for some seconds and returns True as soon as the deployment is to stop."""
        self._clock = clock
        self._wait = wait

    def __call__(self, watch: Watch, say: Callable[[str], None], control: Control) -> None:
        """Return when `watch.timeout` seconds have passed well. `watch.old` counts for nothing here.

        Raises:
            StepFailed: unhealthy, with what was seen.
            Stopped: it was told to stop.
        """
        until = self._clock.monotonic() + watch.timeout
        first, row, last = "", 0, ""
        while True:
            state, health = observe(watch)
            first = first or state.invocation
            if state.restarts or (state.invocation and state.invocation != first):
                raise _failed("the unit was restarted: it crashes")
            if watch.look and state.settled and not state.running:
                raise _failed(f"the unit is not running any more: {state.detail}")
            row = 0 if health.passed else row + 1
            if health.detail != last:
                say(health.detail)
                last = health.detail
            if row >= watch.passes:
                raise _failed(f"{row} probes in a row failed: {health.detail}")
            remaining = until - self._clock.monotonic()
            if remaining <= 0:
                return
            if self._wait(min(watch.interval, remaining)):
                control.check_halt()
                control.check()


def _failed(message: str) -> StepFailed:
    return StepFailed(
        Cause.unhealthy,
        f"cannot leave the release serving: {message}",
        "Look at the unit's own log: fraisier logs FRAISE ENVIRONMENT --unit",
    )
