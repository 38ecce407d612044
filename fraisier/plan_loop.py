"""Plans runs and watches over them: a loop of its own beside a worker's deployments, in one worker of all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fraisier.application.plan_runs import PlanRuns
from fraisier.application.ports import Row
from fraisier.application.watch_backups import WatchBackups
from fraisier.application.watch_runs import WatchRuns
from fraisier.domain.errors import StoreUnavailable
from fraisier.wiring import Fraisier

SLOW_POLL = 5.0  # seconds between two looks at the clock, which somebody may have set
WATCH_PAUSE = 1.0  # seconds at least between two looks at what became of runs
BACKUPS_EVERY = 60.0  # seconds between two looks at how old verified backups are
_SHARE = 0.01  # of the time, at most, is spent on looking


class PlanLoop:
    """Runs in every worker, and does something in the eldest that has the published configuration."""

    def __init__(
        self, parts: Fraisier, worker: str, *, idle: Callable[[], str], tell: Callable[[str, Row], None]
    ) -> None:
        self._parts, self._worker, self._idle, self._tell = parts, worker, idle, tell
        self._plan = PlanRuns(parts.store, parts.clock, tell)
        self._watch = WatchRuns(parts.store, parts.clock, tell)
        self._watch_backups = WatchBackups(parts.store, parts.clock)
        self._watch_at = self._backups_at = 0.0  # monotonic seconds
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._changed = True
        self._thread = threading.Thread(target=self._loop, name="worker-plan")

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def look(self) -> None:
        """Something may have changed."""
        self._changed = True
        self._wake.set()

    def stop(self) -> None:
        """Plan nothing more."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            pause = SLOW_POLL
            try:
                if not self._idle() and self._is_the_one():
                    pause = self._look()
                else:
                    self._plan.forget()
                    self._watch.forget()
            except StoreUnavailable as error:
                self._tell("store_unavailable", {"error": str(error)})
                pause = 1.0
            except Exception as error:  # noqa: BLE001 - the loop is a boundary: it must outlive a defect
                self._tell("worker_error", {"error": repr(error), "exc_info": error})
                pause = 1.0
            self._wake.wait(max(pause, 0.01))

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

    def _is_the_one(self) -> bool:
        """Whether this is the one of all living workers that plans. Two for a moment do no harm."""
        digest = self._parts.configuration.digest
        living = [
            (row["started_at"], row["id"])
            for row in self._parts.store.live_workers()
            if row["info"].get("plans") and row["info"].get("digest") == digest
        ]
        return bool(living) and min(living)[1] == self._worker
