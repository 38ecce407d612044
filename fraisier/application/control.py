"""How a running deployment is stopped from outside, and why."""

from __future__ import annotations

import threading
from enum import StrEnum


class Reason(StrEnum):
    """Why a deployment was told to stop, weakest first."""

    cancelled = "cancelled"  # a person, or a rollback, wants it gone: end it, back to the old release
    shutdown = "shutdown"  # the worker ends: stop here, the next worker resumes it
    lost = "lost"  # the environment belongs to another worker: touch nothing any more


class Stopped(Exception):
    """Raised between two acts of a deployment that was told to stop."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Control:
    """Told by the worker's threads, looked at by the deployment's.

    `stop` ends what the deployment does on its way forward. `halt` ends everything, the way back too.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.halt = threading.Event()
        self.cancelled_by = ""
        self._reason: Reason | None = None
        self._drain = False
        self._lock = threading.Lock()

    @property
    def reason(self) -> Reason | None:
        """Why it was told to stop; None: it was not."""
        return self._reason

    def cancel(self, by: str) -> None:
        """End the deployment; its way back, if it needs one, is not disturbed."""
        with self._lock:
            if self._reason is None:
                self._reason = Reason.cancelled
                self.cancelled_by = by
        self.stop.set()

    def drain(self) -> None:
        """Finish the step that runs, then stop: a shutdown with time to spare."""
        self._drain = True

    def shut_down(self) -> None:
        """Stop at once; what runs is killed and resumed by the next worker."""
        self._halt(Reason.shutdown)

    def lose(self) -> None:
        """The lease is gone, or could not be renewed in time."""
        self._halt(Reason.lost)

    def check(self) -> None:
        """Between two steps.

        Raises:
            Stopped: it was told to stop.
        """
        if self._reason is not None:
            raise Stopped(self._reason)
        if self._drain:
            raise Stopped(Reason.shutdown)

    def check_halt(self) -> None:
        """Between two steps of the way back, which a cancel does not stop.

        Raises:
            Stopped: the worker ends or has lost the environment.
        """
        if self._reason in (Reason.shutdown, Reason.lost):
            raise Stopped(self._reason)
        if self._drain:
            raise Stopped(Reason.shutdown)

    def _halt(self, reason: Reason) -> None:
        with self._lock:
            if self._reason is not Reason.lost:
                self._reason = reason
        self.stop.set()
        self.halt.set()
