"""Secrets as a type that does not print, and the filter that keeps them out of everything written."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import NoReturn
from urllib.parse import quote, quote_plus

MASK = "******"
SHORTEST_REDACTED = 4  # characters; shorter values would mask innocent text
SHORTEST_BASE64 = 6
LONGEST_INNOCENT_LINE = 16  # a line of a key file this long, or longer, is a secret by itself


class Secret:
    """A value that is used and never shown. `reference` says where it comes from, e.g. `${TOKEN}`."""

    __slots__ = ("_value", "reference")

    def __init__(self, value: str, reference: str = "") -> None:
        self._value = value
        self.reference = reference

    def reveal(self) -> str:
        """The value itself; call it only where the value leaves for its purpose."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.reference or MASK})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("secret", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a secret")


class Redactor:
    """Replaces every known secret in text or in a stream of bytes by a mask.

    Looks for each value as it is, in base64 (standard and URL-safe, at any of the three alignments) and
    URL-encoded. A stream is filtered with `stream()`, which also finds a secret split over chunks.
    """

    def __init__(self, secrets: Iterable[Secret | str]) -> None:
        values = {s.reveal() if isinstance(s, Secret) else s for s in secrets}
        needles = {needle for value in values for needle in _spellings(value)}
        self._needles = sorted(needles, key=len, reverse=True)
        self.longest = max(map(len, self._needles), default=0)

    def text(self, text: str) -> str:
        """`text` without secrets."""
        return self.data(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def data(self, data: bytes) -> bytes:
        """`data` without secrets."""
        for needle in self._needles:
            if needle in data:
                data = data.replace(needle, MASK.encode())
        return data

    def stream(self) -> RedactedStream:
        """A filter for one stream of chunks."""
        return RedactedStream(self)

    def held_back(self, data: bytes) -> int:
        """How many bytes at the end of `data` could be the beginning of a secret."""
        for length in range(min(self.longest - 1, len(data)), 0, -1):
            tail = data[-length:]
            if any(needle.startswith(tail) for needle in self._needles):
                return length
        return 0


class RedactedStream:
    """One stream's state: what may still turn out to be a secret is held back until more is known."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._pending = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can be shown after `chunk` has arrived."""
        data = self._redactor.data(self._pending + chunk)
        keep = self._redactor.held_back(data)
        self._pending = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        """The rest, when nothing more comes."""
        rest, self._pending = self._pending, b""
        return rest


def _spellings(value: str) -> set[bytes]:
    if len(value) < SHORTEST_REDACTED:
        return set()
    raw = value.encode("utf-8", "surrogateescape")
    found = {raw, base64.b64encode(raw), base64.urlsafe_b64encode(raw)}
    found |= {quoted(value, errors="replace").encode() for quoted in (quote, quote_plus, _quote_all)}
    found |= {line.encode() for line in value.splitlines() if len(line) >= LONGEST_INNOCENT_LINE}
    for alignment in range(3):
        core = _base64_inside(raw, alignment)
        if len(core) >= SHORTEST_BASE64:
            found |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return {needle for needle in found if len(needle) >= SHORTEST_REDACTED}


def _quote_all(value: str, *, errors: str) -> str:
    return quote(value, safe="", errors=errors)


def _base64_inside(raw: bytes, alignment: int) -> bytes:
    """The characters that base64 of any longer text has where `raw` begins at `alignment` modulo 3."""
    length = alignment + len(raw)
    encoded = base64.b64encode(b"\0" * alignment + raw)
    return encoded[(0, 2, 3)[alignment] : 4 * (length // 3) + length % 3]
