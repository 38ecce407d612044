"""Cuts sessions whose server hangs: it says nothing, and nobody may wait for it for ever."""

from __future__ import annotations

import threading
import time
from typing import Protocol

GRACE = 2.0  # seconds beyond its patience that a caller's session may go without an end


class Session(Protocol):
    """What is watched."""

    def cut(self) -> None:
        """From another thread: whoever waits for an answer is told that the connection is lost."""
        ...


class Watch:
    """A thread that cuts sessions whose time is over; it starts with the first that is watched."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._until: dict[Session, float] = {}
        self._thread: threading.Thread | None = None
        self._resting = False  # it waits until something is watched again
        self._closed = False

    def begin(self, connection: Session, until: float) -> None:
        """Cut it at `until` (monotonic seconds), unless it was ended."""
        with self._changed:
            self._until[connection] = until
            if self._resting:
                self._changed.notify()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
                self._thread.start()

    def end(self, connection: Session) -> None:
        """It is not used any more."""
        with self._changed:
            self._until.pop(connection, None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for connection in [each for each, until in self._until.items() if until <= now]:
                    del self._until[connection]
                    connection.cut()
                self._resting = not self._until
                self._changed.wait(None if self._resting else GRACE / 4)
