"""Applies migrations to a PostgreSQL database: all in one transaction, one process at a time."""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.database.migration_files import Applied, Migration, check_applied, refuse_newer
from fraisier.database.postgresql_connection import ServerConnection

# Any number will do that is ours alone; held until the transaction ends. Another process may be migrating for
# longer than we wait for a lock otherwise.
_ONE_AT_A_TIME = """
BEGIN;
SET LOCAL lock_timeout = 0;
SET LOCAL statement_timeout = 0;
SELECT pg_advisory_xact_lock(4742366193820001)
"""
_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS tb_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
# 0002 and 0010 found no schema whose name needs quotes; files that were applied somewhere stay as they are.
_UNQUOTED, _QUOTED = "current_schema()::regnamespace", "quote_ident(current_schema())::regnamespace"
_HAS_TABLE = "SELECT to_regclass('tb_migrations') IS NOT NULL"
_APPLIED = "SELECT number, name, checksum, applied_at FROM tb_migrations ORDER BY number"
_NEWEST = "SELECT coalesce(max(number), 0) FROM tb_migrations"
_NOTE = "INSERT INTO tb_migrations (number, name, checksum) VALUES (?, ?, ?)"


def version_of(connection: ServerConnection) -> int:
    """The number of the newest migration that was applied; 0: none."""
    if not _has_table(connection):
        return 0
    return int(connection.execute(_NEWEST).fetchone()[0])  # type: ignore[index]


def applied(connection: ServerConnection) -> list[Applied]:
    """The migrations that the database has had, by number."""
    return [Applied(*row) for row in connection.execute(_APPLIED)] if _has_table(connection) else []


def _has_table(connection: ServerConnection) -> bool:
    return bool(connection.execute(_HAS_TABLE).fetchone()[0])  # type: ignore[index]


def is_current(connection: ServerConnection, newest: int) -> bool:
    """Whether the database has every migration of ours.

    Raises:
        StoreTooNew: it has more.
    """
    version = version_of(connection)
    refuse_newer(version, newest)
    return version == newest


def migrate(connection: ServerConnection, migrations: Sequence[Migration]) -> list[int]:
    """Apply what is missing; returns the numbers applied. If one fails, none is.

    Raises:
        StoreTooNew: the database was migrated by a newer Fraisier.
        StoreUnavailable: a migration that was applied is not the one we have.
    """
    connection.script(_ONE_AT_A_TIME)
    try:
        found = applied(connection)
        check_applied(found, migrations)
        missing = migrations[len(found) :]
        if missing:
            connection.execute(_CREATE_TABLE)
        for each in missing:
            connection.script(each.sql.replace(_UNQUOTED, _QUOTED))
            connection.execute(_NOTE, (each.number, each.name, each.checksum))
        connection.script("COMMIT")
    except BaseException:
        if not connection.is_lost:
            connection.script("ROLLBACK")
        raise
    return [each.number for each in missing]
