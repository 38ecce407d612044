"""Where a command prints: whether that is a terminal, how wide it is, and whether it wants colour."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

_COLOURS = {
    "success": "green",
    "passed": "green",
    "healthy": "green",
    "accepted": "green",
    "running": "cyan",
    "pending": "blue",
    "failed": "red",
    "unhealthy": "red",
    "rollback_failed": "red",
    "rolled_back": "yellow",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "superseded": "bright_black",
    "ignored": "bright_black",
    "duplicate": "bright_black",
}


@dataclass(frozen=True, slots=True)
class Screen:
    """A place to print. In a pipe everything is plain, complete and in UTC."""

    terminal: bool
    colour: bool
    width: int
    now: float

    @classmethod
    def of_stdout(cls) -> Screen:
        """The screen that stdout is. NO_COLOR and TERM=dumb turn colours off (https://no-color.org)."""
        terminal = sys.stdout is not None and sys.stdout.isatty()
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        columns = _width() if terminal else 0
        return cls(terminal, colour, columns, time.time())

    def style(self, text: str, colour: str = "", *, bold: bool = False, dim: bool = False) -> str:
        """`text` in colour, where the screen has any."""
        if not self.colour or not text or not (colour or bold or dim):
            return text
        return click.style(text, fg=colour or None, bold=bold or None, dim=dim or None)

    def status(self, word: str) -> str:
        """A status, a step's state or a verdict in its colour."""
        return self.style(word, _COLOURS.get(word, ""))

    def say(self, text: str = "") -> None:
        """Print a line on stdout."""
        click.echo(text, color=self.colour)

    def note(self, text: str) -> None:
        """Print a line for people on stderr, so that stdout stays what was asked for."""
        click.echo(text, err=True)


def _width() -> int:
    from shutil import get_terminal_size  # brings three compressors along, which a pipe does not need

    return get_terminal_size((100, 24)).columns


def print_json(document: Any) -> None:
    """The one document on stdout."""
    import json

    click.echo(json.dumps(document, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else str(value)


def print_rows(rows: Sequence[Any]) -> None:
    """Rows of a view as a JSON list, keys as in the view."""
    print_json([dict(row) for row in rows])
