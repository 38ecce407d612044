"""The SQLite file as a whole."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fraisier.application.ports import DatabaseStatus, SchemaState
from fraisier.application.settings import Settings
from fraisier.database import sqlite_migrate, sqlite_queue, views
from fraisier.database.clocks import iso, system_clocks
from fraisier.database.export_values import Values
from fraisier.database.migration_files import Applied
from fraisier.database.sql_database import Filling, Snapshot, SqlDatabase, quoted
from fraisier.database.sqlite import bring_up_to_date
from fraisier.database.sqlite_connection import (
    READ_PATIENCE,
    connect,
    is_of_the_file,
    path_of,
    prepare_file,
    unavailable,
)
from fraisier.database.sqlite_write_lock import PATIENCE
from fraisier.database.tables import Kind, Table
from fraisier.database.worker_locks import WorkerLocks
from fraisier.domain.errors import UnusableExport

_TABLES = """
SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
 WHERE t.type = 'table' AND substr(t.name, 1, 3) = 'tb_'
"""
_TRIGGERS = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"


def open_database(settings: Settings) -> SqliteDatabase:
    """The file that the configuration names; it need not be there."""
    return SqliteDatabase(settings.database_url, Path(settings.state_folder))


class SqliteDatabase(SqlDatabase):
    """`Database` on one SQLite file. `state_folder` has the locks by which live workers are known."""

    dialect = "sqlite"

    def __init__(self, url: str, state_folder: Path) -> None:
        super().__init__(url)
        self._path = path_of(url)
        self._locks = WorkerLocks(state_folder / "workers")

    def close(self) -> None:
        """Nothing is kept open."""

    def status(self) -> DatabaseStatus:
        """What it is and holds; a file that is not there is not made."""
        if self._path.exists():
            return super().status()
        return DatabaseStatus(
            url=self.url,
            dialect=self.dialect,
            server=_SERVER,
            state=SchemaState.missing,
            schema=0,
            newest=len(self._migrations),
            migrations=self._compared(),
        )

    def _applied(self) -> Sequence[Applied]:
        return super()._applied() if self._path.exists() else ()

    def _bring_up_to_date(self) -> Sequence[int]:
        prepare_file(self._path, create=True)
        return bring_up_to_date(self._path, thorough=True)

    @contextmanager
    def _looking(self) -> Iterator[Snapshot]:
        prepare_file(self._path, create=False)
        with closing(connect(self._path, patience=READ_PATIENCE, write=False)) as connection:
            try:
                connection.execute("BEGIN")
                yield SqliteSnapshot(connection, self._path, self._locks)
            except sqlite3.Error as error:
                raise unavailable(self._path, error) from error

    @contextmanager
    def _filling(self) -> Iterator[Filling]:
        # Closed without a COMMIT, nothing has happened.
        with closing(connect(self._path, patience=PATIENCE, write=True)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield SqliteFilling(connection, self._path, self._locks)
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise unavailable(self._path, error) from error


_SERVER = f"SQLite {sqlite3.sqlite_version}"


class SqliteSnapshot(Snapshot):
    """See `Snapshot`."""

    server = _SERVER
    tables_sql = _TABLES
    connection: sqlite3.Connection

    def __init__(self, connection: sqlite3.Connection, path: Path, locks: WorkerLocks) -> None:
        self.connection = connection
        self._path, self._locks = path, locks

    def now(self) -> str:
        """The machine's time."""
        return iso(time.time())

    def applied(self) -> Sequence[Applied]:
        """The migrations that it has had."""
        return sqlite_migrate.applied(self.connection)

    def live_workers(self) -> Sequence[Mapping[str, Any]]:
        """Workers with a recent sign of life, whose process lives."""
        rows = sqlite_queue.live_workers(self.connection, system_clocks())
        return [views.as_json_types(row) for row in rows if not self._locks.is_dead(row["id"])]

    def size(self) -> int:
        """Of the file and its log."""
        files = (self._path, Path(f"{self._path}-wal"))
        return sum(each.stat().st_size for each in files if each.exists())

    def rows(self, table: Table, columns: Sequence[str]) -> Iterator[Sequence[Any]]:
        """Row by row."""
        cursor = self.connection.cursor()
        cursor.row_factory = None
        yield from cursor.execute(f"SELECT {quoted(columns)} FROM {table.name} ORDER BY {table.key}")  # noqa: S608


class SqliteFilling(SqliteSnapshot, Filling):
    """See `Filling`."""

    _triggers: Sequence[tuple[str, str]] = ()

    def rest(self) -> None:
        """Drop the triggers: SQLite has no other way. Until the COMMIT nobody else sees it."""
        self._triggers = [(row["name"], row["sql"]) for row in self.connection.execute(_TRIGGERS)]
        for name, _ in self._triggers:
            self.connection.execute(f"DROP TRIGGER {name}")

    def insert(self, table: Table, columns: Sequence[str], rows: Iterable[Values]) -> None:
        """Insert row by row."""
        sql = f"INSERT INTO {table.name} ({quoted(columns)}) VALUES ({','.join('?' * len(columns))})"  # noqa: S608
        references = [i for i, name in enumerate(columns) if table.columns[name] is Kind.reference]
        try:
            self.connection.executemany(sql, _filled(rows, references))
        except sqlite3.Error as error:
            if is_of_the_file(error):
                raise
            message = f"cannot import {table.name}: {error}"
            raise UnusableExport(message, "Nothing was imported. Export again") from error

    def finish(self) -> None:
        """Create the triggers again. The next row's number is above the highest, as always."""
        for _, sql in self._triggers:
            self.connection.execute(sql)


def _filled(rows: Iterable[Values], references: Sequence[int]) -> Iterator[Sequence[Any]]:
    """Rows with '' for a reference to nothing."""
    if not references:
        yield from rows
        return
    for row in rows:
        values = list(row)
        for index in references:
            values[index] = values[index] or ""
        yield values
