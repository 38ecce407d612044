"""Waking by LISTEN and NOTIFY: one session that listens, opened anew whenever it is lost."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable

import psycopg

from fraisier.application.ports.news import News
from fraisier.database.postgresql_connection import DatabaseUrl, ServerConnection
from fraisier.database.postgresql_transaction import CHANNEL, REQUEST, STEP, claim_word
from fraisier.database.subscribers import PAUSE, Subscribers
from fraisier.domain.errors import StoreUnavailable

_RETRY = 0.25  # seconds between two attempts to listen
_PATIENCE = 5.0  # seconds that closing waits for a server that does not answer
_LOOK = 30.0  # seconds between two looks whether the session still lives

_log = logging.getLogger(__name__)


class Listener:
    """Tells all subscribers of this process that something happened, here or elsewhere.

    A notification says little more than "look": what happened stands in the database. What was missed while
    nobody listened is made good by one wake when the session is there again; whoever is woken also looks by
    itself every now and then. `name` is what our own claims are signed with.
    """

    def __init__(self, url: DatabaseUrl, name: str) -> None:
        self._url, self._name = url, name
        self._lock = threading.Lock()
        self._subscribers = Subscribers()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._stop, self._stopping = -1, -1

    def subscribe(self, wake: Callable[[], None], *, least: News = News.step) -> Callable[[], None]:
        """Call `wake`, from any thread, until the returned function is called."""
        unsubscribe = self._subscribers.add(wake, least=least)
        with self._lock:
            if self._thread is None and not self._closed:
                self._stop, self._stopping = os.pipe2(os.O_CLOEXEC)
                self._thread = threading.Thread(target=self._run, name="store-wake", daemon=True)
                self._thread.start()
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
                self._subscribers.tell()
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
            news = News.nothing
            while (notification := server.notifies()) is not None:
                news = max(news, self._news(notification.extra))
            if news and self._subscribers.tell(news):
                time.sleep(PAUSE)

    def _news(self, word: bytes) -> News:
        """A word that we do not know is work: whoever notifies from SQL says nothing."""
        text = word.decode(errors="replace")
        if text.startswith(claim_word("")):
            return News.step if text == claim_word(self._name) else News.claim
        return {STEP: News.step, REQUEST: News.request}.get(text, News.work)

    def _wait(self, descriptor: int, seconds: float) -> bool:
        """Whether there is something to read. False: the time is over, or we are to stop."""
        readable = [self._stop] if descriptor < 0 else [self._stop, descriptor]
        found, _, _ = select.select(readable, [], [], seconds)
        return descriptor in found
