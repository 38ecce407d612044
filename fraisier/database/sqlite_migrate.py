"""Applies migrations to a SQLite file."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fraisier.database.clocks import iso
from fraisier.database.migration_files import (
    Applied,
    Migration,
    check_applied,
    newest_number,
    refuse_newer,
)

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS tb_migrations (
    number     INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT
"""
_APPLIED = "SELECT number, name, checksum, applied_at FROM tb_migrations ORDER BY number"
_HAS_TABLE = "SELECT 1 FROM sqlite_schema WHERE name = 'tb_migrations'"
_NOTE = "INSERT INTO tb_migrations (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)"


def is_current(connection: sqlite3.Connection, folder: Path) -> bool:
    """Whether the database has every migration of ours: one look at its header.

    Raises:
        StoreTooNew: it has more.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    newest = newest_number(folder)
    refuse_newer(version, newest)
    return version == newest


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> list[int]:
    """Apply what is missing, under a lock that all processes respect; returns the numbers applied.

    Raises:
        StoreTooNew: the database was migrated by a newer Fraisier.
        StoreUnavailable: a migration that was applied is not the one we have.
    """
    with _exclusive(path):
        check_applied(applied(connection), migrations)
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        missing = [each for each in migrations if each.number > version]
        for migration in missing:
            _apply(connection, migration)
    return [each.number for each in missing]


def applied(connection: sqlite3.Connection) -> list[Applied]:
    """The migrations that the database has had, by number."""
    if connection.execute(_HAS_TABLE).fetchone() is None:
        return []
    return [Applied(*row) for row in connection.execute(_APPLIED)]


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
