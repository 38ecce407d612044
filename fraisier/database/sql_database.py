"""`Database` on SQL: what looking at a database as a whole, exporting and importing have in common.

An export is read in one transaction, so it is the state of one moment, also while others write. An import is
one transaction: whatever ends it early, the database is as empty as before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

import orjson

import fraisier
from fraisier.application.ports import (
    Copied,
    DatabaseStatus,
    MigrationState,
    MigrationStatus,
    SchemaState,
    Told,
)
from fraisier.database import house
from fraisier.database.export_file import ExportReader, ExportWriter, Header, Section
from fraisier.database.export_values import Values, decoded, encoded
from fraisier.database.migration_files import (
    Applied,
    Migration,
    check_applied,
    load_migrations,
    migrations_folder,
)
from fraisier.database.tables import TABLES, Table
from fraisier.database.transaction import AUDIT, Connection
from fraisier.domain.errors import Conflict, UnusableExport

_IS_USED = """
SELECT EXISTS (SELECT 1 FROM tb_webhook_events) OR EXISTS (SELECT 1 FROM tb_deployments)
    OR EXISTS (SELECT 1 FROM tb_environments WHERE token > 0)
"""
_HEART = "tb_installation"  # has one row, always
_BY_NAME = {table.name: table for table in TABLES}


class Snapshot(ABC):
    """A database at one moment: everything is read in one transaction."""

    server: str  # the product and its version
    connection: Connection
    tables_sql: str  # gives the names of table and column, for each column that there is

    @abstractmethod
    def now(self) -> str:
        """The time, as rows have it."""

    def tables(self) -> Mapping[str, Sequence[str]]:
        """The columns of each table that there is."""
        found: dict[str, list[str]] = defaultdict(list)
        for table, column in self.connection.execute(self.tables_sql):
            found[table].append(column)
        return found

    @abstractmethod
    def applied(self) -> Sequence[Applied]:
        """The migrations that it has had."""

    @abstractmethod
    def live_workers(self) -> Sequence[Mapping[str, Any]]:
        """Who works on it."""

    @abstractmethod
    def size(self) -> int:
        """Bytes on the disk."""

    @abstractmethod
    def rows(self, table: Table, columns: Sequence[str]) -> Iterator[Sequence[Any]]:
        """All rows of a table in the order of its key, a few at a time in memory."""

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def quoted(columns: Iterable[str]) -> str:
    """Names of columns for a statement."""
    return ", ".join(f'"{column}"' for column in columns)


class Filling(Snapshot):
    """A database that nobody else writes to, with every migration. Its triggers rest until `finish`."""

    @abstractmethod
    def rest(self) -> None:
        """Let no trigger fire: what is imported was counted and told to subscribers before."""

    @abstractmethod
    def insert(self, table: Table, columns: Sequence[str], rows: Iterable[Values]) -> None:
        """Insert rows as they come.

        Raises:
            UnusableExport: the database does not take one.
        """

    @abstractmethod
    def finish(self) -> None:
        """Let triggers fire again, and the next rows come after those that were imported."""


class SqlDatabase(ABC):
    """See `application.ports.Database`. `url` is without a password."""

    dialect: str

    def __init__(self, url: str) -> None:
        self.url = url
        self._migrations = load_migrations(migrations_folder(self.dialect))

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    @abstractmethod
    def _bring_up_to_date(self) -> Sequence[int]:
        """Apply the pending migrations; returns their numbers."""

    @abstractmethod
    def _looking(self) -> AbstractContextManager[Snapshot]:
        """A transaction that reads."""

    @abstractmethod
    def _filling(self) -> AbstractContextManager[Filling]:
        """The transaction of an import; it is committed unless an error leaves it."""

    # -- migrations
    def migrate(self, *, dry_run: bool = False) -> Sequence[str]:
        """Apply the pending migrations, or with `dry_run` none; returns their names."""
        numbers = self._pending() if dry_run else self._bring_up_to_date()
        return [each.full_name for each in self._migrations if each.number in numbers]

    def _pending(self) -> Sequence[int]:
        applied = self._applied()
        check_applied(applied, self._migrations)
        return [each.number for each in self._migrations[len(applied) :]]

    def _applied(self) -> Sequence[Applied]:
        with self._looking() as seen:
            return seen.applied()

    def status(self) -> DatabaseStatus:
        """What it is and holds; changes nothing."""
        with self._looking() as seen:
            applied, there = seen.applied(), seen.tables()
            migrations = self._compared(applied)
            state = _state(migrations)
            known = state in (SchemaState.current, SchemaState.older)
            return DatabaseStatus(
                url=self.url,
                dialect=self.dialect,
                server=seen.server,
                state=state,
                schema=max((each.number for each in applied), default=0),
                newest=len(self._migrations),
                migrations=migrations,
                installation=house.installation(seen.connection) if known else "",
                size_bytes=seen.size(),
                rows={table: seen.count(table) for table in sorted(there)},
                workers=seen.live_workers() if known else (),
            )

    def _compared(self, applied: Iterable[Applied] = ()) -> list[MigrationStatus]:
        had = {each.number: each for each in applied}
        ours = [_compared(each, had.pop(each.number, None)) for each in self._migrations]
        return ours + [_described(each, MigrationState.unknown) for each in had.values()]

    # -- moving
    def export_to(self, file: BinaryIO, *, told: Told) -> Copied:
        """Write all that outlives a process to `file`, as it is at one moment."""
        with self._looking() as seen:
            applied = seen.applied()
            if not applied:
                message = f"cannot export {self.url}: it is empty"
                raise Conflict(message, "Check database.url in the configuration")
            check_applied(applied, self._migrations)
            workers = len(seen.live_workers())
            writer = ExportWriter(file, self._header(seen, applied[-1].number))
            there = seen.tables()
            for table in TABLES:
                if table.name in there:
                    writer.section(_section(seen, table, there[table.name]), told)
            if not writer.counts.get(_HEART):
                message = f"cannot export {self.url}: its {_HEART} was not found, or is empty"
                raise Conflict(message, "Check which schema the role's search_path leads to")
            writer.finish()
            return Copied(rows=writer.counts, workers=workers)

    def _header(self, seen: Snapshot, schema: int) -> Header:
        return Header(
            fraisier=fraisier.__version__,
            schema=schema,
            dialect=self.dialect,
            installation=house.installation(seen.connection),
            exported_at=seen.now(),
        )

    def import_from(self, file: BinaryIO, *, by: str, told: Told) -> Copied:
        """Take over what `export_to` wrote: all of it, or nothing."""
        reader = ExportReader(file)
        self._refuse_newer_export(reader.header)
        self._bring_up_to_date()
        with self._filling() as target:
            self._refuse_used(target)
            target.rest()
            for table in reversed(TABLES):
                target.connection.execute(f"DELETE FROM {table.name}")  # noqa: S608 - a name of ours
            for section in reader.sections(told):
                _insert(target, section)
            if not reader.counts.get(_HEART):
                message = f"cannot import: the export has no row of {_HEART}, which every database has"
                raise UnusableExport(message, "Nothing was imported. Export again")
            target.finish()
            subject, detail = reader.header.installation, {"rows": reader.counts, **_origin(reader.header)}
            text = orjson.dumps(detail).decode()
            target.connection.execute(AUDIT, (target.now(), by, "import", subject, text))
        return Copied(rows=reader.counts, workers=0)

    def _refuse_newer_export(self, header: Header) -> None:
        if header.schema > len(self._migrations):
            message = (
                f"cannot import an export of schema {header.schema} (Fraisier {header.fraisier}):"
                f" this Fraisier knows {len(self._migrations)}"
            )
            raise UnusableExport(message, "Upgrade this Fraisier first")

    def _refuse_used(self, target: Filling) -> None:
        if workers := target.live_workers():
            who = "a worker lives" if len(workers) == 1 else f"{len(workers)} workers live"
            message = f"cannot import into {self.url}: {who} on it"
            raise Conflict(message, "Stop Fraisier first: systemctl stop fraisier")
        if target.connection.execute(_IS_USED).fetchone()[0]:
            message = f"cannot import into {self.url}: it is in use, with a history of its own"
            raise Conflict(message, "Create a new database and name it in database.url; nothing was changed")


def _state(migrations: Iterable[MigrationStatus]) -> SchemaState:
    states = {each.state for each in migrations}
    if MigrationState.unknown in states:
        return SchemaState.newer
    if MigrationState.changed in states:
        return SchemaState.changed
    if states == {MigrationState.pending}:
        return SchemaState.empty
    return SchemaState.older if MigrationState.pending in states else SchemaState.current


def _compared(ours: Migration, had: Applied | None) -> MigrationStatus:
    if had is None:
        return MigrationStatus(number=ours.number, name=ours.name, state=MigrationState.pending)
    same = had.checksum == ours.checksum
    return _described(had, MigrationState.applied if same else MigrationState.changed)


def _described(had: Applied, state: MigrationState) -> MigrationStatus:
    return MigrationStatus(number=had.number, name=had.name, state=state, applied_at=had.applied_at)


def _section(seen: Snapshot, table: Table, there: Sequence[str]) -> Section:
    columns = [column for column in table.columns if column in there]
    kinds = [table.columns[column] for column in columns]
    return Section(table.name, columns, encoded(kinds, seen.rows(table, columns)))


def _insert(target: Filling, section: Section) -> None:
    table = _BY_NAME.get(section.table)
    if table is None or not set(section.columns) <= set(table.columns):
        message = f"cannot import: the export has a table, or columns, that are unknown here: {section.table}"
        raise UnusableExport(message, "Upgrade this Fraisier first")
    kinds = [table.columns[column] for column in section.columns]
    target.insert(table, section.columns, decoded(section.table, kinds, section.rows))


def _origin(header: Header) -> Mapping[str, Any]:
    return {"fraisier": header.fraisier, "dialect": header.dialect, "exported_at": header.exported_at}
