"""What something printed, as far as it is kept: the beginning, the end, and a line about what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fraisier.database.transaction import Transaction

KEPT_HEAD = 256 * 1024  # bytes of an output that are kept of its beginning
KEPT_TAIL = 256 * 1024  # and of its end
_PIECE = 16 * 1024  # characters; what is dropped is dropped by the piece


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTable:
    """The statements of a table with output; `owner` are the columns that tell whose it is."""

    volume: str  # (owner's key) -> head, tail, dropped
    note_volume: str  # (owner's key, head, tail, dropped)
    write: str  # (*owner, part, bytes, written_at, text)
    oldest_tail: str  # (owner's key) -> seq, bytes
    gap: str  # (owner's key) -> seq
    make_gap: str  # (seq,)
    describe_gap: str  # (text, owner's key)
    drop: str  # (seq,)


def write_output(tx: Transaction, table: OutputTable, owner: Sequence[Any], text: str) -> None:
    """Append output; beyond the bound the middle is dropped, and a line says how much.

    `owner` are the columns that tell whose output it is; the last of them is its key.
    """
    key = owner[-1]
    row = tx.row(table.volume, (key,))
    head, tail, dropped = tuple(row) if row else (0, 0, 0)
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        size = len(piece.encode())
        part = "head" if not tail and not dropped and head + size <= KEPT_HEAD else "tail"
        tx.later(table.write, (*owner, part, size, tx.at, piece))
        head, tail = (head + size, tail) if part == "head" else (head, tail + size)
    before = dropped
    while tail > KEPT_TAIL:
        size = _drop_oldest(tx, table, key)
        tail, dropped = tail - size, dropped + size
    if dropped != before:
        tx.later(table.describe_gap, (f"\n[... {dropped:,} bytes of output were not kept ...]\n", key))
    tx.later(table.note_volume, (key, head, tail, dropped))


def _drop_oldest(tx: Transaction, table: OutputTable, key: Any) -> int:
    """Drop the oldest piece of the tail. The first one becomes the place where the gap is described."""
    oldest = tx.row(table.oldest_tail, (key,))
    if oldest is None:
        message = f"the output of {key} is not what was noted of it"
        raise LookupError(message)
    gap = tx.row(table.gap, (key,))
    tx.later(table.make_gap if gap is None else table.drop, (oldest["seq"],))
    return int(oldest["bytes"])
