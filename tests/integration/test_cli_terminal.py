"""The command line as a process: on a terminal, in a pipe, and while somebody goes away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exports import dump
from tests.unit.cli_world import SHA, World, deploy, fail, on_a_terminal


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> World:
    """Another one, with a database that is not there yet."""
    (tmp_path / "new").mkdir()
    return World.create(tmp_path / "new")


def used(world: World) -> World:
    with world.store() as store:
        deploy(store)
        fail(store)
    return world


def test_on_a_terminal_there_is_colour_and_names_are_short(world: World) -> None:
    with world.store() as store:
        identifier = deploy(store)
    status, shown = on_a_terminal(world.argv("history"), columns=140)
    assert status == 0
    assert "\x1b[32msuccess\x1b[0m" in shown
    assert identifier[:8] in shown
    assert identifier not in shown
    assert SHA[:10] in shown
    assert SHA not in shown
    assert "just now" in shown or " ago" in shown


def test_no_color_is_respected(world: World) -> None:
    with world.store() as store:
        deploy(store)
    _, shown = on_a_terminal(world.argv("history"), env={"NO_COLOR": "1"})
    assert "success" in shown
    assert "\x1b" not in shown


def test_a_table_fits_the_terminal(world: World) -> None:
    with world.store() as store:
        fail(store)
    _, wide = on_a_terminal(world.argv("history"), columns=200, env={"NO_COLOR": "1"})
    _, narrow = on_a_terminal(world.argv("history"), columns=98, env={"NO_COLOR": "1"})
    assert "cannot build: exit code 3" in wide
    assert all(len(line) <= 98 for line in narrow.splitlines())
    assert "…" in narrow


def test_json_on_a_terminal_is_plain_and_whole(world: World) -> None:
    with world.store() as store:
        identifier = deploy(store)
    _, shown = on_a_terminal(world.argv("history", "--json"))
    assert json.loads(shown)[0]["id"] == identifier


def test_an_error_on_a_terminal_is_coloured(world: World) -> None:
    status, shown = on_a_terminal(world.argv("status", "nobody"))
    assert status == 3
    assert "\x1b[31m\x1b[1mfraisier:\x1b[0m cannot find" in shown


def test_a_reader_that_goes_away_is_no_error(world: World) -> None:
    with world.store() as store:
        for _ in range(3):
            deploy(store)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        world.argv("history", "--json"), stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


def test_a_closed_stdout_is_no_crash(world: World) -> None:
    line = f"{sys.executable} -m fraisier --config {world.config} list >&-"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_characters_that_a_terminal_lacks_are_replaced(world: World) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "iso8859-1"}
    done = subprocess.run(
        world.argv("config", "validate"), capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0
    assert done.stdout.startswith("? ")


def test_the_shell_completes_commands_and_names(world: World) -> None:
    def complete(words: str, index: int) -> list[str]:
        env = {
            **os.environ,
            "_FRAISIER_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(index),
        }
        program = Path(sys.executable).with_name("fraisier")
        done = subprocess.run([program], capture_output=True, text=True, check=True, env=env)
        return [line.partition(",")[2] for line in done.stdout.split()]

    config = f"fraisier --config {world.config}"
    assert complete("fraisier ro", 1) == ["rollback"]
    assert complete(f"{config} deploy o", 4) == ["orders"]
    assert complete(f"{config} deploy orders s", 5) == ["staging"]
    assert complete("fraisier --config /nonexistent deploy o", 4) == []


def test_an_export_comes_and_goes_through_a_pipe(world: World, other: World) -> None:
    used(world)
    export = subprocess.run(world.argv("db", "export", "-"), capture_output=True, check=True)
    assert b"2 deployments" in export.stderr
    done = subprocess.run(
        other.argv("db", "import", "-"), input=export.stdout, capture_output=True, check=True
    )
    assert b"imported 2 environments, 2 deployments, 0 events" in done.stdout
    database = Path("state", "fraisier.db")
    assert len(dump(other.folder / database)["tb_deployments"]) == 2
    again = other.run("db", "import", "-", stdin="")
    assert again.exit_code == 2
    assert "no export of Fraisier" in again.stderr


def test_an_exports_reader_that_goes_away_is_no_error_of_ours(world: World) -> None:
    used(world)
    export = subprocess.Popen(world.argv("db", "export", "-"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert export.stdout is not None
    export.stdout.close()
    assert (export.wait(30), b"Traceback" in (export.stderr.read() if export.stderr else b"")) == (141, False)
    if export.stderr:
        export.stderr.close()


def test_on_a_terminal_progress_shows_and_an_export_is_refused_there(world: World) -> None:
    used(world)
    status, shown = on_a_terminal(world.argv("db", "export", str(world.folder / "export")))
    assert status == 0
    assert "exported 2 of tb_deployments" in shown
    status, shown = on_a_terminal(world.argv("db", "export", "-"))
    assert status == 2
    assert "cannot write an export to a terminal" in shown
