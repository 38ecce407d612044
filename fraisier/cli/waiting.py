"""What follows a request: watch it to its end, perform it here where no worker takes it, or let go."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

import click

from fraisier.application.find_workers import FindWorkers, Lack
from fraisier.cli.boundary import EXIT_INTERRUPTED
from fraisier.cli.progress import progress_on
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import asker
from fraisier.cli.text import SHORT_ID
from fraisier.domain.deployment import Deployment, Status
from fraisier.domain.errors import EXIT_ENDED_OTHERWISE, Conflict, FraisierError, NoWorker
from fraisier.domain.labels import may_take

if TYPE_CHECKING:
    from fraisier.application.ports import Requested, Row
    from fraisier.wiring import Fraisier
    from fraisier.worker import Worker

REASONS = {
    "quarantined": (
        "this commit failed here before and is quarantined",
        "Deploy it all the same with --force",
    ),
    "already_requested": (
        "the newest deployment already asked for this commit",
        "See `fraisier history`; --force asks again",
    ),
    "refused": ("this commit was refused before", "Deploy it all the same with --force"),
}


class EndedOtherwise(FraisierError):
    """A deployment that we waited for ended otherwise than `success`."""

    code = "ended_otherwise"


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP where a terminal or a connection was closed: treated like Ctrl-C."""


def conclude(fraisier: Fraisier, requested: Requested, *, wait: bool, as_json: bool) -> None:
    """Do what `--wait` or `--no-wait` promises for what was requested.

    Raises:
        Conflict: nothing was requested, for a reason.
        NoWorker: nobody lives who may perform it, and we were told not to wait, or may not either.
        OnHold: the environment is paused, or outside of its allowed times.
        EndedOtherwise: it ended otherwise than `success`.
    """
    deployment = requested.deployment
    if deployment is None:
        raise _nothing_requested(requested.reason)
    if not wait:
        _hand_over(fraisier, deployment, as_json=as_json)
        return
    Waiting(fraisier, deployment, as_json=as_json).to_the_end()


def _nothing_requested(reason: str) -> Conflict:
    why, hint = REASONS.get(reason, (reason, "See `fraisier status`"))
    return Conflict(f"cannot deploy: {why}", hint)


def _hand_over(fraisier: Fraisier, deployment: Deployment, *, as_json: bool) -> None:
    if as_json:
        print_json(fraisier.store.deployment(deployment.id))
    else:
        click.echo(deployment.id)
    fraisier.holds().check(deployment.id)
    if (lack := FindWorkers(fraisier.store).lack_of(deployment.id)) is not None:
        raise _nobody_begins(deployment, lack)


def _nobody_begins(deployment: Deployment, lack: Lack) -> NoWorker:
    message = f"cannot say when deployment {deployment.id[:SHORT_ID]} begins: {lack.reason}"
    return NoWorker(message, f"It is stored. {lack.hint}")


class Waiting:
    """Watches one deployment, and performs it in this process where no worker that lives may take it."""

    def __init__(self, fraisier: Fraisier, deployment: Deployment, *, as_json: bool) -> None:
        self._fraisier = fraisier
        self._deployment = deployment
        self._as_json = as_json
        self._screen = Screen.of_stdout()
        self._performer: Performer | None = None

    def to_the_end(self) -> None:
        """Watch until the deployment has ended, or somebody interrupts us; then exit accordingly."""
        with signals_interrupt() as came:
            self._fraisier.holds().check(self._deployment.id)
            if (lack := FindWorkers(self._fraisier.store).lack_of(self._deployment.id)) is not None:
                if not self._may_perform():
                    raise _nobody_begins(self._deployment, lack)
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
            if came:  # the terminal is gone, and its last picture could not be wiped off
                raise Terminated from closed
            if self._performer is not None:
                self._watch(quiet=True)
            raise

    def _watch(self, *, quiet: bool) -> Row:
        from fraisier.application.follow_deployment import FollowDeployment, WorkerWatch

        fraisier = self._fraisier
        watch = WorkerWatch(fraisier.store, fraisier.clock, self._deployment.id, holds=fraisier.holds)
        row: Row = {}
        with progress_on(self._screen, quiet=quiet) as progress:
            follow = FollowDeployment(fraisier.store)
            for glimpse in follow(self._deployment.id, attend=lambda: self._attend(watch)):
                progress.show(glimpse)
                row = glimpse.deployment
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
            self._screen.note("No worker lives any more that may: this process goes on with the deployment.")
            self._perform_here()

    def _may_perform(self) -> bool:
        """Whether the environment lives on this machine, as far as its labels tell."""
        fraisier = self._fraisier
        wanted = fraisier.environment(self._deployment.environment).labels
        if not wanted and fraisier.store.live_workers():
            return False  # all of them have labels: on which of the machines it lives, nobody has said
        return may_take(fraisier.configuration.settings.labels, wanted)

    def _perform_here(self) -> None:
        deployment = self._deployment.id
        self._performer = Performer(self._fraisier, lambda worker: worker.perform(deployment))

    def _interrupted(self) -> None:
        short = self._deployment.id[:SHORT_ID]
        if self._performer is None:
            self._note(f"The deployment goes on. To watch it: fraisier logs -f {short}")
            self._note(f"To stop it: fraisier cancel {short}")
            return
        self._note(f"Cancelling deployment {short}, which this process performs …")
        try:
            self._fraisier.cancel(self._deployment.id, by=asker())
        except Conflict:
            self._note("It had already ended.")
        row = self._watch(quiet=True)
        self._note(f"It ended {str(row['status']).replace('_', ' ')}. See `fraisier show {short}`")

    def _note(self, text: str) -> None:
        with suppress(OSError):  # the terminal may be what went away
            self._screen.note(text)

    def _conclude(self, row: Row) -> None:
        if self._as_json:
            print_json(row)
            if row["status"] != Status.success:
                raise click.exceptions.Exit(EXIT_ENDED_OTHERWISE)
            return
        if row["status"] != Status.success:
            raise _ended_otherwise(row)
        mark = self._screen.style("✓", "green")
        release = f", release {row['release']}" if row.get("release") else ""
        self._screen.say(f"{mark} {self._deployment.environment} runs {row['commit'][:10]}{release}")


def _ended_otherwise(row: Row) -> EndedOtherwise:
    why = row.get("error_message") or "no reason was stored"
    hint = row.get("hint") or f"See `fraisier show {row['id'][:SHORT_ID]}`"
    status = str(row["status"]).replace("_", " ")
    message = f"cannot bring {row['fraise_id']}/{row['environment']} to the commit ({status}):\n{why}"
    return EndedOtherwise(message, hint)


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
