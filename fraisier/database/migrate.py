"""Numbered, checksummed migrations: plain SQL files, applied in order, each exactly once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fraisier.database.clocks import iso
from fraisier.domain.errors import StoreTooNew, StoreUnavailable

_FILE = re.compile(r"(\d{4})_(\w+)\.sql\Z")

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS tb_migrations (
    number     INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT
"""
_APPLIED = "SELECT number, name, checksum FROM tb_migrations ORDER BY number"
_HAS_TABLE = "SELECT 1 FROM sqlite_schema WHERE name = 'tb_migrations'"
_NOTE = "INSERT INTO tb_migrations (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `db/<dialect>/`."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """sha256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations_folder(dialect: str) -> Path:
    """`db/<dialect>` beside the package in a checkout, `fraisier/_db/<dialect>` where it is installed."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_db" / dialect
    return installed if installed.is_dir() else package.parent / "db" / dialect


def load_migrations(folder: Path) -> Sequence[Migration]:
    """All migrations of a folder, by number. Numbers count from 1 without a gap.

    Raises:
        StoreUnavailable: there are none, or one is missing: the installation is damaged.
    """
    matches = [(found, path) for path in sorted(folder.glob("*.sql")) if (found := _FILE.match(path.name))]
    loaded = [Migration(int(m[1]), m[2], path.read_text(encoding="utf-8")) for m, path in matches]
    if not loaded or [each.number for each in loaded] != list(range(1, len(loaded) + 1)):
        message = f"cannot find the database's migrations in {folder}"
        raise StoreUnavailable(message, "Install Fraisier again")
    return loaded


def newest_number(folder: Path) -> int:
    """The number of the newest migration, from the names of the files alone."""
    return max((int(m[1]) for path in folder.glob("*.sql") if (m := _FILE.match(path.name))), default=0)


def is_current(connection: sqlite3.Connection, folder: Path) -> bool:
    """Whether the database has every migration of ours: one look at its header.

    Raises:
        StoreTooNew: it has more.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    newest = newest_number(folder)
    _refuse_newer(version, newest)
    return version == newest


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> list[int]:
    """Apply what is missing, under a lock that all processes respect; returns the numbers applied.

    Raises:
        StoreTooNew: the database was migrated by a newer Fraisier.
        StoreUnavailable: a migration that was applied is not the one we have.
    """
    with _exclusive(path):
        _check(connection, migrations)
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        missing = [each for each in migrations if each.number > version]
        for migration in missing:
            _apply(connection, migration)
    return [each.number for each in missing]


def _check(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    if connection.execute(_HAS_TABLE).fetchone() is None:
        return
    ours = {each.number: each for each in migrations}
    for number, name, checksum in connection.execute(_APPLIED).fetchall():
        _refuse_newer(number, len(migrations))
        if ours[number].checksum != checksum:
            message = f"cannot use this database: its migration {number:04d}_{name} is not the one we have"
            raise StoreUnavailable(message, "Install the Fraisier that migrated it, or restore a backup")


def _refuse_newer(version: int, newest: int) -> None:
    if version > newest:
        message = f"cannot use a database of a newer Fraisier (schema {version}, this one knows {newest})"
        raise StoreTooNew(message, "Upgrade this Fraisier, or restore the backup from before the upgrade")


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_CREATE_TABLE)
        for statement in _statements(migration.sql):
            connection.execute(statement)
        noted = (migration.number, migration.name, migration.checksum, iso(time.time()))
        connection.execute(_NOTE, noted)
        connection.execute(f"PRAGMA user_version={migration.number:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(sql: str) -> Iterator[str]:
    """The statements of a script. `executescript` would commit the transaction that we are in."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    lock = os.open(f"{path}.migrate", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
