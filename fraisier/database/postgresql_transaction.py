"""A transaction on PostgreSQL, and what becomes of one whose connection is lost.

Each transaction begins with counting up the receipt of its session (tb_receipts): the same statement tells
the server's time. It goes to the server in one round trip with the locks and the first other statement. Who
loses the answer to a COMMIT asks another session for that receipt. Locking its row waits for the end of the
lost session, so the answer is certain, also after a crash of the server. Its own pg_xact_status is not: a
crash can make it give a lost transaction's number to another one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
import psycopg

from fraisier.application.ports.news import News
from fraisier.database.clocks import iso, unix
from fraisier.database.postgresql_connection import (
    PATIENCE,
    Connections,
    ServerConnection,
    Statement,
    is_of_the_server,
    is_passing,
    without_nul,
)
from fraisier.database.postgresql_statements import POSTGRESQL
from fraisier.database.transaction import DatabaseRow, Place, Transaction, Values, as_json
from fraisier.domain.errors import StoreUnavailable

T = TypeVar("T")

CHANNEL = "fraisier"  # what listeners listen to
_MOST_TRIES = 10  # of a transaction that is rolled back for a passing reason

_COUNT_UP = """
UPDATE tb_receipts SET serial = serial + 1, at = now()
 WHERE connection = ? RETURNING serial, at, current_setting('fraisier.connection', true) AS session
"""
_FIRST_RECEIPT = """
INSERT INTO tb_receipts (connection, serial, at) VALUES (?, 0, clock_timestamp()) ON CONFLICT DO NOTHING
"""
_RECEIPT = "SELECT serial FROM tb_receipts WHERE connection = :connection FOR UPDATE"

# One notification for a whole transaction: it is delivered when that is committed.
STEP, REQUEST = "step", "request"
_NOTIFY = f"SELECT pg_notify('{CHANNEL}', ?)"

# FOR NO KEY UPDATE: rows that refer to the environment can be written meanwhile.
_LOCK = """
SELECT 1 FROM tb_environments e
 WHERE (e.fraise, e.name) IN (SELECT k->>0, k->>1 FROM jsonb_array_elements(CAST(? AS jsonb)) k)
 ORDER BY e.fraise, e.name FOR NO KEY UPDATE
"""
_INTO = re.compile(r"INSERT INTO (\w+) \(([^)]+)\)")
_JSON_COLUMNS = frozenset({"changes"})  # text that is JSON already
_NUL_IN_JSON = "\\u0000"

_LOCK_PUBLISHING = "SELECT 1 FROM tb_installation FOR NO KEY UPDATE"
_LOCK_ALL = "SELECT 1 FROM tb_environments ORDER BY fraise, name FOR NO KEY UPDATE"


# What timestamptz takes for the time at which the transaction began, which is what tb_receipts is given too.
# https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES
_NOW = "now"

Check = Callable[[DatabaseRow | None], None]


class _Kept(NamedTuple):
    """A statement that is run with the next one. `beside`, `check`: see `Transaction`."""

    sql: str
    values: Values
    check: Check | None = None
    beside: bool = False


def claim_word(store: str) -> str:
    """What is notified of a claim that was made through the store of that name."""
    return f"claimed through {store}"


class PostgresqlTransaction(Transaction):
    """See `Transaction`. Its time is the server's; asking for it begins the transaction.

    `serial` is the receipt's, -1 as long as it has not begun. `is_void` says that nothing need be committed.
    """

    __slots__ = ("_kept", "is_void", "serial")

    sql = POSTGRESQL
    connection: ServerConnection

    def __init__(self, connection: ServerConnection) -> None:
        super().__init__(connection)
        self.serial = -1
        self.is_void = False
        self._kept: list[_Kept] = []

    @property
    def now(self) -> float:
        """See `Transaction.now`."""
        self.begin()
        return self._now

    @property
    def at(self) -> str:
        """See `Transaction.at`."""
        self.begin()
        return self._at

    @property
    def stamp(self) -> str:
        """See `Transaction.stamp`: asking for it begins nothing."""
        return self._at if self.serial >= 0 else _NOW

    def begin(self) -> None:
        """Begin, if that was not done."""
        if self.serial < 0:
            self._run()

    def settle(self) -> None:
        """Have begun, and nothing left to check."""
        if self.serial < 0 or any(each.check for each in self._kept):
            self._run()

    def execute(self, sql: str, values: Values = ()) -> psycopg.Cursor[Any]:
        """Run one statement, after those that were kept."""
        if self.serial >= 0 and not self._kept:
            return self.connection.execute(sql, values)
        return self._run((sql, values))[-1]

    def _run(self, *statements: Statement) -> list[psycopg.Cursor[Any]]:
        """Begin if need be, run what was kept, then the statements: in one round trip."""
        begun = self.serial >= 0
        first: list[Statement] = [] if begun else [("BEGIN", ()), (_COUNT_UP, (self.connection.id,))]
        kept = self._kept
        found: list[psycopg.Cursor[Any]] = []
        try:
            sent = [*first, *((each.sql, each.values) for each in kept), *statements]
            self.connection.execute_all(sent, found)
        except psycopg.Error:
            # What came before the error may say why the transaction must not be.
            self._check(kept, found[len(first) :])
            raise
        if not begun and not self._has_begun(found[1]):
            self.connection.script("ROLLBACK")
            self.connection.execute(_FIRST_RECEIPT, (self.connection.id,))
            return self._run(*statements)
        self._kept = []
        self._check(kept, found[len(first) :])
        return found

    def _check(self, kept: Sequence[_Kept], found: Sequence[psycopg.Cursor[Any]]) -> None:
        for each, cursor in zip(kept, found, strict=False):
            if each.check is not None and cursor.description:
                each.check(cursor.fetchone())

    def _has_begun(self, counted: psycopg.Cursor[Any]) -> bool:
        """False in the session's first transaction, and in one after its receipt was pruned.

        Raises:
            StoreUnavailable: the session is not the one that we opened, and has other settings.
        """
        receipt = counted.fetchone()
        if receipt is None:
            return False
        if receipt["session"] != self.connection.id:
            raise self.connection.url.pooled()
        self.serial = receipt["serial"]
        self._begun_at(unix(receipt["at"]))
        return True

    def part(self) -> PostgresqlTransaction:
        """The same transaction, with counts and kept statements of its own."""
        part = PostgresqlTransaction(self.connection)
        part._begun_at(self.now)
        part.serial = self.serial
        return part

    def later(self, sql: str, values: Values) -> None:
        """Keep a statement until the next one that somebody needs the rows of: they go together."""
        self._kept.append(_Kept(sql, values))

    def beside(self, sql: str, values: Sequence[Any]) -> None:
        """Keep it, to be sent as a part of one statement with the others of its kind."""
        self._kept.append(_Kept(sql, values, beside=True))

    def expect(self, sql: str, values: Values, check: Check) -> None:
        """Keep it too: it is run, and checked, with the next one."""
        self._kept.append(_Kept(sql, values, check))

    def execute_all(self, *statements: Statement) -> list[psycopg.Cursor[Any]]:
        """Run several in one round trip, after those that were kept."""
        return self._run(*statements)[-len(statements) :]

    def insert(self, into: str, width: int, rows: Sequence[Sequence[Any]]) -> None:  # noqa: ARG002
        """Insert any number of rows with one statement that stays prepared: they go as one JSON text."""
        if rows:
            sql, columns = _insert_statement(into)
            self.beside(sql, (_as_records(columns, rows),))

    def finish(self, *last: Statement) -> None:
        """Write what was counted, run all that was kept, then `last`: in one round trip to the server."""
        self.flush()
        together = [each for each in self._kept if each.beside]
        if len(together) > 1:
            sql = _together(tuple(each.sql for each in together))
            values = [value for each in together for value in each.values]
            self._kept = [*(each for each in self._kept if not each.beside), _Kept(sql, values)]
        self._run(*last)

    def lock(self, places: Collection[Place]) -> None:
        """Lock the rows of the environments, in the order that everybody keeps to."""
        if places:
            self.later(_LOCK, (as_json(places),))

    def lock_all(self) -> None:
        """Lock the installation, then every environment."""
        self.later(_LOCK_PUBLISHING, ())
        self.later(_LOCK_ALL, ())

    def moment(self, ahead: float) -> Mapping[str, Any]:
        """A time by the server's clock."""
        return {"until": iso(self.now + ahead)}


@cache
def _together(statements: tuple[str, ...]) -> str:
    """Several statements as one. All of them see what was there before it.

    https://www.postgresql.org/docs/current/queries-with.html#QUERIES-WITH-MODIFYING
    """
    parts = ", ".join(f"part{number} AS ({sql})" for number, sql in enumerate(statements))
    return f"WITH {parts} SELECT"


@cache
def _insert_statement(into: str) -> tuple[str, tuple[str, ...]]:
    """`into` with its rows taken from JSON, and the names of its columns; the text holds no value."""
    found = _INTO.search(into)
    assert found is not None, into  # noqa: S101 - it is one of ours
    table, columns = found[1], found[2]
    names = tuple(name.strip().strip('"') for name in columns.split(","))
    source = f"json_populate_recordset(CAST(NULL AS {table}), CAST(? AS json))"
    return f"{into} SELECT {columns} FROM {source}", names  # noqa: S608 - names that stand in our own text


def _as_records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as json_populate_recordset takes them; raises UnicodeEncodeError."""
    text = _records_text(columns, rows)
    if _NUL_IN_JSON in text:  # or what looks like one: rare enough to write it all again
        text = _records_text(columns, [[without_nul(value) for value in row] for row in rows])
    return text


def _records_text(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    for column in _JSON_COLUMNS.intersection(columns):
        for record in records:
            record[column] = orjson.Fragment(record[column])
    try:
        return orjson.dumps(records, default=_bytea).decode()
    except orjson.JSONEncodeError:
        for value in (each for row in rows for each in row if isinstance(each, str)):
            value.encode()  # says which character it is
        raise


def _bytea(value: Any) -> str:
    """What JSON has no type for: bytes, as PostgreSQL reads them."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError


class Transactions:
    """Performs transactions until they are committed, within 3 seconds, and never twice."""

    def __init__(self, connections: Connections, name: str) -> None:
        """`name` signs what is told of claims."""
        self._connections = connections
        claim = claim_word(name)
        self._words = {News.step: STEP, News.claim: claim, News.request: REQUEST, News.work: ""}

    def perform(self, work: Callable[[PostgresqlTransaction], T], *, latest: float | None = None) -> T:
        """What `work` returned when it was committed. It may be called several times; one of them counts.

        `latest` (monotonic seconds) is when to give up; a first try is always made.

        Raises:
            StoreUnavailable: the server does not answer. Nothing was done, unless the message says that this
                cannot be told: the connection broke at the COMMIT and none could be had to ask.
        """
        latest = time.monotonic() + PATIENCE if latest is None else latest
        tries = 0
        while True:
            tries += 1
            attempt = _Attempt(self._connections, work, self._words)
            try:
                return attempt.perform(latest)
            except psycopg.Error as error:
                if attempt.is_committing and attempt.is_lost and self._counts(attempt):
                    return attempt.value
                if is_passing(error) and tries < _MOST_TRIES:
                    continue
                if attempt.is_lost and time.monotonic() < latest:
                    continue
                if attempt.is_lost or is_of_the_server(error):
                    raise self._connections.url.unavailable(error) from error
                raise

    def _counts(self, attempt: _Attempt[T]) -> bool:
        """Whether a transaction was committed whose COMMIT was not answered."""
        latest = time.monotonic() + PATIENCE
        try:
            while True:
                connection = self._connections.take(latest)
                try:
                    row = connection.execute(_RECEIPT, {"connection": attempt.connection}).fetchone()
                    return row is not None and row["serial"] >= attempt.serial
                except psycopg.Error as error:
                    if not is_of_the_server(error) or time.monotonic() > latest:
                        raise self._connections.url.unavailable(error) from error
                finally:
                    self._connections.give_back(connection)
        except StoreUnavailable as error:
            message = f"cannot tell whether it was done: the connection broke at the commit; {error}"
            raise StoreUnavailable(message, "Look at `fraisier history` before it is repeated") from error


class _Attempt(Generic[T]):
    """One try of a transaction on one session."""

    def __init__(
        self,
        connections: Connections,
        work: Callable[[PostgresqlTransaction], T],
        words: Mapping[News, str],
    ) -> None:
        self._connections, self._work, self._words = connections, work, words
        self.connection = ""  # whose receipt tells what became of it
        self.serial = 0
        self.is_committing = False
        self.is_lost = False
        self.value: T

    def perform(self, latest: float) -> T:
        """Commit it; raises whatever goes wrong, with the session given back."""
        connection = self._connections.take(latest)
        self.connection = connection.id
        transaction = PostgresqlTransaction(connection)
        try:
            self.value = self._work(transaction)
            if transaction.is_void:
                connection.roll_back()
            else:
                self._commit(transaction)
        except BaseException as error:
            if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
                # libpq's word and not the server's, as of a pipeline that broke: the session is of no use.
                connection.close()
            self.is_lost = connection.is_lost
            self._undo(connection)
            raise
        self._connections.give_back(connection)
        return self.value

    def _commit(self, transaction: PostgresqlTransaction) -> None:
        transaction.settle()
        self.serial = transaction.serial
        self.is_committing = True
        word = self._words.get(transaction.news)
        transaction.finish(*([] if word is None else [(_NOTIFY, (word,))]), ("COMMIT", ()))

    def _undo(self, connection: ServerConnection) -> None:
        """Roll back and keep the session, if it is good for that."""
        try:
            if not connection.is_lost:
                connection.script("ROLLBACK")
        except psycopg.Error:
            connection.close()
        self._connections.give_back(connection)
