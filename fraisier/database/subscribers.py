"""Who is to be told when something has changed, whichever way the word came."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from fraisier.application.ports.news import News

PAUSE = 0.005  # seconds that whoever passes words on lets pass between two

_log = logging.getLogger(__name__)


class Subscribers:
    """Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[tuple[Callable[[], None], News]] = []

    def add(self, wake: Callable[[], None], *, least: News = News.step) -> Callable[[], None]:
        """Tell `wake` from now on, until the returned function is called; of nothing below `least`."""
        entry = (wake, least)
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
            found = [wake for wake, least in self._found if news >= least]
        for wake in found:
            try:
                wake()
            except Exception:  # noqa: BLE001 - one subscriber must not keep the others from being woken
                _log.exception("cannot wake a subscriber")
        return bool(found)
