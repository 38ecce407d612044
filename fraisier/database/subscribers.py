"""Who is to be told when something has changed, whichever way the word came."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

PAUSE = 0.005  # seconds that whoever passes words on lets pass between two

_log = logging.getLogger(__name__)


class Subscribers:
    """Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[Callable[[], None]] = []

    def add(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Tell `wake` from now on, until the returned function is called."""
        with self._lock:
            self._found.append(wake)

        def remove() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._found.remove(wake)

        return remove

    def clear(self) -> None:
        """Tell nobody any more."""
        with self._lock:
            self._found.clear()

    def tell(self) -> None:
        """Wake everybody, one after the other."""
        with self._lock:
            found = tuple(self._found)
        for wake in found:
            try:
                wake()
            except Exception:  # noqa: BLE001 - one subscriber must not keep the others from being woken
                _log.exception("cannot wake a subscriber")
