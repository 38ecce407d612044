"""The PostgreSQL database as a whole."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from fraisier.application.settings import Settings
from fraisier.database import postgresql_migrate, postgresql_queue, views
from fraisier.database.export_values import Values
from fraisier.database.migration_files import Applied
from fraisier.database.postgresql import bring_up_to_date
from fraisier.database.postgresql_connection import (
    PATIENCE,
    Connections,
    DatabaseUrl,
    ServerConnection,
    is_of_the_server,
    without_nul,
)
from fraisier.database.sql_database import Filling, Snapshot, SqlDatabase, quoted
from fraisier.database.tables import TABLES, Kind, Table
from fraisier.domain.errors import StoreUnavailable, UnusableExport

# An export or import takes as long as it takes, and may wait for whoever reads or gives its file.
_UNHURRIED = """
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0
"""
_LOOK = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_UNHURRIED}"
_FILL = f"BEGIN; {_UNHURRIED}"
# Others may read; whoever wants to write waits, and a worker that starts is told after a while.
_LOCK = f"LOCK TABLE tb_workers, {', '.join(table.name for table in TABLES)} IN SHARE ROW EXCLUSIVE MODE"

# Ours are where `tb_migrations` is found, which need not be `current_schema()`: one that is named like the
# role may have come later, and is in front of the others.
_TABLES = """
WITH ours AS (SELECT relnamespace AS oid FROM pg_class WHERE oid = to_regclass('tb_migrations'))
SELECT CASE WHEN n.oid = ours.oid THEN '' ELSE n.nspname || '.' END || c.relname, a.attname
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN ours
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relkind = 'r'
   AND (n.oid = ours.oid AND c.relname LIKE 'tb\\_%'
        OR n.nspname = 'core' AND c.relname = 'tb_entity_change_log')
"""
_SIZE = "SELECT pg_database_size(current_database())"
_NOW = "SELECT clock_timestamp()"
_SOURCES = {
    "tb_counters": "(SELECT name, sum(value)::bigint AS value FROM tb_counters GROUP BY name) c",
}
# What a row needs here that an export does not have.
_CONSTANTS: Mapping[str, Mapping[str, Any]] = {"tb_counters": {"shard": 0}}
_NUMBERED = [(table.name, table.key) for table in TABLES if table.key in ("pk", "seq")]
_NEXT = "SELECT setval(pg_get_serial_sequence('{0}', '{1}'), (SELECT max({1}) FROM {0}))"
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # in JSON; a backslash before it may be a text's own


def open_database(settings: Settings) -> PostgresqlDatabase:
    """The database that the configuration names."""
    url = DatabaseUrl(settings.database_url, settings.database_password)
    return PostgresqlDatabase(settings.database_url, Connections(url))


class PostgresqlDatabase(SqlDatabase):
    """`Database` on PostgreSQL 14 or newer."""

    dialect = "postgresql"

    def __init__(self, url: str, connections: Connections) -> None:
        super().__init__(url)
        self._connections = connections

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _bring_up_to_date(self) -> Sequence[int]:
        return bring_up_to_date(self._connections, thorough=True)

    @contextmanager
    def _looking(self) -> Iterator[Snapshot]:
        with self._transaction(_LOOK) as connection:
            yield PostgresqlSnapshot(connection)

    @contextmanager
    def _filling(self) -> Iterator[Filling]:
        with self._transaction(_FILL) as connection:
            connection.execute(_LOCK)
            yield PostgresqlFilling(connection)
            try:
                connection.execute("COMMIT")
            except psycopg.Error as error:
                message = f"cannot tell whether all was imported: {error}"
                raise StoreUnavailable(message, "See `fraisier db status`: it is all, or nothing") from error

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[ServerConnection]:
        """A session that nobody cuts; what is not committed is rolled back."""
        connection = self._connections.take(time.monotonic() + PATIENCE, bounded=False)
        try:
            connection.script(begin)
            yield connection
        except psycopg.Error as error:
            raise self._connections.url.unavailable(error) from error
        finally:
            with suppress(psycopg.Error):
                connection.close()
            self._connections.give_back(connection)


class PostgresqlSnapshot(Snapshot):
    """See `Snapshot`."""

    tables_sql = _TABLES
    connection: ServerConnection

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        version = connection.raw.info.server_version
        self.server = f"PostgreSQL {version // 10000}.{version % 10000}"

    def now(self) -> str:
        """The server's time."""
        return str(self._value(_NOW))

    def _value(self, sql: str) -> Any:
        (row,) = self.connection.execute(sql).fetchall()
        return row[0]

    def applied(self) -> Sequence[Applied]:
        """The migrations that it has had."""
        return postgresql_migrate.applied(self.connection)

    def live_workers(self) -> Sequence[Mapping[str, Any]]:
        """Workers that gave a sign of life within their lease."""
        return [views.as_json_types(row) for row in postgresql_queue.live_workers(self.connection)]

    def size(self) -> int:
        """Of the whole database."""
        return int(self._value(_SIZE))

    def rows(self, table: Table, columns: Sequence[str]) -> Iterator[Sequence[Any]]:
        """Row by row, as the server sends them."""
        source = _SOURCES.get(table.name, table.name)
        sql = f"SELECT {quoted(columns)} FROM {source} ORDER BY {table.key}"  # noqa: S608 - names of ours
        with self.connection.raw.cursor(row_factory=tuple_row) as cursor:
            yield from cursor.stream(sql)


class PostgresqlFilling(PostgresqlSnapshot, Filling):
    """See `Filling`."""

    def rest(self) -> None:
        """Only those of the schema: references are still checked."""
        for table in TABLES:
            self.connection.execute(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")

    def insert(self, table: Table, columns: Sequence[str], rows: Iterable[Values]) -> None:
        """COPY, which takes the numbers of identity columns as they are given."""
        constants = _CONSTANTS.get(table.name, {})
        sql = f"COPY {table.name} ({quoted([*columns, *constants])}) FROM STDIN"
        json = [table.columns[name] is Kind.json for name in columns]
        rest = tuple(constants.values())
        try:
            with self.connection.raw.cursor().copy(sql) as copy:
                for row in rows:
                    copy.write_row((*map(_storable, row, json), *rest))
        except psycopg.Error as error:
            if is_of_the_server(error):
                raise
            reason = str(error).replace("\n", "; ")
            message = f"cannot import {table.name}: {reason}"
            raise UnusableExport(message, "Nothing was imported. Export again") from error

    def finish(self) -> None:
        """Triggers fire again, new rows are numbered above the highest, and the planner knows how many."""
        for table in TABLES:
            self.connection.execute(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")
        for name, key in _NUMBERED:
            self.connection.execute(_NEXT.format(name, key))
        self.connection.execute(f"ANALYZE {', '.join(table.name for table in TABLES)}")


def _storable(value: Any, is_json: bool) -> Any:  # noqa: FBT001 - called for every value
    """PostgreSQL has no NUL in a text, nor in JSON; see `postgresql_connection.without_nul`."""
    if is_json and isinstance(value, str):
        return _NUL.sub(r"\1\\ufffd", value) if "\\u0000" in value else value
    return without_nul(value)
