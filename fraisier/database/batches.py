"""The thread that gathers what is to be written into batches, so that many callers share one commit."""

from __future__ import annotations

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from fraisier.database.jobs import Job, Work, fail
from fraisier.domain.errors import StoreUnavailable

LARGEST_BATCH = 128  # items; bounds how long a transaction takes
LARGEST_BATCH_BYTES = 16 * 1024 * 1024  # of payloads, which are held in memory until they are written

_log = logging.getLogger(__name__)


class Batches(ABC):
    """Starts its thread with the first item. `prepare` is called for each before the batch is committed."""

    def __init__(self, prepare: Callable[[Any], Any]) -> None:
        self._prepare = prepare
        self._queue: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._handing_over = threading.Lock()  # nothing comes after the end
        self._closed = False

    @abstractmethod
    def _commit(self, jobs: list[Job]) -> None:
        """Write a batch and answer it."""

    @abstractmethod
    def _let_go(self) -> None:
        """Give up the connection: after an error that nobody expected, and at the end."""

    def _pause(self) -> None:  # noqa: B027 - most need none
        """Wait before the next batch is committed, where others want to write too."""

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
                self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
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
                self._let_go()
                fail(jobs, error)
        self._let_go()

    def _take(self) -> list[Job] | None:
        """What waits, at most a batch, prepared; None when the store is closed and all is done."""
        jobs = self._queue.get()
        if jobs is None:
            return None
        ready: list[Job] = []
        while jobs:
            # Preparing takes long enough for others to arrive; so does the gap.
            ready += self._prepared(jobs)
            self._pause()
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

    def _prepared(self, jobs: list[Job]) -> list[Job]:
        ready = []
        for job in jobs:
            try:
                if job.work is None:
                    job.item = self._prepare(job.item)
                ready.append(job)
            except Exception as error:  # noqa: BLE001 - whatever one item is made of fails that item alone
                fail([job], error)
        return ready

    def _has_backlog(self) -> bool:
        return not self._queue.empty()
