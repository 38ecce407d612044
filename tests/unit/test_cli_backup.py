"""`fraisier backup` in a pipe: what it lists, what it asks, and what it refuses before anything is begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraisier.domain.backup import CopyNote, CopyState
from fraisier.domain.fraise import EnvironmentKey
from tests.unit.cli_world import World, on_a_terminal

KEY = EnvironmentKey("dumps", "production")
FIRST, SECOND = "20261120T010000Z-00000001", "20261121T010000Z-00000002"
DUMPS = """
  dumps:
    type: backup
    environments:
      production:
        app_path: {folder}/dumps
        sources: {{orders: "postgresql:///orders", uploads: /srv/uploads}}
        destinations: {{disk: /srv/kept, vault: "backup@vault:/srv/kept"}}
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World.create(tmp_path)
    made.config.write_text(made.config.read_text() + DUMPS.format(folder=tmp_path))
    with made.store() as store:
        known = {"bytes": 1_234_567, "state": CopyState.whole, "looked_at": 1.8e9}
        store.note_copies(
            KEY,
            [
                CopyNote(destination="disk", name=FIRST, verified_at=1.8e9, **known),  # type: ignore[arg-type]
                CopyNote(destination="disk", name=SECOND, **known),  # type: ignore[arg-type]
                CopyNote(
                    destination="vault", name=SECOND, state=CopyState.damaged, detail="orders.dump is empty"
                ),
            ],
        )
    return made


def test_every_copy_is_a_line(world: World) -> None:
    done = world.run("backup", "list", "dumps")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert SECOND in lines[1]
    assert "1.2 MB" in lines[1]
    assert "damaged" in lines[2]
    assert "orders.dump is empty" in lines[2]
    assert FIRST in lines[3]


def test_json_has_the_rows_of_the_view(world: World) -> None:
    rows = json.loads(world.run("backup", "list", "dumps", "production", "--json").stdout)
    assert [row["state"] for row in rows] == ["whole", "damaged", "whole"]
    assert {"fraise_id", "destination", "name", "verified_at", "flaw"} <= set(rows[0])


@pytest.mark.parametrize("verb", ["run", "verify", "prune", "restore"])
def test_what_has_no_backups_is_not_found(world: World, verb: str) -> None:
    done = world.run("backup", verb, "orders", "production")
    assert done.exit_code == 3
    assert "cannot find backups of orders/production: it is of type api" in done.stderr
    assert world.run("backup", verb, "nothing", "production").exit_code == 3


def test_a_restore_needs_a_yes_where_nobody_can_be_asked(world: World) -> None:
    done = world.run("backup", "restore", "dumps", "production", "--force")
    assert done.exit_code == 2
    assert f"Restore {FIRST} of dumps/production:" in done.stderr  # the newest that was verified
    assert "orders: REPLACES postgresql:///orders, after a safety copy of it" in done.stderr
    assert "uploads: REPLACES /srv/uploads" in done.stderr
    assert "Say --yes" in done.stderr
    assert json.loads(world.run("runs", "--json").stdout) == []


def test_a_terminal_is_asked_and_no_is_no(world: World) -> None:
    status, shown = on_a_terminal(world.argv("backup", "restore", "dumps", "production"), typed=b"n\n")
    assert (status != 0, "Go on?" in shown) == (True, True), shown
    assert json.loads(world.run("runs", "--json").stdout) == []


def test_what_was_said_is_what_is_asked_for(world: World) -> None:
    done = world.run(
        *(
            "backup",
            "restore",
            "dumps",
            "production",
            "--source",
            "orders",
            "--to",
            "other",
            "--yes",
            "--no-wait",
        )
    )
    assert done.exit_code == 4  # nobody lives to perform it
    assert "orders (postgresql) to other, which must not exist yet" in done.stderr
    (row,) = json.loads(world.run("runs", "--json").stdout)
    assert (row["job"], row["kind"]) == ("restore", "restore")
    assert row["parameters"] == {
        "backup": FIRST,
        "source": "orders",
        "to": "other",
        "destination": "",
        "force": "",
    }


REFUSED = [
    (("--to", "x", "--force"), 2, "--force is of no use with --to"),
    (("--to", "x"), 2, "cannot restore 2 sources to one place"),
    (("--source", "people"), 3, "cannot find the source 'people'"),
    (("--destination", "moon"), 3, "cannot find the destination 'moon'"),
]


@pytest.mark.parametrize(("options", "code", "words"), REFUSED)
def test_what_cannot_be_meant_is_refused(
    world: World, options: tuple[str, ...], code: int, words: str
) -> None:
    done = world.run("backup", "restore", "dumps", "production", "--yes", *options)
    assert (done.exit_code, words in done.stderr) == (code, True), done.stderr


def test_nothing_is_deployed_where_there_is_no_repository(world: World) -> None:
    done = world.run("deploy", "dumps", "production")
    assert done.exit_code == 2
    assert "cannot deploy dumps/production: it has no repository" in done.stderr
    assert "fraisier backup run dumps production" in done.stderr
    done = world.run("rollback", "dumps", "production")
    assert done.exit_code == 2
    assert "cannot roll dumps/production back: it has no repository" in done.stderr
    assert "fraisier backup restore dumps production" in done.stderr
    assert "dumps" in world.run("list").stdout
    assert "never run" in world.run("status", "dumps").stdout
    done = world.run("logs", "dumps", "production")
    assert done.exit_code == 3
    assert "fraisier backup run dumps production" in done.stderr


def test_a_plan_says_what_a_run_does(world: World) -> None:
    done = world.run("plan", "dumps", "production")
    assert done.exit_code == 0, done.stderr
    for line in (
        "There is nothing to deploy in dumps/production",
        "  1. dump    orders: postgresql postgresql:///orders",
        "  2. dump    uploads: folder /srv/uploads",
        "  4. keep    vault: rsync backup@vault:/srv/kept",
        "  6. prune   at each of them keep 7 last, and the last verified one",
    ):
        assert line in done.stdout
    plan = json.loads(world.run("plan", "dumps", "production", "--json").stdout)
    assert (plan["steps"], plan["backup"]["retention"]["keep_last"]) == ([], 7)


def test_a_plan_has_no_password_of_a_source(world: World) -> None:
    text = world.config.read_text().replace(
        "postgresql:///orders", "postgresql://a:hunter2@db/orders?password=x2"
    )
    world.config.write_text(text)
    for options in ((), ("--json",)):
        done = world.run("plan", "dumps", "production", *options)
        assert done.exit_code == 0, done.stderr
        assert "hunter2" not in done.stdout
        assert "x2" not in done.stdout
