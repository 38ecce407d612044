"""Migrations: applied once, in order, by one process; a newer or changed database is refused."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from fraisier.database import migration_files, sqlite_migrate
from fraisier.database.sqlite import open_sqlite
from fraisier.database.sqlite_connection import connect
from fraisier.domain.errors import StoreTooNew, StoreUnavailable

FIXTURE = Path(__file__).parent.parent / "fixtures" / "database_schema.sql"
ROOT = Path(__file__).parent.parent.parent
NEWEST = migration_files.newest_number(migration_files.migrations_folder("sqlite"))


def url(folder: Path) -> str:
    return f"sqlite://{folder}/fraisier.db"


def schema(path: Path) -> str:
    """All of the schema as text, in an order that does not depend on how it came about."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type, name"
        ).fetchall()
    return "".join(f"{re.sub(r' +', ' ', sql)};\n\n" for (sql,) in rows)


def test_the_migrations_make_the_schema_that_is_written_down(tmp_path: Path) -> None:
    """After a new migration: write the text that this test shows into the fixture, and read the difference."""
    open_sqlite(url(tmp_path), state_folder=str(tmp_path)).close()
    assert schema(tmp_path / "fraisier.db") == FIXTURE.read_text(encoding="utf-8")


def test_each_migration_is_noted_with_its_checksum(tmp_path: Path) -> None:
    open_sqlite(url(tmp_path), state_folder=str(tmp_path)).close()
    loaded = migration_files.load_migrations(migration_files.migrations_folder("sqlite"))
    with sqlite3.connect(tmp_path / "fraisier.db") as connection:
        noted = connection.execute("SELECT number, checksum FROM tb_migrations ORDER BY number").fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()
    assert noted == [(each.number, each.checksum) for each in loaded]
    assert version == (NEWEST,)


def test_a_later_migration_is_applied_to_a_database_that_has_the_earlier_ones(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(migration_files.migrations_folder("sqlite"), folder)
    open_sqlite(url(tmp_path), state_folder=str(tmp_path)).close()
    later = f"{NEWEST + 1:04d}_more.sql"
    (folder / later).write_text(
        "CREATE TABLE tb_more (a TEXT);\n-- a comment\nINSERT INTO tb_more VALUES (';');\n"
    )
    connection = connect(tmp_path / "fraisier.db", patience=1, write=True)
    loaded = migration_files.load_migrations(folder)
    assert sqlite_migrate.migrate(connection, tmp_path / "fraisier.db", loaded) == [NEWEST + 1]
    assert sqlite_migrate.migrate(connection, tmp_path / "fraisier.db", loaded) == []
    assert connection.execute("SELECT a FROM tb_more").fetchone()[0] == ";"
    connection.close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_bad.sql").write_text("CREATE TABLE tb_a (a TEXT);\nINSERT INTO tb_none VALUES (1);\n")
    (tmp_path / "x.db").touch()
    connection = connect(tmp_path / "x.db", patience=1, write=True)
    with pytest.raises(sqlite3.OperationalError, match="tb_none"):
        sqlite_migrate.migrate(connection, tmp_path / "x.db", migration_files.load_migrations(folder))
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    connection.close()


@pytest.mark.parametrize("readonly", [True, False])
def test_a_database_of_a_newer_fraisier_is_refused(tmp_path: Path, readonly: bool) -> None:
    open_sqlite(url(tmp_path), state_folder=str(tmp_path)).close()
    with sqlite3.connect(tmp_path / "fraisier.db") as connection:
        newer = NEWEST + 1
        connection.execute("INSERT INTO tb_migrations VALUES (?, 'x', 'y', '')", (newer,))
        connection.execute(f"PRAGMA user_version={newer}")
    with pytest.raises(StoreTooNew, match="newer Fraisier"):
        open_sqlite(url(tmp_path), state_folder=str(tmp_path), readonly=readonly)


def test_a_migration_that_was_changed_after_it_was_applied_is_refused(tmp_path: Path) -> None:
    open_sqlite(url(tmp_path), state_folder=str(tmp_path)).close()
    with sqlite3.connect(tmp_path / "fraisier.db") as connection:
        connection.execute("UPDATE tb_migrations SET checksum = 'other'")
    with pytest.raises(StoreUnavailable, match="0001_initial is not the one we have"):
        open_sqlite(url(tmp_path), state_folder=str(tmp_path))


def test_a_gap_in_the_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0002_second.sql").write_text("SELECT 1;\n")
    with pytest.raises(StoreUnavailable, match="Install Fraisier again"):
        migration_files.load_migrations(tmp_path)
