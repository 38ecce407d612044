"""Connections to PostgreSQL: how they are opened, lent, found broken and opened again, within 3 seconds.

Not psycopg_pool: while the server is away its pool waits twice as long from attempt to attempt (1 s, 2 s,
4 s, ...: https://www.psycopg.org/psycopg3/docs/advanced/pool.html#pool-connection-reconnection-attempts),
and would refuse webhooks though the server is back. It also starts four threads, which a command that reads
one row would have to wait for.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import adapt, conninfo
from psycopg.adapt import Loader
from psycopg.types.numeric import FloatLoader
from psycopg.types.string import TextLoader

from fraisier.database.postgresql_advice import SESSIONS, advice
from fraisier.database.postgresql_watch import GRACE, Watch
from fraisier.database.transaction import Values
from fraisier.database.uuids import random_uuid
from fraisier.domain.errors import StoreUnavailable, UsageError
from fraisier.domain.secret import Secret

OLDEST_SERVER = 14
PATIENCE = 3.0  # seconds until a caller is told that the database does not answer
STATEMENT_PATIENCE = 30.0  # seconds that the server may work on one statement
LARGEST_POOL = 8  # connections of one process, beside the one that listens
_IDLE_KEPT = 3
_RETRY = 0.05  # seconds between two attempts to connect

# How libpq finds out that the other side is gone, where the URL does not say it: within some 15 seconds.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_DEFAULTS = {
    "application_name": "fraisier",
    "connect_timeout": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

# What is committed must be on the disk, whatever the server's default; a stronger one is left as it is.
# A transaction of ours is never idle for long: one that is has lost its client.
# What a statement is given is mostly one JSON text, of which the planner learns nothing: planning anew each
# time, as it may choose to do, costs more than the statement.
# Whatever the role or the database is set to: what is read after a lock is as it is then, a backslash in our
# SQL is one, texts are what they are, and times come with all their digits.
_SETTINGS = """
SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('standard_conforming_strings', 'on', false), set_config('client_encoding', 'UTF8', false),
       set_config('extra_float_digits', '1', false),
       set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                       ELSE current_setting('synchronous_commit') END, false),
       set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false),
       set_config('idle_in_transaction_session_timeout', '10s', false),
       set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false),
       set_config('fraisier.connection', %s, false)
"""

# Errors that go away by themselves: deadlock, serialization, the same delivery at two doors at once, which is
# found stored when it is looked at again, and a prepared statement whose table a newer Fraisier has migrated,
# which is prepared anew.
_PASSING = frozenset({"40001", "40P01", "23505", "0A000"})
# Classes of errors of the server and not of a statement: connection, resources, intervention, system, and
# a server that is read-only.
_OF_THE_SERVER = ("08", "53", "57", "58", "F0", "XX", "25006", "55P03", "28", "3D", "26", "42P05")


class DatabaseUrl:
    """A `postgresql://` URL whose password is never printed."""

    def __init__(self, url: str, password: Secret | None = None) -> None:
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            # libpq's message repeats parts of the URL.
            message = "cannot read database.url: it is no URL of PostgreSQL"
            raise UsageError(
                message, "Write postgresql://user@host/database; escape @ / : as %40 %2F %3A"
            ) from None
        written = Secret(str(given.pop("password", "") or ""))
        self._password = password or written
        self._parameters = {**_DEFAULTS, **{name: str(value) for name, value in given.items()}}

    def __str__(self) -> str:
        given = self._parameters
        where = given.get("host") or given.get("hostaddr") or "the local socket"
        return f"{given.get('dbname') or given.get('user') or 'the default database'} on {where}"

    def __repr__(self) -> str:
        return f"DatabaseUrl({self})"

    def connect(self) -> psycopg.Connection[Any]:
        """A connection, as libpq makes it; raises psycopg.OperationalError."""
        password = self._password.reveal()
        secret = {"password": password} if password else {}
        return psycopg.connect("", autocommit=True, **self._parameters, **secret)  # type: ignore[arg-type]

    def unavailable(self, error: BaseException | str) -> StoreUnavailable:
        """What went wrong with the server, for people."""
        said = str(error).strip().splitlines()
        reason = said[0] if said else type(error).__name__
        password = self._password.reveal()
        if password:
            reason = reason.replace(password, "***")
        hint = advice(getattr(error, "sqlstate", None) or "", reason)
        return StoreUnavailable(f"cannot use the database {self}: {reason}", hint)

    def pooled(self) -> StoreUnavailable:
        """What is said of a pooler that gave a transaction another session than ours."""
        return StoreUnavailable(f"cannot use the database {self}: a pooler mixes its sessions", SESSIONS)


Statement = tuple[str, Values]


class Row:
    """A row, by name or by position."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: Mapping[str, int], values: Sequence[Any]) -> None:
        self._columns, self._values = columns, values

    def __getitem__(self, key: int | str) -> Any:
        return self._values[key if isinstance(key, int) else self._columns[key]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> Iterable[str]:
        """The columns' names."""
        return self._columns.keys()


def _rows(cursor: psycopg.Cursor[Any]) -> Any:
    columns = {column.name: index for index, column in enumerate(cursor.description or ())}
    return lambda values: Row(columns, values)


class _IsoLoader(Loader):
    """timestamptz as our text. The session's time zone is UTC: 2026-11-22 21:00:00.12+00."""

    def load(self, data: Any) -> str:
        text = bytes(data).decode("ascii")
        second, _, fraction = text.removesuffix("+00").partition(".")
        return f"{second.replace(' ', 'T')}.{fraction:0<6}Z"


def _adapt(adapters: adapt.AdaptersMap) -> None:
    """Rows as every database gives them: ids, times and JSON are text, sums are numbers."""
    for name in ("uuid", "json", "jsonb"):
        adapters.register_loader(name, TextLoader)
    adapters.register_loader("timestamptz", _IsoLoader)
    adapters.register_loader("numeric", FloatLoader)


@lru_cache(maxsize=2048)
def translated(sql: str) -> str:
    """SQL with psycopg's placeholders instead of SQLite's. Only whole words after one colon are names."""
    escaped = sql.replace("%", "%%")
    named = re.sub(r"(?<!:):([a-z_]+)\b", r"%(\1)s", escaped)
    return named.replace("?", "%s")


class ServerConnection:
    """One session. `id` names it in tb_receipts."""

    def __init__(self, url: DatabaseUrl) -> None:
        self.id = random_uuid()
        self.url = url
        self.raw = url.connect()
        try:
            self._configure()
        except BaseException:
            self.raw.close()
            raise

    def _configure(self) -> None:
        info = self.raw.info
        if info.server_version < OLDEST_SERVER * 10000:
            message = f"cannot use PostgreSQL {info.server_version // 10000}"
            raise StoreUnavailable(message, f"Use PostgreSQL {OLDEST_SERVER} or newer")
        if info.parameter_status("server_encoding") != "UTF8":
            message = f"cannot use a database with the encoding {info.parameter_status('server_encoding')}"
            raise StoreUnavailable(message, "Create it with: createdb --encoding UTF8 --template template0")
        _adapt(self.raw.adapters)
        self.raw.row_factory = _rows
        # Sessions last, and each statement comes again: psycopg would plan it five times before it keeps one.
        self.raw.prepare_threshold = 0
        self.raw.prepared_max = 300
        limits = (f"{PATIENCE:.0f}s", f"{STATEMENT_PATIENCE:.0f}s", self.id)
        self.raw.execute(_SETTINGS, limits)

    @property
    def is_lost(self) -> bool:
        """Whether the session has ended, as far as we know."""
        return bool(self.raw.closed)

    def execute(self, sql: str, values: Values = ()) -> psycopg.Cursor[Any]:
        """Run one statement with SQLite's placeholders."""
        if not values:
            return self.raw.execute(sql)
        return self.raw.execute(translated(sql), _storable(values))

    def execute_all(self, statements: Iterable[Statement], found: list[psycopg.Cursor[Any]]) -> None:
        """Run several in one round trip; `found` has the cursors of those before one that fails.

        https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
        """
        with self.raw.pipeline():
            for sql, values in statements:
                found.append(self.execute(sql, values))

    def script(self, sql: str) -> psycopg.Cursor[Any]:
        """Run statements without values in one round trip; the cursor has the result of the first."""
        return self.raw.execute(sql, prepare=False)

    def roll_back(self) -> None:
        """Undo a transaction in which nothing failed.

        psycopg forgets all that the session has prepared when it sees a ROLLBACK, since tables may have been
        made in what is undone. Ours make none, and to prepare a claim anew takes longer than the claim.
        """
        server = self.raw.pgconn
        if server.exec_(b"ROLLBACK").status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.OperationalError(server.get_error_message())

    def cut(self) -> None:
        """From another thread: whoever waits for an answer is told that the connection is lost."""
        with contextlib.suppress(OSError, psycopg.Error):
            socket.socket(fileno=os.dup(self.raw.fileno())).shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the session; what was not committed is rolled back."""
        with contextlib.suppress(psycopg.Error):
            self.raw.close()


def _storable(values: Values) -> Values:
    """PostgreSQL's text has no NUL. Whoever sent one (a command's output) sees that something was there."""
    if isinstance(values, Mapping):
        return {name: without_nul(value) for name, value in values.items()}
    return [without_nul(value) for value in values]


def without_nul(value: Any) -> Any:
    """The value; a text with every NUL replaced."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) and "\x00" in value else value


def is_passing(error: BaseException) -> bool:
    """Whether the transaction was rolled back for something that goes away when it is repeated."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _PASSING


def is_of_the_server(error: BaseException) -> bool:
    """Whether it is the server that failed, and not a statement or a value."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_OF_THE_SERVER)


class Connections:
    """The sessions of this process: lent one at a time, at most `LARGEST_POOL`."""

    def __init__(self, url: DatabaseUrl) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._idle: list[ServerConnection] = []
        self._room = threading.Semaphore(LARGEST_POOL)
        self._watch = Watch()
        self._closed = False

    def take(self, latest: float, *, bounded: bool = True) -> ServerConnection:
        """A session for the caller alone; give it back with `give_back`.

        Tries at least once, and until `latest` (monotonic seconds). A session that is `bounded` is cut a
        while after that: a server that hangs says nothing, and nobody may wait for it for ever.

        Raises:
            StoreUnavailable: none can be had.
        """
        if not self._room.acquire(timeout=max(0.001, latest - time.monotonic())):
            raise self.url.unavailable(f"all {LARGEST_POOL} connections are in use")
        try:
            connection = self._idle_one() or self._new(latest)
        except BaseException:
            self._room.release()
            raise
        if bounded:
            self._watch.begin(connection, max(latest, time.monotonic()) + GRACE)
        return connection

    def _idle_one(self) -> ServerConnection | None:
        with self._lock:
            if self._closed:
                message = "cannot use the database: the store was closed"
                raise StoreUnavailable(message)
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_lost:
                    return connection
        return None

    def _new(self, latest: float) -> ServerConnection:
        while True:
            try:
                return ServerConnection(self.url)
            except psycopg.Error as error:
                if time.monotonic() + _RETRY > latest:
                    raise self.url.unavailable(error) from None  # its traceback has the password
            time.sleep(_RETRY)

    def give_back(self, connection: ServerConnection) -> None:
        """Return a session that is in no transaction; a lost one is forgotten, with all that are idle.

        When one session was lost the server has most likely ended them all.
        """
        self._watch.end(connection)
        stale: list[ServerConnection] = []
        with self._lock:
            if connection.is_lost:
                stale, self._idle = self._idle, []
            elif not self._closed and len(self._idle) < _IDLE_KEPT:
                self._idle.append(connection)
            else:
                stale = [connection]
        for each in stale:
            each.close()
        self._room.release()

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self._watch.close()


class Reading:
    """Runs single statements that read, each on any session, again where one was lost."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def execute(self, sql: str, values: Values = ()) -> psycopg.Cursor[Any]:
        """Run one statement that changes nothing.

        Raises:
            StoreUnavailable: the server does not answer in time.
        """
        latest = time.monotonic() + PATIENCE
        while True:
            connection = self._connections.take(latest)
            try:
                return connection.execute(sql, values)
            except psycopg.Error as error:
                if is_passing(error) and time.monotonic() < latest:
                    continue
                if not is_of_the_server(error):
                    raise
                if not connection.is_lost or time.monotonic() > latest:
                    raise self._connections.url.unavailable(error) from error
            finally:
                self._connections.give_back(connection)
