"""From the store's writer thread back to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import CancelledError, Future
from functools import partial

from fraisier.application.ports import Received
from fraisier.domain.errors import StoreUnavailable


class Handover:
    """Awaits the store's promises. The loop is woken once for all that were kept since it last looked.

    `asyncio.wrap_future` would wake it for each, which at a hundred connections costs more than the commit.
    """

    def __init__(self, *, patience: float = 3.0) -> None:
        self._patience = patience
        self._kept: deque[asyncio.Future[None]] = deque()
        self._waking = False

    async def wait(self, promise: Future[Received]) -> Received:
        """What became of a delivery.

        Raises:
            StoreUnavailable: nothing was committed within `patience` seconds, and nothing will be.
        """
        if not promise.done():
            await self._wait(promise)
        try:
            return promise.result()
        except CancelledError:
            raise _unavailable() from None

    async def _wait(self, promise: Future[Received]) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        # Once the writer has begun, a cancel does nothing and the outcome is awaited: it may be a commit.
        timer = loop.call_later(self._patience, promise.cancel)
        promise.add_done_callback(partial(self._keep, loop, waiter))
        try:
            await waiter
        finally:
            timer.cancel()

    def _keep(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None], _: object) -> None:
        """Called by whichever thread keeps the promise."""
        self._kept.append(waiter)
        if not self._waking:
            self._waking = True
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._waking = False
        while self._kept:
            waiter = self._kept.popleft()
            if not waiter.done():
                waiter.set_result(None)


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable(
        "cannot store the delivery: the database did not answer in time",
        "Send it again; see the server's log",
    )
