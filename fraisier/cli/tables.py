"""Tables: aligned everywhere, fitted to the width and coloured on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fraisier.cli import times
from fraisier.cli.screen import Screen
from fraisier.cli.text import SHORT_COMMIT, SHORT_ID, printable, short_ref, shorten, width

Row = Mapping[str, Any]
NARROWEST = 12  # columns that a shortened cell keeps
GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `cell` gives the text for a screen.

    Where a terminal is narrow, `flexible` columns are shortened, and then `spare` ones left out.
    """

    title: str
    cell: Callable[[Row, Screen], str]
    flexible: bool = False
    spare: bool = False
    status: bool = False  # coloured by its word
    right: bool = False


def text(title: str, key: str, *, flexible: bool = False, spare: bool = False) -> Column:
    """A column that shows a field as it is."""
    return Column(title, lambda row, _: _shown(row.get(key)), flexible, spare)


def status(title: str, key: str) -> Column:
    """A column that shows a status in its colour."""
    return Column(title, lambda row, _: _shown(row.get(key)), status=True)


def ident(title: str, key: str) -> Column:
    """An id: abbreviated on a terminal, whole in a pipe."""
    return Column(title, lambda row, screen: _abbreviated(row.get(key), screen, SHORT_ID))


def commit(title: str, key: str) -> Column:
    """A commit: abbreviated on a terminal, whole in a pipe."""
    return Column(title, lambda row, screen: _abbreviated(row.get(key), screen, SHORT_COMMIT))


def ref(title: str, key: str) -> Column:
    """A ref: as people say it on a terminal, whole in a pipe."""

    def cell(row: Row, screen: Screen) -> str:
        value = _shown(row.get(key))
        return short_ref(value) if screen.terminal else value

    return Column(title, cell, flexible=True)


def moment(title: str, key: str) -> Column:
    """A time: how long ago on a terminal, UTC in a pipe."""

    def cell(row: Row, screen: Screen) -> str:
        value = row.get(key)
        return times.ago(value, screen.now) if screen.terminal else _shown(value)

    return Column(title, cell)


def elapsed(title: str, start: str, end: str) -> Column:
    """How long something took, or has taken so far."""

    def cell(row: Row, screen: Screen) -> str:
        return times.duration(times.between(row.get(start), row.get(end), screen.now))

    return Column(title, cell, right=True)


def _shown(value: object) -> str:
    return "" if value is None else printable(value)


def _abbreviated(value: object, screen: Screen, length: int) -> str:
    shown = _shown(value)
    return shown[:length] if screen.terminal else shown


def print_table(screen: Screen, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print `rows` under their titles; a cell that has nothing shows "-"."""
    columns = _affordable(screen, columns, rows)
    cells = [[column.cell(row, screen) or "-" for column in columns] for row in rows]
    titles = [column.title if screen.terminal else column.title.upper() for column in columns]
    sizes = [_size(column, screen, rows) for column in columns]
    if screen.terminal:
        sizes = _fitted(sizes, columns, screen.width)
    screen.say(_heading(screen, titles, sizes, columns))
    for line in cells:
        screen.say(_line(screen, line, sizes, columns))


def _size(column: Column, screen: Screen, rows: Sequence[Row]) -> int:
    return max(width(column.title), *(width(column.cell(row, screen)) for row in rows))


def _affordable(screen: Screen, columns: Sequence[Column], rows: Sequence[Row]) -> Sequence[Column]:
    """The columns without the last spare ones, if even shortened ones would not fit."""
    kept = list(columns)
    spare = [column for column in columns if column.spare]
    while screen.terminal and spare and _least(screen, kept, rows) > screen.width:
        kept.remove(spare.pop())
    return kept


def _least(screen: Screen, columns: Sequence[Column], rows: Sequence[Row]) -> int:
    sizes = [(column, _size(column, screen, rows)) for column in columns]
    return sum(min(size, NARROWEST) if c.flexible else size for c, size in sizes) + len(GAP) * (
        len(sizes) - 1
    )


def _fitted(sizes: list[int], columns: Sequence[Column], available: int) -> list[int]:
    """Take from the widest flexible column until the table fits, or none can give more."""
    sizes = list(sizes)
    flexible = [i for i, column in enumerate(columns) if column.flexible]
    excess = sum(sizes) + len(GAP) * (len(sizes) - 1) - available
    while excess > 0 and flexible:
        widest = max(flexible, key=lambda i: sizes[i])
        if sizes[widest] <= NARROWEST:
            break
        sizes[widest] -= 1
        excess -= 1
    return sizes


def _heading(screen: Screen, titles: list[str], sizes: list[int], columns: Sequence[Column]) -> str:
    padded = [_pad(t, t, size, right=c.right) for t, size, c in zip(titles, sizes, columns, strict=True)]
    return screen.style(GAP.join(padded).rstrip(), bold=True)


def _line(screen: Screen, cells: list[str], sizes: list[int], columns: Sequence[Column]) -> str:
    padded = []
    for cell, size, column in zip(cells, sizes, columns, strict=True):
        shown = shorten(cell, size) if screen.terminal else cell
        drawn = screen.status(shown) if column.status else shown
        padded.append(_pad(drawn, shown, size, right=column.right))
    return GAP.join(padded).rstrip()


def _pad(drawn: str, shown: str, size: int, *, right: bool) -> str:
    """`drawn`, which takes as many columns as `shown`, in `size` columns."""
    space = " " * (size - width(shown))
    return space + drawn if right else drawn + space


def print_fields(screen: Screen, fields: Sequence[tuple[str, str]]) -> None:
    """`name  value` lines; fields without a value are left out."""
    present = [(name, value) for name, value in fields if value]
    size = max((len(name) for name, _ in present), default=0)
    for name, value in present:
        screen.say(f"{screen.style(name.ljust(size), dim=True)}  {value}")
