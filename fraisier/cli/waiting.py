"""What follows a request: watch it to its end, perform it here where no worker takes it, or let go."""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, ClassVar

import click

from fraisier.application.find_workers import whole_workers
from fraisier.application.watch_worker import WorkerWatch
from fraisier.cli.boundary import EXIT_INTERRUPTED
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.text import SHORT_ID
from fraisier.domain.errors import EXIT_ENDED_OTHERWISE, Conflict, FraisierError, NoWorker
from fraisier.domain.labels import may_take

if TYPE_CHECKING:
    from fraisier.application.find_workers import Lack
    from fraisier.application.ports import Row
    from fraisier.domain.fraise import EnvironmentKey
    from fraisier.wiring import Fraisier
    from fraisier.worker import Worker


class EndedOtherwise(FraisierError):
    """What we waited for ended otherwise than `success`."""

    code = "ended_otherwise"


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP where a terminal or a connection was closed: treated like Ctrl-C."""


def nobody_begins(what: str, identifier: str, lack: Lack) -> NoWorker:
    """The error of what is stored, and nobody takes."""
    message = f"cannot say when {what} {identifier[:SHORT_ID]} begins: {lack.reason}"
    return NoWorker(message, f"It is stored. {lack.hint}")


class Waiting(ABC):
    """Watches one row of an environment, and performs it in this process where no worker may take it."""

    what: ClassVar[str]  # what the row is, in a sentence

    def __init__(
        self, fraisier: Fraisier, identifier: str, environment: EnvironmentKey, *, as_json: bool
    ) -> None:
        self._fraisier = fraisier
        self._id = identifier
        self._environment = environment
        self._as_json = as_json
        self._screen = Screen.of_stdout()
        self._performer: Performer | None = None

    # ------------------------------------------------------------------------------- of the kind of row
    @abstractmethod
    def _lack(self) -> Lack | None:
        """Why no worker that lives goes on with it; None: one does."""

    @abstractmethod
    def _perform(self, worker: Worker) -> None:
        """Have this worker perform it, and nothing else."""

    @abstractmethod
    def _cancel(self) -> None:
        """Ask for its end; raises Conflict where it has ended."""

    @abstractmethod
    def _row(self) -> Row:
        """As it is now."""

    @abstractmethod
    def _follow(self, attend: Callable[[], None], *, quiet: bool) -> Row:
        """Show what happens until it has ended, with looks at `attend` in between; its row at the end."""

    @abstractmethod
    def _tell_success(self, row: Row) -> None:
        """The last line."""

    @abstractmethod
    def _ended_otherwise(self, row: Row) -> EndedOtherwise:
        """Why it is no success."""

    # ------------------------------------------------------------------------------- what all do
    def to_the_end(self) -> None:
        """Watch until it has ended, or somebody interrupts us; then exit accordingly."""
        with signals_interrupt() as came:
            if (lack := self._lack()) is not None:
                if not self._may_perform():
                    raise nobody_begins(self.what, self._id, lack)
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
            if came:  # the terminal is gone, and what was last on it could not be shown, or wiped off
                raise Terminated from closed
            if self._performer is not None:
                self._watch(quiet=True)
            raise

    def _watch(self, *, quiet: bool) -> Row:
        watch = WorkerWatch(self.what, self._lack, self._fraisier.clock)
        row = self._follow(lambda: self._attend(watch), quiet=quiet)
        if self._performer is not None:
            self._performer.join()
        return row

    def _attend(self, watch: Callable[[], None]) -> None:
        """Look after whoever performs; if the last worker died, that becomes us."""
        if self._performer is not None and not self._performer.has_ended():
            return
        try:
            watch()
        except NoWorker:
            if self._performer is not None or not self._may_perform():
                raise
            self._screen.note(
                f"No worker lives any more that may: this process goes on with the {self.what}."
            )
            self._perform_here()

    def _may_perform(self) -> bool:
        """Whether the environment lives on this machine, as far as its labels tell."""
        fraisier = self._fraisier
        wanted = fraisier.environment(self._environment).labels
        if not wanted and whole_workers(fraisier.store):
            return False  # all of them have labels: on which of the machines it lives, nobody has said
        return may_take(fraisier.configuration.settings.labels, wanted)

    def _perform_here(self) -> None:
        self._performer = Performer(self._fraisier, self._perform)

    def _interrupted(self) -> None:
        short = self._id[:SHORT_ID]
        if self._is_another_s():
            self._note(f"The {self.what} goes on. To watch it: fraisier logs -f {short}")
            self._note(f"To stop it: fraisier cancel {short}")
            return
        self._note(f"Cancelling {self.what} {short}, which this process performs …")
        try:
            self._cancel()
        except Conflict:
            self._note("It had already ended.")
        row = self._watch(quiet=True)
        self._note(f"It ended {str(row['status']).replace('_', ' ')}. See `fraisier show {short}`")

    def _is_another_s(self) -> bool:
        """Whether another worker performs it, which may have taken over from this process."""
        if self._performer is None:
            return True
        return self._row()["status"] == "running" and not self._performer.performs(self._id)

    def _note(self, text: str) -> None:
        with suppress(OSError):  # the terminal may be what went away
            self._screen.note(text)

    def _conclude(self, row: Row) -> None:
        succeeded = row["status"] == "success"  # of deployments and of runs alike
        if self._as_json:
            print_json(row)
            if not succeeded:
                raise click.exceptions.Exit(EXIT_ENDED_OTHERWISE)
        elif not succeeded:
            raise self._ended_otherwise(row)
        else:
            self._tell_success(row)


class Performer:
    """A worker for one deployment, or one run, in a thread."""

    def __init__(self, fraisier: Fraisier, perform: Callable[[Worker], None]) -> None:
        from fraisier.worker import Worker

        self._worker = Worker(fraisier)
        self._error: BaseException | None = None
        # A daemon: a second Ctrl-C must be able to leave; the next worker ends what is left.
        self._thread = threading.Thread(target=self._perform, args=(perform,), name="performer", daemon=True)
        self._thread.start()

    def _perform(self, perform: Callable[[Worker], None]) -> None:
        try:
            perform(self._worker)
        except BaseException as error:  # noqa: BLE001 - raised again where it is reported
            self._error = error

    def performs(self, identifier: str) -> bool:
        """Whether it is at work on it."""
        return self._worker.performs(identifier)

    def has_ended(self) -> bool:
        """Whether the worker has let go; raises what it raised."""
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait until the worker has let go; raises what it raised."""
        self._thread.join()
        self.has_ended()


@contextmanager
def signals_interrupt() -> Iterator[Sequence[int]]:
    """Yields the signals that have come so far. What is ignored (nohup) stays so."""
    came: list[int] = []

    def terminate(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    caught = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, terminate) for each in caught}
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
