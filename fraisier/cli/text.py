"""Text from outside on its way to a terminal: no control characters, known widths, names abbreviated."""

from __future__ import annotations

import re
import unicodedata

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
SHORT_ID = 8
SHORT_COMMIT = 10


def printable(text: object, *, keep: str = "") -> str:
    """`text` without what could move the cursor, change colours or reorder what is read.

    A branch's name, a sender and an error's text come from outside; they are shown, never obeyed.
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else "\ufffd", str(text))


def output_text(text: str, *, colour: bool) -> str:
    """A command's output for the screen: its colours where those are wanted, no other escapes."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    pieces = []
    end = 0
    for found in _ESCAPE.finditer(text):
        pieces.append(printable(text[end : found.start()], keep="\n\t"))
        pieces.append(found[0] if colour and _COLOUR.fullmatch(found[0]) else "")
        end = found.end()
    pieces.append(printable(text[end:], keep="\n\t"))
    return "".join(pieces)


def width(text: str) -> int:
    """Columns that `text` takes on a terminal; `text` has no escapes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shorten(text: str, columns: int) -> str:
    """`text` in at most `columns` columns, the end replaced by … where it does not fit."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for character in text:
        used += _columns(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept) + "…"


def short_ref(ref: str) -> str:
    """A ref as people say it: `main`, `tags/v1`."""
    return ref.removeprefix("refs/heads/").removeprefix("refs/")
