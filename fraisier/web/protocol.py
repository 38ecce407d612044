"""uvicorn's HTTP with the bounds that it lacks: slow heads and bodies, endless heads, idle connections.

One look a second at all connections replaces timers for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fraisier.domain.errors import FraisierError, MalformedDelivery
from fraisier.web.errors import BASE_HEADERS, HeadersTooLarge, SenderTooSlow, refusal

_TICK = 1.0  # seconds between two looks at all connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a connection may cost. Sizes in bytes, times in seconds."""

    head: int = 64 * 1024
    headers: int = 200
    pipelined: int = 16
    connections: int = 800
    silence: float = 10.0  # within a request
    request: float = 60.0  # from a request's first byte to its last
    idle: float = 30.0  # between two requests
    unread: float = 30.0  # an answer that nobody reads
    farewell: float = 2.0  # for a sender to read its answer before it is cut off
    discarded: int = 50 * 1024 * 1024  # rest of an announced body that is read, to be forgotten, meanwhile


class Phase(Enum):
    """Whom a connection waits for."""

    idle = auto()
    receiving = auto()
    answering = auto()
    leaving = auto()


class Doorkeeper:
    """Looks at all connections once a second and ends those that overstay."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._connections: set[Connection] = set()
        self._ticking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def enter(self, connection: Connection) -> None:
        """A connection was accepted. Where there are too many, the slowest one has to go."""
        self._connections.add(connection)
        if len(self._connections) > self.bounds.connections:
            victim = _longest_waiting(self._connections)
            self._connections.discard(victim)
            victim.cut_off()
        if self._ticking is None:
            self._ticking = connection.loop.call_later(_TICK, self._look, connection.loop)

    def leave(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticking = None
        now = loop.time()
        for connection in list(self._connections):
            connection.check_time(now)
        if self._connections:
            self._ticking = loop.call_later(_TICK, self._look, loop)


def _longest_waiting(connections: Iterable[Connection]) -> Connection:
    """Who takes longest to send a whole request; one whose request is being answered goes last."""
    order = {Phase.leaving: 0, Phase.idle: 1, Phase.receiving: 1, Phase.answering: 2}
    return min(connections, key=lambda each: (order[each.phase], each.since))


class _Refused(Exception):
    """Stops the parser from within a callback; `error` is the answer."""


class Connection(HttpToolsProtocol):
    """One connection. The parser's callbacks come from httptools, the requests' cycle from uvicorn."""

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._doorkeeper = doorkeeper
        self._bounds = doorkeeper.bounds
        self._leaving = False
        self._discarding = 0  # bytes that may still be read and forgotten
        self._refusal: FraisierError | None = None
        self._in_head = False
        self._head = 0  # bytes of this head, so far
        self._declining = False  # an upgrade was offered, which we do not take
        self._fruitless = 0  # bytes since the parser last delivered something
        self.since = self._heard = self.loop.time()

    @property
    def phase(self) -> Phase:
        """Whom the connection waits for."""
        if self._leaving or self.transport.is_closing():
            return Phase.leaving
        if self.cycle is not None and not self.cycle.response_complete:
            return Phase.receiving if self.cycle.more_body else Phase.answering
        return Phase.receiving if self._in_head or self._fruitless else Phase.idle

    # -- asyncio
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._doorkeeper.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self._doorkeeper.leave(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A sender that is done sending may still wait for its answer."""
        if self.phase is not Phase.answering:
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and refuse what it makes nothing of."""
        self._heard = self.loop.time()
        if self._leaving:
            self._discard(len(data))
            return
        if self.cycle is None or self.cycle.response_complete:
            self.since = self._heard if not self._fruitless else self.since
        self._fruitless += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or MalformedDelivery("cannot understand the request", "Send HTTP/1.1"))
        else:
            if self._fruitless > self._bounds.head:
                self._refuse(_head_too_large())

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._declining:
                raise httptools.HttpParserError from None
            self._decline(data[upgrade.args[0] :])

    def _decline(self, rest: bytes) -> None:
        """Read the request again as if no other protocol had been offered: the parser skips its body.

        Clients that know HTTP/2 offer `h2c` on ordinary requests.
        """
        self._declining = False
        kept = [header for header in self.headers if header[0] != b"upgrade"]
        lines = b"".join(b"%b: %b\r\n" % header for header in kept)
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (self.parser.get_method(), self.url, lines)
        self.parser = httptools.HttpRequestParser(self)
        self._feed(head + rest)

    # -- the parser's callbacks
    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= self._bounds.pipelined:
            self._stop(MalformedDelivery("cannot queue so many requests", "Wait for the answers"))
        self._in_head = True
        self._head = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which we have no use for.

        It does what uvicorn's does, too: calling that for each header takes 2 us of every request.
        """
        self._head += len(name) + len(value)
        if self._head > self._bounds.head or len(self.headers) >= self._bounds.headers:
            self._stop(_head_too_large())
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: the application starts."""
        self._in_head = False
        self._fruitless = 0
        if len(self.url) > self._bounds.head:
            self._stop(_head_too_large())
        if self.parser.should_upgrade() and any(name == b"upgrade" for name, _ in self.headers):
            self._declining = True
            return
        super().on_headers_complete()
        self.cycle.transport = _Exit(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._fruitless = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._fruitless = 0
        if not self._declining:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written: go on with the next request, if there is one already."""
        self.server_state.total_requests += 1
        self.since = self._heard = self.loop.time()
        if self.cycle.more_body and not self._leaving and not self.pipeline:
            self.say_farewell()
        if self._leaving or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    # -- ending
    def check_time(self, now: float) -> None:
        """End the connection if it has used up its time."""
        phase = self.phase
        if phase is Phase.leaving:
            if now - self.since > self._bounds.farewell:
                self.transport.abort()
        elif phase is Phase.idle:
            # Whoever connects has something to say; between two requests nobody has to.
            patience = self._bounds.silence if self.cycle is None else self._bounds.idle
            if now - self.since > patience:
                self.transport.close()
        elif phase is Phase.receiving:
            self._check_sender(now)
        elif self.flow.write_paused and now - self.since > self._bounds.unread:
            self.transport.abort()

    def _check_sender(self, now: float) -> None:
        if now - self.since > self._bounds.request:
            self._refuse(SenderTooSlow(f"cannot wait longer than {self._bounds.request:.0f} s for a request"))
        elif now - self._heard > self._bounds.silence and not self.flow.read_paused:
            self._refuse(
                SenderTooSlow(f"cannot wait longer than {self._bounds.silence:.0f} s for more bytes")
            )

    def cut_off(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def say_farewell(self) -> None:
        """Close after an answer to a request that was not read to its end.

        Closing at once would reset the connection, and the sender would never see why. A body of known
        length that is nearly over is read and forgotten; of any other nothing more is read.
        """
        self._leaving = True
        self.since = self.loop.time()
        announced = self._announced()
        if announced is not None and announced <= self._bounds.discarded:
            self._discarding = announced
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()
        self.transport.write_eof()

    def _discard(self, size: int) -> None:
        self._discarding -= size
        if self._discarding < 0:
            self.flow.pause_reading()

    def _announced(self) -> int | None:
        for name, value in self.headers or ():
            if name == b"content-length" and value.isdigit() and len(value) < 19:
                return int(value)
        return None

    def _stop(self, error: FraisierError) -> None:
        self._refusal = error
        raise _Refused

    def _refuse(self, error: FraisierError) -> None:
        """Answer in place of the application, and close."""
        if self.phase is Phase.answering:  # what came after a whole request shall not cost it its answer
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        self.transport.write(_raw(error))
        self.say_farewell()


class _Exit:
    """A connection's transport as its requests see it: closing it is left to the connection."""

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        connection = self._connection
        if connection.cycle.more_body or connection.flow.read_paused:
            connection.say_farewell()
        else:
            connection.transport.close()


def _head_too_large() -> HeadersTooLarge:
    return HeadersTooLarge("cannot take a head this large", "No forge sends more than a few kilobytes of it")


def _raw(error: FraisierError) -> bytes:
    answer = refusal(error)
    headers = [*BASE_HEADERS, (b"content-length", str(len(answer.body)).encode()), *answer.headers]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    status = HTTPStatus(answer.status)
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, status.phrase.encode(), lines, answer.body)
