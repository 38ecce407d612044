"""Reads and records deliveries a batch at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import NamedTuple

from fraisier.application.ports import Delivery, Received
from fraisier.application.receive_push import Letter, ReceivePush

LARGEST_BATCH = 64  # letters
LONGEST_GATHERING = 0.010  # seconds since the first letter of a batch
LONGEST_TURN = 0.005  # seconds of reading before the loop looks at its connections again


class Accepted(NamedTuple):
    """A delivery, and what became of it on disk."""

    delivery: Delivery
    received: Received


class Intake:
    """Gathers letters while the loop still finds new ones, then reads one after the other.

    The store commits what is recorded in a row together: larger batches, fewer wake-ups of its writer. With
    ten connections that is a sixth more deliveries a second than a hand-over per turn of the loop (measured).
    """

    def __init__(self, receive_push: ReceivePush, *, longest_turn: float = LONGEST_TURN) -> None:
        self._receive_push = receive_push
        self._longest_turn = longest_turn
        self._waiting: deque[tuple[Letter, asyncio.Future[Accepted]]] = deque()
        self._since = 0.0

    def take(self, letter: Letter) -> asyncio.Future[Accepted]:
        """Read and record; the future has the result, or what `ReceivePush.read` and its `record` raise."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Accepted] = loop.create_future()
        self._waiting.append((letter, future))
        if len(self._waiting) == 1:
            self._since = loop.time()
            loop.call_soon(self._gather, loop, 0)
        return future

    def _gather(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        found = len(self._waiting)
        if before < found < LARGEST_BATCH and loop.time() - self._since < LONGEST_GATHERING:
            loop.call_soon(self._gather, loop, found)  # after another look at all connections
            return
        until = loop.time() + self._longest_turn
        while self._waiting:
            self._read(*self._waiting.popleft())
            if loop.time() > until:
                break
        if self._waiting:
            loop.call_soon(self._gather, loop, found)

    def _read(self, letter: Letter, future: asyncio.Future[Accepted]) -> None:
        try:
            delivery = self._receive_push.read(letter)
            recording = asyncio.ensure_future(self._receive_push.record(delivery))
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            if not future.done():  # a stop may have cancelled it: the others of the batch still wait
                future.set_exception(error)
            # The error has this frame in its traceback: with the future, too, it would keep itself and the
            # letter until the garbage collector comes.
            del future
        else:
            recording.add_done_callback(partial(_settle, future, delivery))


def _settle(
    future: asyncio.Future[Accepted], delivery: Delivery, recording: asyncio.Future[Received]
) -> None:
    if future.done():
        return
    if recording.cancelled():
        future.cancel()
    elif (error := recording.exception()) is None:
        future.set_result(Accepted(delivery, recording.result()))
    else:
        future.set_exception(error)
