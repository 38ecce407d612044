"""What one verb does inside the writer's transaction: statements, counters, audit rows, a wake."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from fraisier.database.clocks import Clocks, iso

Values = Sequence[Any] | Mapping[str, Any]

_COUNT = """
INSERT INTO tb_counters (name, value)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?) WHERE true
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
"""
_COUNT_DAYS = """
INSERT INTO tb_deployment_days (fraise, environment, day, status, total, timed, seconds)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
       json_extract(value, '$[6]')
  FROM json_each(?) WHERE true
    ON CONFLICT (fraise, environment, day, status) DO UPDATE
   SET total = total + excluded.total, timed = timed + excluded.timed, seconds = seconds + excluded.seconds
"""
_AUDIT = "INSERT INTO tb_audit_log (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)"
_LARGEST_CHUNK = 32  # rows of one statement; each number of rows is a statement that is kept prepared

Place = tuple[str, str]  # fraise, environment


class Transaction:
    """The part of a transaction that belongs to one verb. `now` is Unix time, `at` the same as text.

    Counters are collected and written by `flush`, as one statement each for however many rows changed.
    `wakes` is set by whoever changes the queue or ends something, `locked_at` (monotonic seconds) by who
    reads at length before the first statement that writes.
    """

    __slots__ = ("_counts", "_days", "at", "clocks", "connection", "locked_at", "now", "wakes")

    def __init__(self, connection: sqlite3.Connection, clocks: Clocks) -> None:
        self.connection = connection
        self.clocks = clocks
        self.now = round(clocks.now(), 6)
        self.at = iso(self.now)
        self.wakes = False
        self.locked_at = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._days: dict[tuple[str, str, str, str], list[float]] = {}

    def execute(self, sql: str, values: Values = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self.connection.execute(sql, values)

    def row(self, sql: str, values: Values = ()) -> sqlite3.Row | None:
        """The first row, or None."""
        found: sqlite3.Row | None = self.connection.execute(sql, values).fetchone()
        return found

    def insert(self, into: str, width: int, rows: Sequence[Sequence[Any]]) -> None:
        """Insert many rows with few statements.

        Each step of SQLite gives up Python's lock and has to win it back from the event loop: one
        statement for 32 rows costs one such hand-over, `executemany` costs 32.
        """
        for start in range(0, len(rows), _LARGEST_CHUNK):
            chunk = rows[start : start + _LARGEST_CHUNK]
            flat = [value for row in chunk for value in row]
            self.connection.execute(_insert_statement(into, width, len(chunk)), flat)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter, when the transaction ends."""
        self._counts[name] += number

    def count_deployment(
        self, place: Place, requested: str, status: str, number: int, duration: float | None = None
    ) -> None:
        """Note that `number` deployments more (or fewer) of that day have a status.

        A trigger of the schema sums them up for `tb_counters`.
        """
        day = self._days.setdefault((*place, requested[:10], status), [0, 0, 0.0])
        day[0] += number
        if duration is not None:
            day[1] += number
            day[2] += number * duration

    def audit(self, *, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Write an audit row in this transaction."""
        text = orjson.dumps(detail, default=str).decode()
        self.connection.execute(_AUDIT, (self.at, actor, action, subject, text))

    def flush(self) -> None:
        """Write what was counted."""
        counts = [(name, number) for name, number in self._counts.items() if number]
        days = [(*key, *sums) for key, sums in self._days.items() if any(sums)]
        if days:
            self.connection.execute(_COUNT_DAYS, (as_json(days),))
        if counts:
            self.connection.execute(_COUNT, (as_json(counts),))
        self._counts.clear()
        self._days.clear()


def as_json(values: Iterable[Any]) -> str:
    """A list for json_each, the way to give a statement any number of values."""
    return orjson.dumps(list(values)).decode()


_statements: dict[tuple[str, int], str] = {}


def _insert_statement(into: str, width: int, rows: int) -> str:
    """`into` with as many placeholders as `rows` need; the text holds no value."""
    known = _statements.get((into, rows))
    if known is None:
        one = "(" + ",".join("?" * width) + ")"
        known = _statements[into, rows] = f"{into} VALUES {','.join([one] * rows)}"
    return known
