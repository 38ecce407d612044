"""The one thread that writes: group commit, so that a hundred callers share one sync of the disk.

    take what waits -> prepare (no lock held) -> BEGIN IMMEDIATE -> each item -> COMMIT -> answer all

An item that fails is rolled back to its savepoint and fails alone. When the file fails (disk full,
locked too long), nothing of the batch is stored, each caller is told so, and the thread goes on.

SQLite lets waiting processes sleep between their attempts at the lock (up to 100 ms). Whoever holds it
nearly all the time starves them, so the writer decides on deliveries before it takes the lock, and leaves
it alone for longer than it has held it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraisier.database.clocks import Clocks
from fraisier.database.sqlite_connection import connect, is_locked, is_of_the_file, unavailable
from fraisier.database.sqlite_transaction import Transaction
from fraisier.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    import asyncio  # 40 ms to import, and only who has a loop needs it

PATIENCE = 3.0  # seconds until a caller is told that the lock cannot be had
GAP = 1.5  # how many times as long as it was held the lock is left alone while more is waiting
LONGEST_GAP = 0.010  # seconds
LARGEST_BATCH = 128  # items; bounds how long the lock is held
LARGEST_BATCH_BYTES = (
    16 * 1024 * 1024
)  # payloads are compressed before the lock is taken, but held until then
CHECKPOINT_BYTES = 3 * 1024 * 1024  # in the log since the last one; SQLite's own limit is 1000 pages
COMMIT_BYTES, JOB_BYTES = 60_000, 6_000  # what a commit, and an item beside its payload, adds to the log
_LOCK_RETRY = 0.0005  # seconds

_log = logging.getLogger(__name__)

Work = Callable[[Transaction], Any]
BatchWork = Callable[[Transaction, Sequence[Any]], Sequence[Any]]


class Job:
    """One item for the writer. With a `loop` its future is asyncio's, else a thread's.

    `work` performs it alone; a job with `item` and no work is one of a group that is performed together.
    """

    __slots__ = ("at", "error", "future", "item", "loop", "size", "value", "work")

    def __init__(self, work: Work | None, item: Any = None, size: int = 0) -> None:
        self.work = work
        self.item = item
        self.size = size
        self.at = time.monotonic()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: Any = None
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Tell the future, from the thread that it belongs to. One that was cancelled is left alone."""
        if self.future.done():
            return
        with contextlib.suppress(InvalidStateError):
            if self.error is not None:
                self.future.set_exception(self.error)
            else:
                self.future.set_result(self.value)


@dataclass(slots=True)
class _Done:
    """What was committed, and by which transactions."""

    jobs: list[Job]
    transactions: list[Transaction]


class Writer:
    """Starts its thread with the first item. `group` performs items that are cheaper together."""

    def __init__(
        self,
        path: Path,
        clocks: Clocks,
        *,
        prepare: Callable[[Any], Any],
        group: BatchWork,
        woken: Callable[[], None],
    ) -> None:
        self._path, self._clocks = path, clocks
        self._prepare, self._group, self._woken = prepare, group, woken
        self._queue: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._handing_over = threading.Lock()  # nothing comes after the end
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._free_until = 0.0
        self._written = 0

    # -- for callers, any thread
    def put(self, jobs: list[Job]) -> None:
        """Hand jobs over; their futures are resolved after the commit.

        Raises:
            StoreUnavailable: the store was closed.
        """
        with self._handing_over:
            if self._closed:
                message = "cannot write: the store was closed"
                raise StoreUnavailable(message)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
                self._thread.start()
            self._queue.put(jobs)

    def perform(self, work: Work) -> Any:
        """Hand over, and wait for the commit."""
        job = Job(work)
        future: Future[Any] = Future()
        job.future = future
        self.put([job])
        return future.result()

    def close(self) -> None:
        """Finish what was handed over, then end."""
        with self._handing_over:
            if not self._closed and self._thread is not None:
                self._queue.put(None)
            self._closed = True
        if self._thread is not None:
            self._thread.join()

    # -- the thread
    def _run(self) -> None:
        while (jobs := self._take()) is not None:
            try:
                self._commit(jobs)
            except Exception as error:  # noqa: BLE001 - the thread's boundary: callers are told, it goes on
                _log.exception("cannot write a batch")
                self._reconnect()
                self._fail(jobs, error)
        self._reconnect()

    def _take(self) -> list[Job] | None:
        """What waits, at most a batch, prepared; None when the store is closed and all is done."""
        jobs = self._queue.get()
        if jobs is None:
            return None
        ready: list[Job] = []
        while jobs:
            # Preparing takes long enough for others to arrive; so does the gap.
            ready += self._prepared(jobs)
            self._leave_gap()
            jobs = self._take_waiting(ready)
        return ready

    def _take_waiting(self, ready: Sequence[Job]) -> list[Job]:
        """What has come meanwhile, as long as the batch has room."""
        jobs: list[Job] = []
        room, size = LARGEST_BATCH - len(ready), sum(job.size for job in ready)
        while len(jobs) < room and size < LARGEST_BATCH_BYTES:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)  # read again by `_take`, after this batch
                break
            jobs += more
            size += sum(job.size for job in more)
        return jobs

    def _commit(self, jobs: list[Job]) -> None:
        try:
            done = self._commit_together(jobs) or self._commit_each(jobs)
        except (sqlite3.Error, StoreUnavailable) as error:
            self._reconnect()
            self._fail(jobs, unavailable(self._path, error) if isinstance(error, sqlite3.Error) else error)
            return
        _answer(done.jobs)
        if any(transaction.wakes for transaction in done.transactions):
            self._woken()
        self._checkpoint(done.jobs)

    def _commit_together(self, jobs: list[Job]) -> _Done | None:
        """A batch of deliveries alone: all is read and decided before the lock is taken.

        SQLite refuses to write on what was read when another process has committed since. That, a lock
        that is held, or an item that cannot be stored: None, and nothing has happened.
        """
        if not jobs or any(job.work is not None for job in jobs):
            return None
        try:
            connection = self._connection or self._connect()
            connection.execute("BEGIN")
            transaction = Transaction(connection, self._clocks)
            self._work(transaction, jobs)
            connection.execute("COMMIT")
        except (sqlite3.Error, StoreUnavailable) as error:
            if not isinstance(error, sqlite3.Error) or (is_of_the_file(error) and not is_locked(error)):
                raise
            self._roll_back()
            return None
        except Exception:  # noqa: BLE001 - whatever it was will come up again, item by item
            self._roll_back()
            return None
        self._note_held(transaction.locked_at)
        return _Done(jobs, [transaction])

    def _commit_each(self, jobs: list[Job]) -> _Done:
        """Any batch: the lock first, and a savepoint for each item."""
        jobs, connection = self._begin(jobs)
        transactions: list[Transaction] = []
        if connection is not None:
            began = time.monotonic()
            for group in _grouped(jobs):
                self._perform(connection, group, transactions, alone=len(group) == len(jobs))
            connection.execute("COMMIT")
            self._note_held(began)
        return _Done(jobs, transactions)

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _note_held(self, since: float) -> None:
        """Who had to wait for this commit is waiting again: then the lock is left alone for a while."""
        now = time.monotonic()
        backlog = not self._queue.empty()
        self._free_until = now + min((now - since) * GAP, LONGEST_GAP) if backlog else now

    def _leave_gap(self) -> None:
        pause = self._free_until - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    def _prepared(self, jobs: list[Job]) -> list[Job]:
        ready = []
        for job in jobs:
            try:
                if job.work is None:
                    job.item = self._prepare(job.item)
                ready.append(job)
            except Exception as error:  # noqa: BLE001 - whatever one item is made of fails that item alone
                self._fail([job], error)
        return ready

    def _begin(self, jobs: list[Job]) -> tuple[list[Job], sqlite3.Connection | None]:
        """Take the lock. Whoever has waited too long for it is told; the others wait on."""
        while jobs:
            try:
                connection = self._connection or self._connect()
                connection.execute("BEGIN IMMEDIATE")
            except (sqlite3.Error, StoreUnavailable) as error:
                jobs = self._wait_for_lock(jobs, error)
            else:
                return jobs, connection
        return [], None

    def _wait_for_lock(self, jobs: list[Job], error: Exception) -> list[Job]:
        refusal = unavailable(self._path, error) if isinstance(error, sqlite3.Error) else error
        if not is_locked(error):
            self._reconnect()
            self._fail(jobs, refusal)
            return []
        latest = time.monotonic() - PATIENCE
        self._fail([job for job in jobs if job.at <= latest], refusal)
        # Our own short sleep instead of SQLite's: another writer's gap may be no longer than a millisecond.
        time.sleep(_LOCK_RETRY)
        return [job for job in jobs if job.at > latest]

    def _perform(
        self, connection: sqlite3.Connection, jobs: list[Job], done: list[Transaction], *, alone: bool
    ) -> None:
        """One job, or one group, in a savepoint unless it is alone: savepoints copy pages."""
        transaction = Transaction(connection, self._clocks)
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
        latest = time.monotonic() + PATIENCE
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if not is_locked(error) or time.monotonic() > latest:
                    raise
                time.sleep(_LOCK_RETRY)
            else:
                return

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
        """Move the log into the database between two batches, when the callers have their answers."""
        self._written += COMMIT_BYTES + sum(JOB_BYTES + job.size // 4 for job in jobs)
        enough = CHECKPOINT_BYTES if not self._queue.empty() else CHECKPOINT_BYTES // 2
        if self._written < enough or self._connection is None:
            return
        self._written = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            _log.warning("cannot move the log into the database: %s", error)

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._path, patience=PATIENCE, write=True)
        connection.execute("PRAGMA busy_timeout=0")  # from here on we wait by ourselves, in shorter steps
        self._connection = connection
        return connection

    def _reconnect(self) -> None:
        """Let go of the connection; what was not committed is rolled back with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _fail(self, jobs: Sequence[Job], error: BaseException) -> None:
        for job in jobs:
            job.error = error
        _answer(jobs)


def _grouped(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs in order; neighbours that are performed together stand together."""
    groups: list[list[Job]] = []
    for together, run in itertools.groupby(jobs, key=lambda job: job.work is None):
        if together:
            groups.append(list(run))
        else:
            groups.extend([job] for job in run)
    return groups


def _answer(jobs: Sequence[Job]) -> None:
    """Resolve the futures, with one hand-over per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.loop is None:
            job.settle()
        else:
            by_loop.setdefault(job.loop, []).append(job)
    for loop, answered in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle_all, answered)


def _settle_all(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.settle()
