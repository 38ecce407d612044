"""What the writer is handed, and how whoever waits for it gets the answer."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio  # 40 ms to import, and only who has a loop needs it

Work = Callable[[Any], Any]  # is given a Transaction of its database


class Job:
    """One item for the writer. With a `loop` its future is asyncio's, else a thread's.

    `work` performs it alone; a job with `item` and no work is one of a group that is performed together.
    `size` is what it keeps in memory until it is written, in bytes; `at` is when it came, monotonic seconds.
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


def grouped(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs in order; neighbours that are performed together stand together."""
    groups: list[list[Job]] = []
    for together, run in itertools.groupby(jobs, key=lambda job: job.work is None):
        if together:
            groups.append(list(run))
        else:
            groups.extend([job] for job in run)
    return groups


def answer(jobs: Sequence[Job]) -> None:
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


def fail(jobs: Sequence[Job], error: BaseException) -> None:
    """Tell all of them the same."""
    for job in jobs:
        job.error = error
    answer(jobs)


def _settle_all(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.settle()
