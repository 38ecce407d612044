"""The command line as a process: on a terminal, in a pipe, and while somebody goes away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fraisier.cli import times
from fraisier.cli.screen import Screen
from fraisier.cli.tables import Column, print_table, text
from fraisier.cli.text import output_text, printable, shorten, width
from tests.unit.cli_world import SHA, World, deploy, fail, on_a_terminal


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path)


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


# -- the parts


def screen(*, terminal: bool, columns: int = 40) -> Screen:
    return Screen(terminal=terminal, colour=False, width=columns, now=1_800_000_000.0)


def test_wide_characters_keep_columns_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (text("A", "a"), text("B", "b"))
    print_table(screen(terminal=True), columns, [{"a": "日本", "b": "x"}, {"a": "ab", "b": "y"}])
    lines = capsys.readouterr().out.splitlines()
    assert [width(line.split("x")[0].split("y")[0]) for line in lines[1:]] == [6, 6]


def test_only_flexible_columns_give_room(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (text("A", "a"), text("B", "b", flexible=True), Column("C", lambda *_: "12", right=True))
    print_table(screen(terminal=True, columns=30), columns, [{"a": "x" * 12, "b": "y" * 50}])
    line = capsys.readouterr().out.splitlines()[1]
    assert len(line) == 30
    assert line.startswith("x" * 12 + "  yyy")
    assert line.endswith("…  12")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "40 ms"),
        (3.24, "3.2 s"),
        (59.99, "1 min 0 s"),
        (125, "2 min 5 s"),
        (4800, "1 h 20 min"),
        (-1, "0 ms"),
        (None, ""),
    ],
)
def test_durations_read_as_people_say_them(seconds: float | None, words: str) -> None:
    assert times.duration(seconds) == words


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (0.2, "just now"),
        (5, "5 s ago"),
        (60, "1 minute ago"),
        (7300, "2 hours ago"),
        (86400 * 40, "1 month ago"),
        (-30, "in 30 s"),
    ],
)
def test_times_read_as_people_say_them(before: float, words: str) -> None:
    assert times.ago(1_800_000_000.0 - before, 1_800_000_000.0) == words


def test_views_times_are_read_as_utc() -> None:
    assert times.parse("2027-01-15T08:00:00.000000Z") == times.parse("2027-01-15T08:00:00") == 1_800_000_000.0


def test_escapes_in_output_are_removed_and_colours_kept_where_wanted() -> None:
    printed = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2J\x1b[1;1Hdone\r\nprogress 1\rprogress 2\x00"
    assert output_text(printed, colour=True) == "\x1b[31mred\x1b[0m done\nprogress 1\nprogress 2\ufffd"
    assert output_text(printed, colour=False) == "red done\nprogress 1\nprogress 2\ufffd"


def test_text_from_outside_is_shown_and_never_obeyed() -> None:
    assert printable("a\x1b[31mb\nc\u202ed") == "a\ufffd[31mb\ufffdc\ufffdd"
    assert printable("a\nb", keep="\n") == "a\nb"
    assert shorten("abcdef", 4) == "abc…"
