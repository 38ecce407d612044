"""Who is to be told when something has changed, whichever way the word came."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from enum import IntEnum

PAUSE = 0.005  # seconds that whoever passes words on lets pass between two

_log = logging.getLogger(__name__)


class News(IntEnum):
    """What has changed. A transaction tells the highest of all that it did, once."""

    nothing = 0
    step = 1  # of a deployment that goes on: nobody need look for work
    claim = 2  # others have to wait for its lease from now on; for whoever made it, it is a step
    work = 3  # there may be something to do


class Subscribers:
    """Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[tuple[Callable[[], None], bool]] = []

    def add(self, wake: Callable[[], None], *, steps: bool = True) -> Callable[[], None]:
        """Tell `wake` from now on, until the returned function is called; `steps`: also of steps."""
        entry = (wake, steps)
        with self._lock:
            self._found.append(entry)

        def remove() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._found.remove(entry)

        return remove

    def clear(self) -> None:
        """Tell nobody any more."""
        with self._lock:
            self._found.clear()

    def tell(self, news: News = News.work) -> bool:
        """Wake those that it concerns, one after the other; whether there was anybody."""
        with self._lock:
            found = [wake for wake, steps in self._found if steps or news is not News.step]
        for wake in found:
            try:
                wake()
            except Exception:  # noqa: BLE001 - one subscriber must not keep the others from being woken
                _log.exception("cannot wake a subscriber")
        return bool(found)
