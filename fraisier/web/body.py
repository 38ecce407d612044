"""Reading a request's body: never more than the cap, and all bodies together within one budget."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fraisier.application.ports import Headers
from fraisier.domain.errors import MalformedDelivery, TooLarge, UnsupportedMediaType
from fraisier.web.errors import Busy, Vanished

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_ORDINARY = 64 * 1024  # bytes; what nearly every push fits into
_RESERVED_SHARE = 4  # a quarter of the budget is kept for the first _ORDINARY bytes of every body


class InFlight:
    """The bytes of all bodies that are being read or stored, at most `most`.

    Large bodies cannot use all of it up: a part is kept for the beginning of every body, so that a few
    senders of huge ones do not keep ordinary pushes waiting. Of the rest, `largest` is kept for one body
    that grows while the others wait, so that none waits for another that waits for it.
    """

    def __init__(self, most: int, *, largest: int) -> None:
        self._most = most
        self._most_large = most - most // _RESERVED_SHARE
        self._most_shared = max(0, self._most_large - largest)
        self._large = 0
        self._first: Body | None = None  # the large body that need not wait for the others
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.bytes = 0

    def take(self, body: Body, size: int) -> bool:
        """Make room for `size` more bytes of `body`; False: there is none now."""
        large = _large_part(body.size + size) - _large_part(body.size)
        alone = self.bytes == body.size
        if not alone and (self.bytes + size > self._most or not self._may_grow(body, large)):
            return False
        self.bytes += size
        self._large += large
        return True

    def _may_grow(self, body: Body, large: int) -> bool:
        if not large or self._large + large <= self._most_shared:
            return True
        self._first = self._first or body
        return self._first is body and self._large + large <= self._most_large

    async def wait(self) -> None:
        """Return when a body has left."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def give_back(self, body: Body) -> None:
        """A body has left."""
        self.bytes -= body.size
        self._large -= _large_part(body.size)
        if self._first is body:
            self._first = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)


class Body:
    """One body while it is read and stored; its room is given back at the end of the `with` block."""

    def __init__(self, in_flight: InFlight, *, most: int, patience: float) -> None:
        self._in_flight = in_flight
        self._most = most
        self._patience = patience
        self.size = 0

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._in_flight.give_back(self)

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """All of the body.

        Raises:
            TooLarge: it is, or says that it will be, larger than the cap. Nothing more was read.
            UnsupportedMediaType: it is compressed.
            Busy: there was no room for it within the time allowed.
            Vanished: the sender hung up.
        """
        self._check(headers)
        message = await receive()
        if message["type"] != "http.request":
            raise Vanished
        first: bytes = message.get("body", b"")
        if not self._fits(len(first)):
            await self._wait_for_room(len(first))
        if not message.get("more_body", False):
            return first
        return await self._rest(bytearray(first), receive)

    def _check(self, headers: Headers) -> None:
        for encoding in headers.get("content-encoding", ()):
            if encoding.strip().lower() not in (b"", b"identity"):
                message = "cannot read a compressed body"
                raise UnsupportedMediaType(message, "Send it without Content-Encoding")
        for announced in headers.get("content-length", ()):
            if not announced.isdigit():
                raise MalformedDelivery("cannot understand Content-Length", "Send the number of bytes")
            if len(announced) > 19 or int(announced) > self._most:
                raise self._too_large()

    async def _rest(self, body: bytearray, receive: Receive) -> bytes:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Vanished
            chunk: bytes = message.get("body", b"")
            if not self._fits(len(chunk)):
                await self._wait_for_room(len(chunk))
            body += chunk
            if not message.get("more_body", False):
                return bytes(body)

    def _fits(self, size: int) -> bool:
        """Take room for `size` more bytes; False: there is none now."""
        if self.size + size > self._most:
            raise self._too_large()
        if not self._in_flight.take(self, size):
            return False
        self.size += size
        return True

    async def _wait_for_room(self, size: int) -> None:
        try:
            async with asyncio.timeout(self._patience):
                while not self._fits(size):
                    await self._in_flight.wait()
        except TimeoutError:
            message = "cannot take the delivery now: too many large ones are being received"
            raise Busy(message, "Send it again", headers=((b"retry-after", b"5"),)) from None

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"cannot take a body of more than {self._most} bytes",
            "Raise server.max_body if it is a real push",
        )


def _large_part(size: int) -> int:
    return size - _ORDINARY if size > _ORDINARY else 0
