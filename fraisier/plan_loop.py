"""Plans runs and watches over them: a loop of its own beside a worker's deployments, in one worker of all."""

from __future__ import annotations

import time
from collections.abc import Callable

from fraisier.application.find_workers import is_eldest
from fraisier.application.plan_runs import PlanRuns
from fraisier.application.watch_backups import WatchBackups
from fraisier.application.watch_runs import WatchRuns
from fraisier.loop import SLOW_POLL, Loop, Tell
from fraisier.wiring import Fraisier

WATCH_PAUSE = 1.0  # seconds at least between two looks at what became of runs
BACKUPS_EVERY = 60.0  # seconds between two looks at how old verified backups are
_SHARE = 0.01  # of the time, at most, is spent on looking


class PlanLoop:
    """Runs in every worker, and does something in the eldest that has the published configuration."""

    def __init__(self, parts: Fraisier, worker: str, *, idle: Callable[[], str], tell: Tell) -> None:
        self._parts, self._worker, self._idle, self._tell = parts, worker, idle, tell
        self._plan = PlanRuns(parts.store, parts.clock, tell)
        self._watch = WatchRuns(parts.store, parts.clock, tell)
        self._watch_backups = WatchBackups(parts.store, parts.clock)
        self._watch_at = self._backups_at = 0.0  # monotonic seconds
        self._changed = True
        self._loop = Loop("worker-plan", self._plan_if_ours, tell)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._loop.start()

    def look(self) -> None:
        """Something may have changed."""
        self._changed = True
        self._loop.wake()

    def stop(self) -> None:
        """Plan nothing more."""
        self._loop.stop()
        self._loop.join()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._loop.alive

    def _plan_if_ours(self) -> float:
        digest = self._parts.configuration.digest
        if not self._idle() and is_eldest(self._parts.store, self._worker, digest):
            return self._look()
        self._plan.forget()
        self._watch.forget()
        return SLOW_POLL

    def _look(self) -> float:
        """Seconds until there is something to do again."""
        configuration = self._parts.configuration
        self._plan(configuration)
        now = time.monotonic()
        if now >= self._watch_at:
            self._changed = False
            self._watch(configuration)
            took = time.monotonic() - now
            self._watch_at = now + max(WATCH_PAUSE, took / _SHARE)
        if now >= self._backups_at:
            self._backups_at = now + BACKUPS_EVERY
            for alert in self._watch_backups(configuration.environments.values()):
                told = {"environment": str(alert.environment), "job": alert.job, "kind": alert.kind.value}
                self._tell("alert_raised", {**told, "message": alert.message, "run": alert.run})
        soon = max(0.0, self._watch_at - time.monotonic()) if self._changed else SLOW_POLL
        return min(SLOW_POLL, self._plan.due_in, soon)
