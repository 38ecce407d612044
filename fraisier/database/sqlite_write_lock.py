"""The connection that writes, and how it shares the file's one lock with other processes.

SQLite lets waiting processes sleep between their attempts at the lock (up to 100 ms). Whoever holds it
nearly all the time starves them, so it is left alone for longer than it was held.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from fraisier.database.sqlite_connection import connect, is_locked

PATIENCE = 3.0  # seconds until a caller is told that the lock cannot be had
GAP = 1.5  # how many times as long as it was held the lock is left alone while more is waiting
LONGEST_GAP = 0.010  # seconds
CHECKPOINT_BYTES = 3 * 1024 * 1024  # in the log since the last one; SQLite's own limit is 1000 pages
_RETRY = 0.0005  # seconds

_log = logging.getLogger(__name__)


class WriteLock:
    """Used by one thread. The connection is opened when it is needed, and anew after `let_go`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._free_until = 0.0
        self._written = 0

    def connection(self) -> sqlite3.Connection:
        """The open connection; taking its lock does not wait.

        Raises:
            StoreUnavailable: the file cannot be opened.
        """
        if self._connection is None:
            connection = connect(self._path, patience=PATIENCE, write=True)
            connection.execute("PRAGMA busy_timeout=0")  # from here on we wait by ourselves, in shorter steps
            self._connection = connection
        return self._connection

    def take(self) -> sqlite3.Connection:
        """One attempt at the lock; raises what `connection` and SQLite raise."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def take_within_patience(self) -> None:
        """Attempts until the lock is ours; raises SQLite's error when that takes longer than `PATIENCE`."""
        latest = time.monotonic() + PATIENCE
        while True:
            try:
                self.take()
            except sqlite3.Error as error:
                if not is_locked(error) or time.monotonic() > latest:
                    raise
                self.wait_a_little()
            else:
                return

    def wait_a_little(self) -> None:
        """Sleep between two attempts.

        Shorter than SQLite would: another writer's gap may be no longer than a millisecond.
        """
        time.sleep(_RETRY)

    def roll_back(self) -> None:
        """End what was begun, if anything was, without a trace."""
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def let_go(self) -> None:
        """Close the connection; what was not committed is rolled back with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def note_held(self, since: float, *, backlog: bool) -> None:
        """The lock was held from `since` (monotonic seconds) until now.

        Who had to wait for this commit is waiting again: with a backlog it is left alone for a while.
        """
        now = time.monotonic()
        self._free_until = now + min((now - since) * GAP, LONGEST_GAP) if backlog else now

    def leave_gap(self) -> None:
        """Sleep until the lock may be taken again."""
        pause = self._free_until - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    def checkpoint(self, written: int, *, backlog: bool) -> None:
        """Move the log into the database where enough has come since the last time.

        `written` is about how many bytes the last commit has added. With a backlog it is put off longer.
        """
        self._written += written
        enough = CHECKPOINT_BYTES if backlog else CHECKPOINT_BYTES // 2
        if self._written < enough or self._connection is None:
            return
        self._written = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            _log.warning("cannot move the log into the database: %s", error)
