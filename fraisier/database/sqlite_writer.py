"""The one thread that writes: group commit, so that a hundred callers share one sync of the disk.

    take what waits -> prepare -> decide -> take the lock and write -> COMMIT -> answer all

Other processes want the lock too (`sqlite_write_lock`), so a batch of deliveries takes it only to write. Any
other batch, and one that another process came in between of, takes it first and performs item by item.

An item that fails is rolled back to its savepoint and fails alone. When the file fails (disk full,
locked too long), nothing of the batch is stored, each caller is told so, and the thread goes on.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraisier.application.ports.news import News
from fraisier.database.batches import Batches
from fraisier.database.clocks import Clocks
from fraisier.database.jobs import Job, answer, fail, grouped
from fraisier.database.sqlite_connection import is_locked, is_of_the_file, unavailable
from fraisier.database.sqlite_transaction import SqliteTransaction
from fraisier.database.sqlite_write_lock import PATIENCE, WriteLock
from fraisier.database.transaction import Transaction
from fraisier.domain.errors import StoreUnavailable

COMMIT_BYTES, JOB_BYTES = 60_000, 6_000  # what a commit, and an item beside its payload, adds to the log

BatchWork = Callable[[Transaction, Sequence[Any]], Sequence[Any]]


@dataclass(slots=True)
class _Done:
    """What was committed, and by which transactions."""

    jobs: list[Job]
    transactions: list[Transaction]


class Writer(Batches):
    """`group` performs items that are cheaper together."""

    def __init__(
        self,
        path: Path,
        clocks: Clocks,
        *,
        prepare: Callable[[Any], Any],
        group: BatchWork,
        woken: Callable[[News], None],
    ) -> None:
        super().__init__(prepare)
        self._path, self._clocks = path, clocks
        self._group, self._woken = group, woken
        self._lock = WriteLock(path)

    def _let_go(self) -> None:
        self._lock.let_go()

    def _pause(self) -> None:
        self._lock.leave_gap()

    def _commit(self, jobs: list[Job]) -> None:
        try:
            done = self._commit_together(jobs) or self._commit_each(jobs)
        except (sqlite3.Error, StoreUnavailable) as error:
            self._lock.let_go()
            fail(jobs, unavailable(self._path, error) if isinstance(error, sqlite3.Error) else error)
            return
        answer(done.jobs)
        news = max((transaction.news for transaction in done.transactions), default=News.nothing)
        if news:
            self._woken(news)
        self._checkpoint(done.jobs)

    def _commit_together(self, jobs: list[Job]) -> _Done | None:
        """A batch of deliveries alone: all is read and decided before the lock is taken.

        SQLite refuses to write on what was read when another process has committed since. That, a lock
        that is held, or an item that cannot be stored: None, and nothing has happened.
        """
        if not jobs or any(job.work is not None for job in jobs):
            return None
        try:
            connection = self._lock.connection()
            connection.execute("BEGIN")
            transaction = SqliteTransaction(connection, self._clocks)
            self._work(transaction, jobs)
            connection.execute("COMMIT")
        except (sqlite3.Error, StoreUnavailable) as error:
            if not isinstance(error, sqlite3.Error) or (is_of_the_file(error) and not is_locked(error)):
                raise
            self._lock.roll_back()
            return None
        except Exception:  # noqa: BLE001 - whatever it was will come up again, item by item
            self._lock.roll_back()
            return None
        self._lock.note_held(transaction.locked_at, backlog=self._has_backlog())
        return _Done(jobs, [transaction])

    def _commit_each(self, jobs: list[Job]) -> _Done:
        """Any batch: the lock first, and a savepoint for each item."""
        jobs, connection = self._begin(jobs)
        transactions: list[Transaction] = []
        if connection is not None:
            began = time.monotonic()
            for group in grouped(jobs):
                self._perform(connection, group, transactions, alone=len(group) == len(jobs))
            connection.execute("COMMIT")
            self._lock.note_held(began, backlog=self._has_backlog())
        return _Done(jobs, transactions)

    def _begin(self, jobs: list[Job]) -> tuple[list[Job], sqlite3.Connection | None]:
        """Take the lock. Whoever has waited too long for it is told; the others wait on."""
        while jobs:
            try:
                connection = self._lock.take()
            except (sqlite3.Error, StoreUnavailable) as error:
                jobs = self._wait_for_lock(jobs, error)
            else:
                return jobs, connection
        return [], None

    def _wait_for_lock(self, jobs: list[Job], error: Exception) -> list[Job]:
        refusal = unavailable(self._path, error) if isinstance(error, sqlite3.Error) else error
        if not is_locked(error):
            self._lock.let_go()
            fail(jobs, refusal)
            return []
        latest = time.monotonic() - PATIENCE
        fail([job for job in jobs if job.at <= latest], refusal)
        self._lock.wait_a_little()
        return [job for job in jobs if job.at > latest]

    def _perform(
        self, connection: sqlite3.Connection, jobs: list[Job], done: list[Transaction], *, alone: bool
    ) -> None:
        """One job, or one group, in a savepoint unless it is alone: savepoints copy pages."""
        transaction = SqliteTransaction(connection, self._clocks)
        try:
            if not alone:
                connection.execute("SAVEPOINT item")
            self._work(transaction, jobs)
            if not alone:
                connection.execute("RELEASE item")
        except Exception as error:
            if is_of_the_file(error):
                raise
            self._undo(connection, alone=alone)
            if len(jobs) == 1:
                jobs[0].error = error
                return
            for job in jobs:
                self._perform(connection, [job], done, alone=False)
            return
        done.append(transaction)

    def _undo(self, connection: sqlite3.Connection, *, alone: bool) -> None:
        if not alone:
            connection.execute("ROLLBACK TO item")
            connection.execute("RELEASE item")
            return
        connection.execute("ROLLBACK")
        self._lock.take_within_patience()

    def _work(self, transaction: Transaction, jobs: list[Job]) -> None:
        work = jobs[0].work
        if work is not None:
            jobs[0].value = work(transaction)
            transaction.flush()
            return
        values = self._group(transaction, [job.item for job in jobs])
        for job, value in zip(jobs, values, strict=True):
            job.value = value
        transaction.flush()

    def _checkpoint(self, jobs: list[Job]) -> None:
        """Between two batches, when the callers have their answers."""
        written = COMMIT_BYTES + sum(JOB_BYTES + job.size // 4 for job in jobs)
        self._lock.checkpoint(written, backlog=self._has_backlog())
