"""Waking by LISTEN and NOTIFY: one session that listens, opened anew whenever it is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable

import psycopg

from fraisier.database.postgresql_connection import DatabaseUrl, ServerConnection
from fraisier.database.postgresql_transaction import CHANNEL
from fraisier.domain.errors import StoreUnavailable

PAUSE = 0.005  # seconds between two wakes
_RETRY = 0.25  # seconds between two attempts to listen
_PATIENCE = 5.0  # seconds that closing waits for a server that does not answer
_LOOK = 30.0  # seconds between two looks whether the session still lives

_log = logging.getLogger(__name__)


class Listener:
    """Tells all subscribers of this process that something happened, here or elsewhere.

    A notification says only "look": what happened stands in the database. What was missed while nobody
    listened is made good by one wake when the session is there again; whoever is woken also looks by
    itself every now and then.
    """

    def __init__(self, url: DatabaseUrl) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._subscribers: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._stop, self._stopping = -1, -1

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake`, from any thread, until the returned function is called."""
        with self._lock:
            self._subscribers.append(wake)
            if self._thread is None and not self._closed:
                self._stop, self._stopping = os.pipe2(os.O_CLOEXEC)
                self._thread = threading.Thread(target=self._run, name="store-wake", daemon=True)
                self._thread.start()

        def unsubscribe() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._subscribers.remove(wake)

        return unsubscribe

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closed = True
            self._subscribers.clear()
        if thread is not None:
            os.close(self._stopping)
            if thread is not threading.current_thread():
                thread.join(_PATIENCE)
            if not thread.is_alive():
                os.close(self._stop)

    def _run(self) -> None:
        while not self._closed:
            try:
                connection = ServerConnection(self._url)
            except (psycopg.Error, StoreUnavailable):
                self._wait(-1, _RETRY)
                continue
            try:
                connection.execute(f"LISTEN {CHANNEL}")
                self._tell_subscribers()
                self._listen(connection)
            except (psycopg.Error, OSError) as error:
                _log.info("cannot listen to the database, connecting again: %s", error)
            finally:
                connection.close()

    def _listen(self, connection: ServerConnection) -> None:
        server = connection.raw.pgconn
        while not self._closed:
            if not self._wait(connection.raw.fileno(), _LOOK):
                if not self._closed:
                    connection.execute("SELECT 1")
                continue
            server.consume_input()
            # A stream of pushes must not become a stream of wakes: all that came together is one.
            heard = False
            while server.notifies() is not None:
                heard = True
            if heard:
                self._tell_subscribers()
                time.sleep(PAUSE)

    def _wait(self, descriptor: int, seconds: float) -> bool:
        """Whether there is something to read. False: the time is over, or we are to stop."""
        readable = [self._stop] if descriptor < 0 else [self._stop, descriptor]
        found, _, _ = select.select(readable, [], [], seconds)
        return descriptor in found

    def _tell_subscribers(self) -> None:
        with self._lock:
            subscribers = tuple(self._subscribers)
        for wake in subscribers:
            try:
                wake()
            except Exception:  # noqa: BLE001 - one subscriber must not keep the others from being woken
                _log.exception("cannot wake a subscriber")
