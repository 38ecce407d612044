"""What follows a request for a run: watch it, perform it here where no worker takes it, or let go."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from fraisier.application.find_workers import FindWorkers, Lack
from fraisier.application.ports import LEFT
from fraisier.cli import times
from fraisier.cli.boundary import EXIT_INTERRUPTED
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import asker
from fraisier.cli.text import SHORT_ID, output_text
from fraisier.cli.waiting import EndedOtherwise, Performer, Terminated, signals_interrupt
from fraisier.domain.errors import EXIT_ENDED_OTHERWISE, Conflict, NoWorker
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.labels import may_take
from fraisier.domain.run import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fraisier.application.ports import Row
    from fraisier.wiring import Fraisier

PATIENCE = 10.0  # seconds without a worker that may; a restart takes less


def request(fraisier: Fraisier, key: EnvironmentKey, job: str, parameters: Mapping[str, str]) -> Row:
    """Ask for a run. What stands in its way because its worker died is ended first, if nobody else would.

    Raises:
        NotFound, UsageError, Conflict: see `application.request_run`.
    """
    try:
        return fraisier.request_run(key, job, parameters=parameters, by=asker())
    except Conflict:
        if FindWorkers(fraisier.store).lack(fraisier.environment(key).labels) is None:
            raise
    performer = Performer(fraisier, lambda worker: worker.perform_run(LEFT))
    performer.join()
    return fraisier.request_run(key, job, parameters=parameters, by=asker())


def hand_over(fraisier: Fraisier, row: Row, *, as_json: bool) -> None:
    """Print which run it is, and go.

    Raises:
        NoWorker: nobody lives who may perform it.
    """
    if as_json:
        print_json(row)
    else:
        click.echo(row["id"])
    if (lack := _lack(fraisier, row)) is not None:
        raise _nobody_begins(row, lack)


def _lack(fraisier: Fraisier, row: Row) -> Lack | None:
    return FindWorkers(fraisier.store).lack(fraisier.environment(_key(row)).labels)


def _key(row: Row) -> EnvironmentKey:
    return EnvironmentKey(row["fraise_id"], row["environment"])


def _nobody_begins(row: Row, lack: Lack) -> NoWorker:
    message = f"cannot say when run {row['id'][:SHORT_ID]} begins: {lack.reason}"
    return NoWorker(message, f"It is stored. {lack.hint}")


class RunWaiting:
    """Watches one run, and performs it in this process where no worker that lives may take it."""

    def __init__(self, fraisier: Fraisier, row: Row, *, as_json: bool) -> None:
        self._fraisier = fraisier
        self._row = row
        self._as_json = as_json
        self._screen = Screen.of_stdout()
        self._performer: Performer | None = None
        self._last_alive = time.monotonic()
        self._next_look = self._last_alive + 1.0

    def to_the_end(self) -> None:
        """Watch until the run has ended, or somebody interrupts us; then exit accordingly."""
        with signals_interrupt() as came:
            if (lack := _lack(self._fraisier, self._row)) is not None:
                if not self._may_perform():
                    raise _nobody_begins(self._row, lack)
                self._perform_here()
            try:
                row = self._watch_even_unseen(came)
            except KeyboardInterrupt:
                self._interrupted()
                status = 128 + came[0] if came else EXIT_INTERRUPTED
                raise click.exceptions.Exit(status) from None
        self._conclude(row)

    def _watch_even_unseen(self, came: Sequence[int]) -> Row:
        """Whoever stops reading (`| head -1`) does not stop what only this process performs."""
        try:
            return self._watch(quiet=self._as_json)
        except OSError as closed:
            if came:  # the terminal is gone, and what was printed last could not be
                raise Terminated from closed
            if self._performer is not None:
                self._watch(quiet=True)
            raise

    def _watch(self, *, quiet: bool) -> Row:
        from fraisier.application.follow_run import FollowRun

        row, at_line_start = self._row, True
        for glimpse in FollowRun(self._fraisier.store)(row["id"], attend=self._attend):
            row = glimpse.run
            if glimpse.text and not quiet:
                text = output_text(glimpse.text, colour=self._screen.colour)
                click.echo(text, nl=False, color=self._screen.colour)
                at_line_start = text.endswith("\n") if text else at_line_start
        if not at_line_start:
            click.echo()
        if self._performer is not None:
            self._performer.join()
        return row

    def _attend(self) -> None:
        """Look after whoever performs; if the last worker died, that becomes us."""
        if self._performer is not None and not self._performer.has_ended():
            return
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + 1.0
        lack = _lack(self._fraisier, self._row)
        if lack is None:
            self._last_alive = now
        elif now - self._last_alive > PATIENCE:
            if self._performer is not None or not self._may_perform():
                message = f"cannot wait for the run any longer: {lack.reason}"
                raise NoWorker(message, f"It stays stored and goes on by itself then. {lack.hint}")
            self._screen.note("No worker lives any more that may: this process goes on with the run.")
            self._perform_here()

    def _may_perform(self) -> bool:
        """Whether the environment lives on this machine, as far as its labels tell."""
        fraisier = self._fraisier
        wanted = fraisier.environment(_key(self._row)).labels
        others = [row for row in fraisier.store.live_workers() if not row["info"].get("only")]
        if not wanted and others:
            return False  # all of them have labels: on which of the machines it lives, nobody has said
        return may_take(fraisier.configuration.settings.labels, wanted)

    def _perform_here(self) -> None:
        run = self._row["id"]
        self._performer = Performer(self._fraisier, lambda worker: worker.perform_run(run))

    def _interrupted(self) -> None:
        run = self._row["id"]
        if self._performer is None:
            self._note(f"The run goes on. To watch it: fraisier logs -f {run[:SHORT_ID]}")
            self._note(f"To stop it: fraisier cancel {run[:SHORT_ID]}")
            return
        self._note(f"Cancelling run {run[:SHORT_ID]}, which this process performs …")
        try:
            self._fraisier.cancel_run(run, by=asker())
        except Conflict:
            self._note("It had already ended.")
        row = self._watch(quiet=True)
        self._note(f"It ended {row['status']}. See `fraisier show {run[:SHORT_ID]}`")

    def _note(self, text: str) -> None:
        with suppress(OSError):  # the terminal may be what went away
            self._screen.note(text)

    def _conclude(self, row: Row) -> None:
        if self._as_json:
            print_json(row)
            if row["status"] != RunStatus.success:
                raise click.exceptions.Exit(EXIT_ENDED_OTHERWISE)
            return
        if row["status"] != RunStatus.success:
            raise _ended_otherwise(self._fraisier, row)
        mark = self._screen.style("✓", "green")
        took = times.duration(row["duration_seconds"])
        self._screen.note(f"{mark} {_key(row)} {row['job']}: {took}, release {row['release'] or '-'}")


def _ended_otherwise(fraisier: Fraisier, row: Row) -> EndedOtherwise:
    why = row["error_message"] or "no reason was stored"
    hint = row["hint"] or f"See `fraisier show {row['id'][:SHORT_ID]}`"
    first = row["retry_of"] or row["id"]
    waiting = fraisier.store.runs(row["fraise_id"], row["environment"], job=row["job"], status="pending")
    if any(each["retry_of"] == first for each in waiting):
        hint = f"{hint}. A worker tries it again: see `fraisier runs`"
    return EndedOtherwise(f"cannot run {row['job']!r} of {_key(row)} ({row['status']}):\n{why}", hint)
