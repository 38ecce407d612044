"""Secrets as a type that does not print, and the filter that keeps them out of everything written."""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NoReturn
from urllib.parse import quote, quote_plus

MASK = "******"
SHORTEST_REDACTED = 4  # characters; shorter values would mask innocent text
SHORTEST_BASE64 = 6
LONGEST_INNOCENT_LINE = 16  # a line of a key file this long, or longer, is a secret by itself
_BROKEN = 16  # characters of base64 that are looked for across the ends of lines; fewer may be words
_CERTAIN = 8  # characters of base64 over a line's end that are taken for a secret's beginning
_CONTEXT = 64  # bytes that were shown and are looked at again: so many characters, line breaks, colour codes
_COLOUR = re.compile(rb"\x1b(?:\[[0-9;:]*(?:[A-Za-z]|\Z)|\Z)")
_COLOUR_OR_BREAK = re.compile(rb"\x1b(?:\[[0-9;:]*(?:[A-Za-z]|\Z)|\Z)|[\r\n]+")


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

    Looks for each value as it is, in base64 (standard and URL-safe, at any of the three alignments),
    URL-encoded and escaped as in JSON. Neither colour codes hide one, nor the line breaks of wrapped
    base64. A stream is filtered with `stream()`, which also finds a secret split over chunks.
    """

    def __init__(self, secrets: Iterable[Secret | str]) -> None:
        values = {s.reveal() if isinstance(s, Secret) else s for s in secrets}
        needles = {needle for value in values for needle in _spellings(value)}
        wrapped = {needle for value in values for needle in _in_base64(value) if len(needle) >= _BROKEN}
        self._looks = (_Look(needles, _COLOUR, 1), _Look(wrapped, _COLOUR_OR_BREAK, _CERTAIN))
        self._longest_held = 2 * max(map(len, needles), default=0) + 1024

    def text(self, text: str) -> str:
        """`text` without secrets."""
        return self.data(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def data(self, data: bytes) -> bytes:
        """`data` without secrets."""
        return _masked(data, self._found(data))

    def stream(self) -> RedactedStream:
        """A filter for one stream of chunks."""
        return RedactedStream(self)

    def split(self, data: bytes, shown: int = 0, *, last: bool = False) -> tuple[bytes, int]:
        """What of `data` can be shown, without secrets, and where the rest begins, which may be a secret's.

        The first `shown` bytes have been shown already: a secret that begins there is masked from there on.
        With `last` nothing more comes, and all can be shown.
        """
        found = [(max(start, shown), stop) for start, stop in self._found(data) if stop > shown]
        end = len(data) if last else max(shown, min(look.beginning(data) for look in self._looks))
        if len(data) - end > self._longest_held:
            end = len(data)
        end = next((start for start, stop in found if start < end < stop), end)
        spans = [(start - shown, stop - shown) for start, stop in found if stop <= end]
        return _masked(data[shown:end], spans), end

    def _found(self, data: bytes) -> list[Span]:
        return _merged(span for look in self._looks for span in look.found(data))


Span = tuple[int, int]


class _Look:
    """Looks for needles in what is left of data without what `ignored` matches."""

    def __init__(self, needles: Iterable[bytes], ignored: re.Pattern[bytes], shortest: int) -> None:
        self._needles = sorted(needles)
        self._ignored = ignored
        self._shortest = shortest  # bytes of a needle's beginning that are held back

    def found(self, data: bytes) -> Iterator[Span]:
        """Where needles are; they may overlap."""
        seen = _Seen(data, self._ignored)
        for needle in self._needles:
            start = seen.text.find(needle)
            while start >= 0:
                yield seen.place(start), seen.place(start + len(needle) - 1) + 1
                start = seen.text.find(needle, start + 1)

    def beginning(self, data: bytes) -> int:
        """Where the longest end of data begins that could become a needle; its length if there is none."""
        seen = _Seen(data, self._ignored)
        text, first = seen.text, len(seen.text)
        for needle in self._needles:
            start = text.find(needle[:1], max(0, len(text) - len(needle) + 1), first)
            while start >= 0 and not needle.startswith(text[start:]):
                start = text.find(needle[:1], start + 1, first)
            first = start if start >= 0 else first
        return seen.place(first) if len(text) - first >= self._shortest else len(data)


class _Seen:
    """Data without what is ignored, and where each byte of the rest was."""

    def __init__(self, data: bytes, ignored: re.Pattern[bytes]) -> None:
        self.text = ignored.sub(b"", data)
        self._data, self._ignored = data, ignored

    @cached_property
    def _gaps(self) -> tuple[list[int], list[int]]:
        """Where in the text something was left out, and how much altogether up to there."""
        places, sizes, total = [], [], 0
        for gap in self._ignored.finditer(self._data):
            places.append(gap.start() - total)
            total += gap.end() - gap.start()
            sizes.append(total)
        return places, sizes

    def place(self, position: int) -> int:
        """The place in the data of a position in the text."""
        if len(self.text) == len(self._data):
            return position
        places, sizes = self._gaps
        before = bisect_right(places, position)
        return position + (sizes[before - 1] if before else 0)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _masked(data: bytes, spans: Iterable[Span]) -> bytes:
    pieces, end = [], 0
    for start, stop in spans:
        pieces += [data[end:start], MASK.encode()]
        end = stop
    return b"".join((*pieces, data[end:]))


class RedactedStream:
    """One stream's state: what may still turn out to be a secret is held back until more is known."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._data = b""
        self._shown = 0  # bytes at the beginning of the data that have been shown

    def feed(self, chunk: bytes) -> bytes:
        """What can be shown after `chunk` has arrived."""
        data = self._data + chunk
        shown, end = self._redactor.split(data, self._shown)
        # A few characters of wrapped base64 before a line's end are too common to be held back. What comes
        # after them must still be known.
        kept = max(0, end - _CONTEXT)
        self._data, self._shown = data[kept:], end - kept
        return shown

    def end(self) -> bytes:
        """The rest, when nothing more comes."""
        rest, _ = self._redactor.split(self._data, self._shown, last=True)
        self._data, self._shown = b"", 0
        return rest


def _spellings(value: str) -> set[bytes]:
    if len(value) < SHORTEST_REDACTED:
        return set()
    import json  # not needed by commands that only read

    raw = value.encode("utf-8", "surrogateescape")
    found = {raw, *_in_base64(value)}
    found |= {quoted(value, errors="replace").encode() for quoted in (quote, quote_plus, _quote_all)}
    found |= {json.dumps(value, ensure_ascii=only)[1:-1].encode("utf-8", "replace") for only in (True, False)}
    found |= {line.encode() for line in value.splitlines() if len(line) >= LONGEST_INNOCENT_LINE}
    return {needle for needle in found if len(needle) >= SHORTEST_REDACTED}


def _in_base64(value: str) -> set[bytes]:
    raw = value.encode("utf-8", "surrogateescape")
    if len(value) < SHORTEST_REDACTED:
        return set()
    found = {base64.b64encode(raw), base64.urlsafe_b64encode(raw)}
    for alignment in range(3):
        core = _base64_inside(raw, alignment)
        if len(core) >= SHORTEST_BASE64:
            found |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def _quote_all(value: str, *, errors: str) -> str:
    return quote(value, safe="", errors=errors)


def _base64_inside(raw: bytes, alignment: int) -> bytes:
    """The characters that base64 of any longer text has where `raw` begins at `alignment` modulo 3."""
    length = alignment + len(raw)
    encoded = base64.b64encode(b"\0" * alignment + raw)
    return encoded[(0, 2, 3)[alignment] : 4 * (length // 3) + length % 3]
