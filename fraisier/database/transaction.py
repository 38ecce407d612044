"""What one verb does inside a transaction, on any database: statements, counters, audit rows, a wake.

SQL that every database understands stands beside the code that runs it; what differs stands in `Statements`.
All of it has SQLite's placeholders (`?` and `:name`), which `postgresql_connection` translates. Rows have the
same types everywhere: ids, times (UTC ISO 8601 with microseconds) and JSON are text.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from fraisier.application.ports.news import News
from fraisier.database.clocks import iso
from fraisier.domain.fraise import EnvironmentKey

Values = Sequence[Any] | Mapping[str, Any]

AUDIT = "INSERT INTO tb_audit_log (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)"
_LARGEST_CHUNK = 32  # rows of one statement; each number of rows is a statement that is kept prepared

Place = tuple[str, str]  # fraise, environment


class DatabaseRow(Protocol):
    """A row, by name or by position."""

    def __getitem__(self, key: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def keys(self) -> Iterable[str]:
        """The columns' names."""
        ...


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What statements are run on."""

    def execute(self, sql: str, values: Values = (), /) -> Rows: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """The SQL that differs between databases."""

    count: str  # from a JSON list of [name, number]
    count_days: str  # from a JSON list of [fraise, environment, day, status, total, timed, seconds]
    read_places: str  # see `deciding`
    supersede: str  # values: a time, a hint, and twice a JSON object: id -> id of the newer one
    remember: str  # from a JSON list of [fraise, environment, seen_tip, quarantine]
    deployment_by_id: str  # nothing where the text is no id
    change_deployment: str
    serves: str  # what an environment runs now; :deployment may be ''
    held_token: str  # the token of an environment that nobody else changes until the transaction ends
    let_go: str
    register_worker: str  # with the values of `Transaction.moment`
    held_run: str  # a run that nobody else changes until the transaction ends
    note_planned: str  # from a JSON list of [fraise, environment, job, time]
    history_of_some: str  # v_deployment_history with filters


class Transaction(ABC):
    """The part of a transaction that belongs to one verb.

    Counters are collected and written by `flush`, as one statement each for however many rows changed.
    `news` is told when it is committed (`tell`). `locked_at` (monotonic seconds) is set by who reads at
    length before the first statement that writes.
    """

    __slots__ = ("_at", "_counts", "_days", "_now", "connection", "locked_at", "news")

    sql: Statements

    def __init__(self, connection: Connection, now: float = 0.0) -> None:
        self.connection = connection
        self._begun_at(now)
        self.news = News.nothing
        self.locked_at = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._days: dict[tuple[str, str, str, str], list[float]] = {}

    def _begun_at(self, now: float) -> None:
        self._now = round(now, 6)
        self._at = iso(self._now)

    @property
    def now(self) -> float:
        """Unix time, the same from the beginning to the end."""
        return self._now

    @property
    def at(self) -> str:
        """The same as text."""
        return self._at

    @property
    def stamp(self) -> str:
        """The same as a value of a statement, for a column of times: the database may be the one to tell."""
        return self._at

    def tell(self, news: News) -> None:
        """Wake whom it concerns, when the transaction is committed."""
        self.news = max(self.news, news)

    @abstractmethod
    def lock(self, places: Collection[Place]) -> None:
        """Let nobody else change these environments until the transaction ends."""

    @abstractmethod
    def lock_all(self) -> None:
        """Let nobody else publish, or change any environment, until the transaction ends."""

    @abstractmethod
    def moment(self, ahead: float) -> Mapping[str, Any]:
        """The time in `ahead` seconds on the clock of leases, as values of a statement: `until`, ..."""

    def execute(self, sql: str, values: Values = ()) -> Rows:
        """Run one statement."""
        return self.connection.execute(sql, values)

    def later(self, sql: str, values: Values) -> None:
        """Run a statement that nobody needs the rows of: now, or with the next one that is executed."""
        self.execute(sql, values)

    def beside(self, sql: str, values: Sequence[Any]) -> None:
        """The same, of a statement with `?` whose rows no other one of this transaction touches.

        So the order does not matter, and the database may be given several as one.
        """
        self.later(sql, values)

    def expect(self, sql: str, values: Values, check: Callable[[DatabaseRow | None], None]) -> None:
        """`check` is given the first row before anything is committed, and raises if it is not to be.

        What follows in the transaction may be run before that: it is undone.
        """
        check(self.row(sql, values))

    def row(self, sql: str, values: Values = ()) -> DatabaseRow | None:
        """The first row, or None."""
        found: DatabaseRow | None = self.execute(sql, values).fetchone()
        return found

    def insert(self, into: str, width: int, rows: Sequence[Sequence[Any]]) -> None:
        """Insert many rows with few statements.

        Each step of SQLite gives up Python's lock and has to win it back from the event loop: one
        statement for 32 rows costs one such hand-over, `executemany` costs 32.
        """
        for start in range(0, len(rows), _LARGEST_CHUNK):
            chunk = rows[start : start + _LARGEST_CHUNK]
            flat = [value for row in chunk for value in row]
            self.beside(_insert_statement(into, width, len(chunk)), flat)

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
        self.later(AUDIT, (self.at, actor, action, subject, text))

    def flush(self) -> None:
        """Write what was counted."""
        counts = [(name, number) for name, number in self._counts.items() if number]
        days = [(*key, *sums) for key, sums in self._days.items() if any(sums)]
        if days:
            self.beside(self.sql.count_days, (as_json(days),))
        if counts:
            self.beside(self.sql.count, (as_json(counts),))
        self._counts.clear()
        self._days.clear()


def as_json(values: Iterable[Any]) -> str:
    """A JSON list, the way to give a statement any number of values."""
    return orjson.dumps(list(values)).decode()


def environments_as_json(keys: Iterable[EnvironmentKey]) -> str:
    """A JSON list of [fraise, environment]."""
    return as_json((key.fraise, key.environment) for key in keys)


_statements: dict[tuple[str, int], str] = {}


def _insert_statement(into: str, width: int, rows: int) -> str:
    """`into` with as many placeholders as `rows` need; the text holds no value."""
    known = _statements.get((into, rows))
    if known is None:
        one = "(" + ",".join("?" * width) + ")"
        known = _statements[into, rows] = f"{into} VALUES {','.join([one] * rows)}"
    return known
