"""`fraisier db`: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.exports import dump
from tests.unit.cli_world import World, deploy, fail


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "old").mkdir()
    return World.create(tmp_path / "old")


def used(world: World) -> World:
    with world.store() as store:
        deploy(store)
        fail(store)
    return world


def test_a_database_that_is_not_there_is_made_by_migrate_alone(world: World) -> None:
    looked = world.run("db", "status")
    assert looked.exit_code == 1
    assert "not there yet" in looked.stdout
    planned = world.run("db", "migrate", "--dry-run")
    assert (planned.exit_code, planned.stdout.splitlines()[0]) == (0, "0001_initial is pending")
    assert not (world.folder / "state").exists()
    made = world.run("db", "migrate")
    assert (made.exit_code, made.stdout.splitlines()[0]) == (0, "✓ 0001_initial")
    assert world.run("db", "migrate").stdout == "The database is up to date.\n"
    assert json.loads(world.run("db", "migrate", "--json").stdout) == {"applied": []}


def test_the_status_says_what_the_database_is_and_holds(world: World) -> None:
    used(world)
    shown = world.run("db", "status")
    assert shown.exit_code == 0
    for words in (f"sqlite://{world.folder}/state/fraisier.db", "SQLite 3.", "up to date", "none lives"):
        assert words in shown.stdout
    document = json.loads(world.run("db", "status", "--json").stdout)
    assert document["state"] == "current"
    assert document["rows"]["tb_deployments"] == 2
    assert document["size_bytes"] > 0
    assert [each["state"] for each in document["migrations"]] == ["applied"] * document["newest"]


@pytest.mark.parametrize(
    ("statement", "words", "status"),
    [
        ("INSERT INTO tb_migrations VALUES (99, 'x', 'y', '')", "newer Fraisier", 4),
        ("UPDATE tb_migrations SET checksum = 'other'", "another version", 4),
        ("DELETE FROM tb_migrations WHERE number = 2", "pending", 1),
    ],
)
def test_a_database_that_is_not_as_we_know_it_is_shown_all_the_same(
    world: World, statement: str, words: str, status: int
) -> None:
    used(world)
    with closing(sqlite3.connect(world.folder / "state" / "fraisier.db")) as connection:
        connection.execute(statement)
        connection.commit()
    shown = world.run("db", "status")
    assert shown.exit_code == status
    assert words in shown.stdout
    assert json.loads(world.run("db", "status", "--json").stdout)["rows"]["tb_deployments"] == 2


def test_a_live_worker_shows_and_an_export_warns(world: World) -> None:
    file = world.folder / "export"
    with world.store() as store:
        store.register_worker("w7", info={"host": "here", "pid": 7})
        assert "w7 (pid 7 on here)" in world.run("db", "status").stdout
        done = world.run("db", "export", str(file))
        store.retire_worker("w7")
    assert done.exit_code == 0
    assert "a worker lives" in done.stderr
    assert "stop Fraisier" in done.stderr
    assert world.run("db", "export", str(file)).stderr == ""


def test_a_file_for_its_owner_alone_replaces_an_earlier_one(world: World, tmp_path: Path) -> None:
    used(world)
    file = tmp_path / "export"
    file.write_text("earlier")
    link = tmp_path / "link"
    link.symlink_to(file)
    assert world.run("db", "export", str(link)).exit_code == 0
    assert link.is_symlink()
    assert file.read_bytes().startswith(b"\x1f\x8b")
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["export", "/dev/null"], 2, "it is no file"),
        (["export", "/nowhere/at/all"], 2, "No such file or directory"),
        (["import", "/nowhere/at/all"], 3, "cannot find /nowhere/at/all"),
        (["import", "/dev"], 2, "cannot read /dev"),
        (["import", "/etc/hostname"], 2, "no export of Fraisier"),
        (["export"], 2, "FILE"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_and_changes_nothing(
    world: World, words: list[str], status: int, said: str
) -> None:
    used(world)
    before = dump(world.folder / "state" / "fraisier.db")
    result = world.run("db", *words)
    assert result.exit_code == status, result
    assert said in result.stderr
    assert dump(world.folder / "state" / "fraisier.db") == before


def test_a_database_in_use_takes_no_import(world: World) -> None:
    used(world)
    file = world.folder / "export"
    world.run("db", "export", str(file))
    result = world.run("db", "import", str(file))
    assert result.exit_code == 1
    assert "it is in use" in result.stderr
    assert "database.url" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("words", [["status"], ["migrate"], ["export", "x"], ["import", "x"]])
def test_nobody_but_the_owner_of_the_database_may(world: World, words: list[str]) -> None:
    used(world)
    os.chown(world.folder / "state" / "fraisier.db", 12345, -1)
    result = world.run("db", *words)
    assert result.exit_code == 2
    assert "sudo -u #12345" in result.stderr
