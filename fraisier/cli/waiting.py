"""What follows a request: watch it to its end, perform it here where no worker lives, or let go."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from fraisier.cli.boundary import EXIT_INTERRUPTED, EXIT_TERMINATED
from fraisier.cli.progress import progress_on
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import asker
from fraisier.cli.text import SHORT_ID
from fraisier.domain.deployment import Deployment, Status
from fraisier.domain.errors import EXIT_ENDED_OTHERWISE, Conflict, FraisierError, NoWorker

if TYPE_CHECKING:
    from fraisier.application.ports import Requested, Row
    from fraisier.wiring import Fraisier

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
    """SIGTERM, treated like Ctrl-C."""


def conclude(fraisier: Fraisier, requested: Requested, *, wait: bool, as_json: bool) -> None:
    """Do what `--wait` or `--no-wait` promises for what was requested.

    Raises:
        Conflict: nothing was requested, for a reason.
        NoWorker: nobody lives who would perform it, and we were told not to wait.
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
    if not fraisier.store.live_workers():
        message = f"cannot say when deployment {deployment.id[:SHORT_ID]} begins: no worker lives"
        raise NoWorker(message, "It is stored. Start `fraisier serve` or `fraisier worker` to perform it")


class Waiting:
    """Watches one deployment, and performs it in this process where no worker lives."""

    def __init__(self, fraisier: Fraisier, deployment: Deployment, *, as_json: bool) -> None:
        self._fraisier = fraisier
        self._deployment = deployment
        self._as_json = as_json
        self._screen = Screen.of_stdout()
        self._performer: Performer | None = None

    def to_the_end(self) -> None:
        """Watch until the deployment has ended, or somebody interrupts us; then exit accordingly."""
        with _sigterm_interrupts():
            if not self._fraisier.store.live_workers():
                self._perform_here()
            try:
                row = self._watch()
            except KeyboardInterrupt as interrupt:
                status = EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
                self._interrupted()
                raise click.exceptions.Exit(status) from None
        self._conclude(row)

    def _watch(self) -> Row:
        from fraisier.application.follow_deployment import FollowDeployment, WorkerWatch

        watch = WorkerWatch(self._fraisier.store, self._fraisier.clock)
        row: Row = {}
        with progress_on(self._screen, quiet=self._as_json) as progress:
            follow = FollowDeployment(self._fraisier.store)
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
            if self._performer is not None:
                raise
            self._screen.note("No worker lives any more: this process goes on with the deployment.")
            self._perform_here()

    def _perform_here(self) -> None:
        self._performer = Performer(self._fraisier, self._deployment.id)

    def _interrupted(self) -> None:
        short = self._deployment.id[:SHORT_ID]
        if self._performer is None:
            self._screen.note(f"The deployment goes on. To watch it: fraisier logs -f {short}")
            self._screen.note(f"To stop it: fraisier cancel {short}")
            return
        self._screen.note(f"Cancelling deployment {short}, which this process performs …")
        try:
            self._fraisier.cancel(self._deployment.id, by=asker())
        except Conflict:
            self._screen.note("It had already ended.")
        self._watch()

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
    """A worker for one deployment, in a thread."""

    def __init__(self, fraisier: Fraisier, deployment: str) -> None:
        from fraisier.worker import Worker

        self._worker = Worker(fraisier)
        self._error: BaseException | None = None
        # A daemon: a second Ctrl-C must be able to leave; the next worker ends what is left.
        self._thread = threading.Thread(
            target=self._perform, args=(deployment,), name="performer", daemon=True
        )
        self._thread.start()

    def _perform(self, deployment: str) -> None:
        try:
            self._worker.perform(deployment)
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
def _sigterm_interrupts() -> Iterator[None]:
    def terminate(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
