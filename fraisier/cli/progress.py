"""A deployment's steps while they happen: live on a terminal, line by line in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from fraisier.cli import times
from fraisier.cli.host_steps import Folding, Group, group_of, hosts_of, in_few_words
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
        self._begun: set[Any] = set()
        self._folding = Folding()

    def show(self, glimpse: Glimpse) -> None:
        """Print what is new."""
        over = self._folding.ended(glimpse.steps, final=glimpse.status.is_final)
        for together in over:
            self._print(together)
        for step in glimpse.steps:
            # Of several hosts only the end of a step is told: they begin by the dozen.
            if step["state"] == "running" and not step.get("host") and step["id"] not in self._begun:
                self._begun.add(step["id"])
                self._screen.say(f"{step_name(step)} …")

    def _print(self, together: Sequence[Row]) -> None:
        for line in ended_together(together, self._screen):
            self._screen.say(line)


class Live:
    """Steps that ended stand above; the running one is below, with a spinner and its latest output."""

    def __init__(self, screen: Screen, live: Any) -> None:
        from rich.spinner import Spinner

        self._screen = screen
        self._live = live
        self._spinner = Spinner("dots")
        self._folding = Folding()
        self._steps: list[Row] = []  # those that run
        self._waiting = "waiting for a worker"
        self._tail: list[str] = []

    def show(self, glimpse: Glimpse) -> None:
        """Draw what is new."""
        for together in self._folding.ended(glimpse.steps, final=glimpse.status.is_final):
            self._print(together)
        self._steps = [step for step in glimpse.steps if step["state"] == "running"]
        self._waiting = "" if glimpse.status.is_final else _waiting(glimpse)
        self._remember(glimpse)
        self._live.refresh()

    def _print(self, together: Sequence[Row]) -> None:
        from rich.text import Text

        for line in ended_together(together, self._screen):
            self._live.console.print(Text.from_ansi(line))

    def _remember(self, glimpse: Glimpse) -> None:
        if len(self._steps) != 1:  # what several hosts print at a time nobody could read
            self._tail = []
            return
        fresh = "".join(piece.text for piece in glimpse.output if piece.step == self._steps[0]["step"])
        lines = output_text("\n".join([*self._tail, fresh]), colour=False).splitlines()
        self._tail = [line for line in lines if line.strip()][-LIVE_LINES:]

    def __rich__(self) -> RenderableType:
        from rich.console import Group as Stack
        from rich.text import Text

        if not self._steps and not self._waiting:
            return Text("")
        first, *others = self._headings()
        self._spinner.update(text=Text(first))
        columns = max(self._screen.width - 6, 20)
        below = [Text(f"  {line}") for line in others]
        below += [Text(f"    {shorten(line, columns)}", "dim") for line in self._tail]
        return Stack(self._spinner, *below)

    def _headings(self) -> list[str]:
        """What runs: a line for each step, with the hosts on which it does."""
        import time

        groups: dict[Group, list[Row]] = {}
        for step in self._steps:
            groups.setdefault(group_of(step), []).append(step)
        now = time.time()
        return [_heading(group, now, self._screen.width) for group in groups.values()] or [self._waiting]


def _heading(steps: Sequence[Row], now: float, width: int) -> str:
    took = times.duration(times.between(min(step["started_at"] for step in steps), None, now))
    hosts = hosts_of(steps)
    on = f"  {in_few_words(hosts, max(width - 40, 20))}" if hosts else ""
    return f"{step_name(steps[0], alone=False)}{on}  {took}"


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


def step_name(step: Row, *, alone: bool = True) -> str:
    """The step as people read it: what it does, where, and whether it is part of the way back."""
    back = "roll back: " if step["phase"] == "rollback" else ""
    on = f" on {step['host']}" if alone and step.get("host") else ""
    again = f" (attempt {step['attempt']})" if int(step["attempt"]) > 1 else ""
    return f"{back}{step['step']}{on}{again}"


def ended_together(steps: Sequence[Row], screen: Screen) -> Sequence[str]:
    """The lines for steps that are told together: one that went well on several hosts is one line."""
    if len(steps) == 1:
        return ended(steps[0], screen)
    mark = screen.status("success").replace("success", MARKS["success"])
    began, over = min(step["started_at"] for step in steps), max(step["ended_at"] for step in steps)
    took = times.duration(times.between(began, over, screen.now))
    hosts = in_few_words(hosts_of(steps), max(screen.width - 40, 20))
    return [f"{mark} {step_name(steps[0], alone=False)}  {hosts}  {screen.style(took, dim=True)}"]


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
