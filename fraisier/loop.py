"""A look at the world, again and again, in a thread of its own: what a worker is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fraisier.application.ports import Row
from fraisier.domain.errors import StoreUnavailable

SLOW_POLL = 5.0  # seconds; behind the wake-ups, in case one is lost
AGAIN = 1.0  # seconds after something went wrong
LEAST = 0.01  # seconds between two looks, whatever happens

Tell = Callable[[str, Row], None]


class Loop:
    """Calls `look`, which returns after how many seconds it wants to look again, until it is stopped.

    Whatever goes wrong in a look is told, and the next one comes all the same. `wake` makes the next look
    come at once, but not within `at_least` seconds of the one before. The first comes after `after` seconds.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], float],
        tell: Tell,
        *,
        at_least: float = 0.0,
        after: float = 0.0,
    ) -> None:
        self._look, self._tell = look, tell
        self._at_least, self._after = at_least, after
        self._wake, self.stopping = threading.Event(), threading.Event()
        self._name = name
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread that is a daemon if the one that starts it is."""
        self._thread = threading.Thread(target=self._run, name=self._name)
        self._thread.start()

    def wake(self) -> None:
        """Something may have changed: look now."""
        self._wake.set()

    def stop(self) -> None:
        """Let the look that is under way be the last one; `join` waits for it."""
        self.stopping.set()
        self._wake.set()

    def join(self) -> None:
        """Return when the thread has ended; at once where it never began."""
        if self._thread is not None:
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        self.stopping.wait(self._after)
        while not self.stopping.is_set():
            self._wake.clear()
            try:
                pause = self._look()
            except StoreUnavailable as error:
                self._tell("store_unavailable", {"error": str(error)})
                pause = AGAIN
            except Exception as error:  # noqa: BLE001 - a boundary: it must outlive a defect
                self._tell("worker_error", {"error": repr(error), "exc_info": error})
                pause = AGAIN
            if not self.stopping.wait(self._at_least):  # a stop from before the look has woken nobody
                self._wake.wait(max(pause - self._at_least, LEAST))
