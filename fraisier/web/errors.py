"""Refusals as HTTP: the status of each code, and the one shape of an error's body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NamedTuple

import orjson

from fraisier.domain.errors import FraisierError, TooManyFailures, http_status

RawHeaders = Sequence[tuple[bytes, bytes]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BASE_HEADERS: RawHeaders = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
CLOSE: RawHeaders = ((b"connection", b"close"),)


class Answer(NamedTuple):
    """A whole answer. `body` is JSON."""

    status: int
    body: bytes
    headers: RawHeaders = ()


class HttpRefusal(FraisierError):
    """A refusal that only HTTP knows; everything else is in domain/errors.py."""

    status = 400

    def __init__(self, message: str, hint: str = "", *, headers: RawHeaders = ()) -> None:
        super().__init__(message, hint)
        self.headers = headers


class MethodNotAllowed(HttpRefusal):
    """The path exists, for other methods."""

    code = "method_not_allowed"
    status = 405


class SenderTooSlow(HttpRefusal):
    """The rest of the request did not come in time."""

    code = "timeout"
    status = 408


class HeadersTooLarge(HttpRefusal):
    """The request's head is larger than any forge's."""

    code = "headers_too_large"
    status = 431


class Busy(HttpRefusal):
    """Nothing was stored, and nothing will be: the sender may try again."""

    code = "busy"
    status = 503


class Vanished(Exception):
    """The sender hung up before the request was complete."""


def refusal(error: FraisierError) -> Answer:
    """The answer to an expected refusal. It closes the connection: what was not read shall not be."""
    headers: list[tuple[bytes, bytes]] = list(CLOSE)
    if isinstance(error, HttpRefusal):
        return _error(error.status, error.code, error.message, error.hint, (*headers, *error.headers))
    if isinstance(error, TooManyFailures):
        headers.append((b"retry-after", str(error.retry_after).encode()))
    status = http_status(error)
    if status == 503:
        headers.append((b"retry-after", b"5"))
    return _error(status, error.code, error.message, error.hint, headers)


def internal_error() -> Answer:
    """The answer to what nobody expected; the log has the rest."""
    return _error(
        500, "internal", "cannot answer: something unexpected happened", "The server's log says more", CLOSE
    )


def _error(status: int, code: str, message: str, hint: str, headers: RawHeaders) -> Answer:
    error = {"code": code, "message": printable(message), "hint": printable(hint)}
    return Answer(status, orjson.dumps({"error": error}), headers)


def printable(text: str) -> str:
    """`text` without lone surrogates, which JSON cannot carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


async def respond(send: Send, answer: Answer) -> None:
    """Send a whole answer."""
    headers = [*BASE_HEADERS, (b"content-length", str(len(answer.body)).encode()), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
