"""What the command line shows: tables, durations, times, and text from outside."""

from __future__ import annotations

import pytest

from fraisier.cli import times
from fraisier.cli.screen import Screen
from fraisier.cli.tables import Column, print_table, text
from fraisier.cli.text import output_text, printable, shorten, width


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
