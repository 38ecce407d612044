"""A deployment's steps while they happen: live on a terminal, line by line in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from fraisier.cli import times
from fraisier.cli.screen import Screen
from fraisier.cli.text import output_text, printable, shorten

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fraisier.application.follow_deployment import Glimpse
    from fraisier.application.ports import Row

MARKS = {"success": "✓", "failed": "✗", "cancelled": "✗", "interrupted": "!", "running": "…"}
TAIL_LINES = 20  # of a failed step's output
LIVE_LINES = 6  # of the running step's output
REFRESHES = 8  # per second


class Progress(Protocol):
    """Draws what a deployment does."""

    def show(self, glimpse: Glimpse) -> None:
        """Draw what is new."""
        ...


@contextmanager
def progress_on(screen: Screen, *, quiet: bool = False) -> Iterator[Progress]:
    """The way of drawing that fits the screen; `quiet` draws nothing."""
    if quiet:
        yield Nothing()
    elif screen.terminal and screen.colour:
        with _live(screen) as live:
            yield live
    else:
        yield Lines(screen)


class Nothing:
    """For --json."""

    def show(self, glimpse: Glimpse) -> None:
        """Draw nothing."""


class Lines:
    """One line where a step begins and one where it ends; what a failed one printed."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._shown: dict[Any, str] = {}

    def show(self, glimpse: Glimpse) -> None:
        """Print what is new."""
        for step in glimpse.steps:
            if self._shown.get(step["id"]) != step["state"]:
                self._shown[step["id"]] = step["state"]
                self._print(step)

    def _print(self, step: Row) -> None:
        if step["state"] == "running":
            self._screen.say(f"{step_name(step)} …")
            return
        for line in ended(step, self._screen):
            self._screen.say(line)


class Live:
    """Steps that ended stand above; the running one is below, with a spinner and its latest output."""

    def __init__(self, screen: Screen, live: Any) -> None:
        from rich.spinner import Spinner

        self._screen = screen
        self._live = live
        self._spinner = Spinner("dots")
        self._ended: set[Any] = set()
        self._step: Row | None = None
        self._waiting = "waiting for a worker"
        self._tail: list[str] = []

    def show(self, glimpse: Glimpse) -> None:
        """Draw what is new."""
        for step in glimpse.steps:
            if step["state"] != "running" and step["id"] not in self._ended:
                self._ended.add(step["id"])
                self._print(step)
        running = [step for step in glimpse.steps if step["state"] == "running"]
        self._waiting = "" if glimpse.status.is_final else _waiting(glimpse)
        self._step = running[-1] if running else None
        self._remember(glimpse)
        self._live.refresh()

    def _print(self, step: Row) -> None:
        from rich.text import Text

        for line in ended(step, self._screen):
            self._live.console.print(Text.from_ansi(line))

    def _remember(self, glimpse: Glimpse) -> None:
        if self._step is None:
            self._tail = []
            return
        fresh = "".join(piece.text for piece in glimpse.output if piece.step == self._step["step"])
        lines = output_text("\n".join([*self._tail, fresh]), colour=False).splitlines()
        self._tail = [line for line in lines if line.strip()][-LIVE_LINES:]

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        if self._step is None and not self._waiting:
            return Text("")
        self._spinner.update(text=Text(self._heading()))
        columns = max(self._screen.width - 6, 20)
        return Group(self._spinner, *(Text(f"    {shorten(line, columns)}", "dim") for line in self._tail))

    def _heading(self) -> str:
        import time

        if self._step is None:
            return self._waiting
        took = times.between(self._step["started_at"], None, time.time())
        return f"{step_name(self._step)}  {times.duration(took)}"


@contextmanager
def _live(screen: Screen) -> Iterator[Live]:
    from rich.console import Console
    from rich.live import Live as RichLive

    console = Console(highlight=False)
    with RichLive(console=console, refresh_per_second=REFRESHES, transient=True) as drawn:
        live = Live(screen, drawn)
        drawn.update(live)
        yield live


def _waiting(glimpse: Glimpse) -> str:
    row = glimpse.deployment
    if glimpse.status == "running":
        return "between two steps"
    if glimpse.steps:
        return f"waiting for the next attempt: {printable(row.get('error_message') or '')}"
    return "waiting for its turn"


def step_name(step: Row) -> str:
    """The step as people read it: what it does, and whether it is part of the way back."""
    back = "roll back: " if step["phase"] == "rollback" else ""
    again = f" (attempt {step['attempt']})" if int(step["attempt"]) > 1 else ""
    return f"{back}{step['step']}{again}"


def ended(step: Row, screen: Screen) -> Sequence[str]:
    """The lines for a step that has ended."""
    mark = screen.status(step["state"]).replace(step["state"], MARKS[step["state"]])
    took = times.duration(times.between(step["started_at"], step["ended_at"], screen.now))
    lines = [f"{mark} {step_name(step)}  {screen.style(took, dim=True)}"]
    if step["state"] != "success":
        said = tail_of(step, screen)
        error = printable(step.get("error") or "", keep="\n").splitlines()
        lines += [f"    {line}" for line in (said if said[-len(error) :] == error else [*said, *error])]
    return lines


def tail_of(step: Row, screen: Screen) -> list[str]:
    """The last lines that a step printed."""
    text = output_text(step.get("tail") or "", colour=screen.colour)
    reset = click.style("") if screen.colour and "\x1b" in text else ""
    return [line + reset for line in text.splitlines()][-TAIL_LINES:]
