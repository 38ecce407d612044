"""Waits until a unit's new invocation is healthy, or certainly is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fraisier.application.control import Control
from fraisier.application.ports import Clock, Health, UnitState
from fraisier.application.queued_probe import QueuedProbe
from fraisier.domain.errors import Cause, StepFailed

SOONEST = 0.03  # seconds between two looks at a service that has only just been started
LOOK = 0.1  # seconds that an answer is waited for before the unit is looked at again
IN_LINE = Health(passed=False, detail="no answer yet: those who asked before are served first")
CRASH_LOOP = 3  # restarts by the process manager itself after which nobody has to wait for the timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is watched, and how long. Times in seconds.

    `look` asks the process manager (None: nothing is managed), `probe` asks the service (None: the unit's
    state is all there is). `old` is the invocation before the restart: it counts for nothing. With `in_line`
    whoever asks waits for the service to start: a probe may take as long as all of it, and the unit is looked
    at whenever there was no answer for so many seconds.
    """

    look: Callable[[], UnitState] | None
    probe: Callable[[], Health] | None
    old: str = ""
    in_line: float = 0.0
    passes: int = 2
    interval: float = 1.0
    timeout: float = 30.0


class CheckHealth:
    """Healthy is: N passes in a row of the same new invocation, without a restart in between."""

    def __init__(self, clock: Clock, wait: Callable[[float], bool]) -> None:
        """`wait` sleeps for some seconds and returns True as soon as the deployment is to stop."""
        self._clock = clock
        self._wait = wait

    def __call__(self, watch: Watch, say: Callable[[str], None], control: Control) -> None:
        """Return when healthy.

        Raises:
            StepFailed: unhealthy, with what was last seen.
            Stopped: it was told to stop.
        """
        began = self._clock.monotonic()
        deadline = began + watch.timeout
        row, seen, last = 0, ("", 0), ""
        queued = QueuedProbe(watch.probe) if watch.in_line and watch.probe else None
        while True:
            state, health = observe(watch, queued)
            if (state.invocation, state.restarts) != seen:
                row, seen = 0, (state.invocation, state.restarts)
            if health is IN_LINE:
                if self._clock.monotonic() > deadline:
                    raise _unhealthy(f"it was asked {watch.timeout:g} s ago, and has not answered")
                self._go_on(0.0, control)
                continue
            row = row + 1 if health.passed else 0
            if health.detail != last:
                say(health.detail)
                last = health.detail
            if row >= watch.passes:
                return
            # Who waits in line would wait for a unit that cannot be found healthy any more.
            if state.restarts >= (1 if watch.in_line else CRASH_LOOP):
                raise _unhealthy(f"the unit crashed and was restarted {state.restarts} times")
            if _is_dead(state, watch):
                raise _unhealthy(f"the unit is not running: {state.detail or health.detail}")
            pause = watch.interval if row else _until_next(self._clock.monotonic() - began, watch.interval)
            if self._clock.monotonic() + pause > deadline:
                raise _unhealthy(
                    f"no {watch.passes} passes in a row within {watch.timeout:g} s: {health.detail}"
                )
            self._go_on(pause, control)

    def _go_on(self, pause: float, control: Control) -> None:
        if self._wait(pause):
            control.check_halt()
            control.check()


def _until_next(passed: float, interval: float) -> float:
    """Seconds until the next look while nothing has passed yet.

    Most services answer within a moment of their start: who has waited for 0.1 s should not wait for a
    whole interval more. A look is late by at most a fifth of the time that the service needed.
    """
    return min(interval, max(SOONEST, passed / 5))


def observe(watch: Watch, queued: QueuedProbe | None = None) -> tuple[UnitState, Health]:
    """What the manager and the service say now: IN_LINE, if the service says nothing yet."""
    state = watch.look() if watch.look else UnitState(known=True, running=True)
    if not state.running or not state.settled:
        return state, Health(passed=False, detail=state.detail or "the unit is starting")
    if watch.look and state.invocation == watch.old:
        return state, Health(passed=False, detail="the old invocation of the unit still runs")
    if state.restarts:
        return state, Health(
            passed=False, detail=f"the unit was restarted {state.restarts} times: it crashes"
        )
    if watch.probe is None:
        return state, Health(passed=True, detail="the unit runs")
    health = (queued(watch.in_line) or IN_LINE) if queued else watch.probe()
    if not health.passed or watch.look is None:
        return state, health
    after = watch.look()
    if (after.invocation, after.restarts) != (state.invocation, state.restarts):
        return after, Health(passed=False, detail="the unit was restarted during the check")
    return state, health


def _is_dead(state: UnitState, watch: Watch) -> bool:
    return watch.look is not None and state.settled and not state.running


def _unhealthy(message: str) -> StepFailed:
    return StepFailed(
        Cause.unhealthy,
        f"cannot call the release healthy: {message}",
        "Look at the unit's own log: fraisier logs FRAISE ENVIRONMENT --unit",
    )
