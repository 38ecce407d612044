"""A claimed run, performed to its end; one that a dead worker left is ended."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from fraisier.application.control import Control, Reason
from fraisier.application.desk import RunDesk
from fraisier.application.journal import explain
from fraisier.application.ports import (
    EnvironmentCodec,
    Ground,
    Host,
    Job,
    Listener,
    Performer,
    Row,
    RunClaim,
    Store,
)
from fraisier.application.release_marker import Marker, read_marker
from fraisier.application.run_after import run_hooks
from fraisier.application.run_unit import is_units, without_what_units_do
from fraisier.application.step_output import StepOutput
from fraisier.application.takeover import owner_of
from fraisier.application.tools import Tools
from fraisier.domain import job as jobs
from fraisier.domain.errors import (
    Cause,
    FraisierError,
    NotFound,
    StepFailed,
    StoreUnavailable,
    TokenOutdated,
)
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import JobKind, Keeper
from fraisier.domain.release import Layout
from fraisier.domain.report import lost
from fraisier.domain.run import RunEnding, RunStatus, RunTrigger, RunWish
from fraisier.domain.secret import Redactor

T = TypeVar("T")

# Another try is of no use as long as nobody has done something.
_NOT_TRIED_AGAIN = frozenset({Cause.preflight, Cause.owner, Cause.internal, Cause.cancelled})
_LONGEST_PAUSE = 6 * 3600.0  # seconds between two tries
_HINT_INTERRUPTED = "See in the workers' log why they ended; what it has done until then is not undone"

_DIED = RunEnding(
    status=RunStatus.failed,
    cause=Cause.interrupted,
    error="cannot tell how it would have ended: its worker died while it ran",
    hint=_HINT_INTERRUPTED,
)


class PerformRun:
    """Performs runs, of whatever kind there is a performer for."""

    def __init__(
        self,
        tools: Tools,
        store: Store,
        codec: EnvironmentCodec,
        find: Callable[[EnvironmentKey], Environment],
        *,
        performers: Mapping[JobKind, Performer],
        listener: Listener,
    ) -> None:
        self._tools = tools
        self._store = store
        self._codec = codec
        self._find = find
        self._performers = performers
        self._listener = listener

    def __call__(self, claim: RunClaim, control: Control) -> Row | None:
        """Perform it; its row when it has ended. None: the next worker ends it, or has it.

        Raises:
            TokenOutdated: it is another worker's.
            StoreUnavailable: its end cannot be stored.
        """
        try:
            environment = self._find(claim.environment)
            host = self._tools.host(environment)
        except FraisierError as error:
            gone = RunEnding(
                status=RunStatus.failed if claim.interrupted else RunStatus.cancelled,
                cause=Cause.preflight,
                error=error.message,
                hint=error.hint,
            )
            return self._finish(claim, control, gone)
        ground = ground_of_run(self._store, environment, claim, control)
        if claim.job in environment.jobs and is_units(environment.jobs[claim.job], claim.parameters):
            was_cut_off = bool(claim.invocation)
            environment = without_what_units_do(environment, claim.job, was_cut_off=was_cut_off)
        if claim.interrupted:
            return self._end_interrupted(claim, control, environment, host, ground)
        if claim.job not in environment.jobs:
            return self._finish(claim, control, _no_such_job(claim))
        return self._perform(claim, control, environment, host, ground)

    # ------------------------------------------------------------------------------------- performing
    def _perform(
        self, claim: RunClaim, control: Control, environment: Environment, host: Host, ground: Ground
    ) -> Row | None:
        job = environment.jobs[claim.job]
        try:
            secrets = self._secrets(environment, host)
        except FraisierError as error:
            return self._finish(claim, control, self._with_next(_failed(error), claim, job))
        redactor = Redactor(secrets)
        output = self._output(claim, control, redactor)
        desk: RunDesk | None = None
        try:
            _adopt(host, ground, environment)
            desk = _desk(claim, control, environment, host, ground, output)
            ending = self._performers[job.kind](desk)
        except (TokenOutdated, StoreUnavailable):
            raise
        except Exception as failure:  # noqa: BLE001 - whatever it is: the run has an end that says so
            ending = _failed(failure)
        if control.reason is Reason.lost or (ending.status is not RunStatus.success and host.is_going_down()):
            return None
        ending = self._with_next(_as_told(ending, control), claim, job)
        ending = replace(ending, error=redactor.text(ending.error), hint=redactor.text(ending.hint))
        if desk is not None:
            ending = replace(ending, peak_memory=ending.peak_memory or desk.peak_memory)
            if not _follow(desk, control, ending):
                return None
        with suppress(StepFailed):
            output.close()
        return self._finish(claim, control, ending)

    def _output(self, claim: RunClaim, control: Control, redactor: Redactor) -> StepOutput:
        return StepOutput(
            redactor, lambda text: self._patiently(control, lambda: self._store.write_run_output(claim, text))
        )

    def _secrets(self, environment: Environment, host: Host) -> Sequence[str]:
        content = host.read(environment.env_file) if environment.env_file else None
        return self._codec.secrets(environment, content)

    # ------------------------------------------------------------------------------------- what was left
    def _end_interrupted(
        self, claim: RunClaim, control: Control, environment: Environment, host: Host, ground: Ground
    ) -> Row | None:
        """End what the dead worker had started there; only then the run has ended."""
        ending = lost() if claim.invocation else _DIED
        try:
            self._insist(control, environment, lambda: host.adopt(ground))
        except (TokenOutdated, StoreUnavailable):
            raise
        except Exception as failure:  # noqa: BLE001 - see _perform
            if control.halt.is_set():
                return None
            error = f"{ending.error}. What it had started may run on: {explain(failure).message}"
            ending = replace(ending, error=error)
        if claim.cancel_requested_by:
            ending = _cancelled(claim.cancel_requested_by)
        job = environment.jobs.get(claim.job)
        if job is not None:
            ending = self._with_next(ending, claim, job)
            if not self._hooks_after(ending, claim, control, environment, host, ground):
                return None
        return self._finish(claim, control, ending)

    def _hooks_after(
        self,
        ending: RunEnding,
        claim: RunClaim,
        control: Control,
        environment: Environment,
        host: Host,
        ground: Ground,
    ) -> bool:
        """The hooks that its own worker has not come to, or through. Where they cannot be run, as the host is
        away or the env_file is gone, the run ends all the same; an alert tells of it.
        """
        if not _wants_to_be_told(environment.jobs[claim.job], ending):
            return True
        try:
            output = self._output(claim, control, Redactor(self._secrets(environment, host)))
            desk = _desk(claim, control, environment, host, ground, output)
        except (FraisierError, OSError) as error:
            told = {"run": claim.id, "environment": str(claim.environment), "job": claim.job}
            self._listener("hooks_not_run", {**told, "error": str(error)})
            return True
        went_on = _follow(desk, control, ending)
        with suppress(StepFailed):
            output.close()
        return went_on

    def _insist(self, control: Control, environment: Environment, act: Callable[[], None]) -> None:
        """Do what there is no other way than: a host that does not answer is waited for."""
        latest, delay = self._tools.clock.monotonic() + environment.retry_for, self._tools.retries.first
        while True:
            try:
                return act()
            except Exception as failure:
                retried = explain(failure).cause.is_retried
                if not retried or self._tools.clock.monotonic() > latest or control.halt.wait(delay):
                    raise
            delay = min(delay * 2, self._tools.retries.longest)

    # ------------------------------------------------------------------------------------- endings
    def _with_next(self, ending: RunEnding, claim: RunClaim, job: jobs.Job) -> RunEnding:
        """With the try, or the runs, that follow it."""
        if ending.status is RunStatus.success:
            with suppress(NotFound):  # a reload may have taken the environment away meanwhile
                ending = replace(ending, then=dependents(self._find(claim.environment), claim.job))
            return ending
        tries_left = claim.attempt <= job.retries
        if ending.status is not RunStatus.failed or ending.cause in _NOT_TRIED_AGAIN or not tries_left:
            return ending
        pause = min(job.retry_delay * 2.0 ** min(claim.attempt - 1, 30), _LONGEST_PAUSE)
        again = RunWish(
            environment=claim.environment,
            job=claim.job,
            kind=job.kind,
            trigger=RunTrigger.retry,
            concurrency=job.concurrency,
            parameters=claim.parameters,
            requested_by=claim.requested_by,
            due=claim.due,
            not_before=self._tools.clock.now() + pause,
            attempt=claim.attempt + 1,
            retry_of=claim.retry_of or claim.id,
        )
        return replace(ending, again=again)

    def _finish(self, claim: RunClaim, control: Control, ending: RunEnding) -> Row:
        return self._patiently(control, lambda: self._store.finish_run(claim, ending))

    def _patiently(self, control: Control, act: Callable[[], T]) -> T:
        """A store that is away for a moment ends no pipeline; who lost the right to go on stops waiting."""
        delay = 0.1
        while True:
            try:
                return act()
            except StoreUnavailable:
                if control.reason is Reason.lost:
                    raise
                if control.halt.is_set() and delay > 1.0:
                    raise
            control.halt.wait(delay * random.uniform(0.8, 1.2))  # noqa: S311
            delay = min(delay * 2, 5.0)


def _adopt(host: Host, ground: Ground, environment: Environment) -> None:
    """Take the slot over; where nothing was ever deployed, our own folder is made first, closed to others."""
    own = Layout(environment.app_path).own
    if host.kind(own) == "missing":
        host.make_folder(own, mode=0o700)
    host.adopt(ground)


def ground_of_run(store: Store, environment: Environment, claim: RunClaim, control: Control) -> Ground:
    """A run has a part of the host of its own: neither a deployment nor another run ends what it starts."""
    slot = f"{claim.job}-{claim.slot}"
    return Ground(
        app_path=f"{Layout(environment.app_path).own}/jobs/{slot}",
        owner={**owner_of(store, environment), "job": claim.job},
        token=claim.token,
        halt=control.halt,
        fleeting=True,
    )


def dependents(environment: Environment, job: str) -> tuple[RunWish, ...]:
    """Runs of the jobs that follow a success of `job`; those with a schedule of their own wait for it."""
    return tuple(
        RunWish(
            environment=environment.key,
            job=each.name,
            kind=each.kind,
            trigger=RunTrigger.dependency,
            concurrency=each.concurrency,
            parameters={name: value or "" for name, value in each.parameters.items()},
        )
        for each in environment.jobs.values()
        if each.depends_on == job and each.schedule is None and each.keeper is Keeper.worker
    )


def _desk(
    claim: RunClaim,
    control: Control,
    environment: Environment,
    host: Host,
    ground: Ground,
    output: StepOutput,
) -> RunDesk:
    return RunDesk(
        host,
        ground,
        environment,
        claim,
        listening=Job(stop=control.stop, output=output),
        output=output,
        release=_release(host, environment, claim),
    )


def _follow(desk: RunDesk, control: Control, ending: RunEnding) -> bool:
    """Run the hooks; False: our worker ends before somebody was told of a failure, so the next one has to."""
    must_tell = _wants_to_be_told(desk.job, ending)
    if not must_tell or control.reason is not Reason.shutdown:
        run_hooks(desk, ending)
    return not must_tell or control.reason is not Reason.shutdown


def _wants_to_be_told(job: jobs.Job, ending: RunEnding) -> bool:
    return ending.status is RunStatus.failed and ending.again is None and bool(job.on_failure)


def _release(host: Host, environment: Environment, claim: RunClaim) -> Marker | None:
    return read_marker(host, Layout(environment.app_path), claim.release) if claim.release else None


def _failed(failure: Exception) -> RunEnding:
    said = explain(failure)
    return RunEnding(status=RunStatus.failed, cause=said.cause, error=said.message, hint=said.hint)


def _as_told(ending: RunEnding, control: Control) -> RunEnding:
    """What somebody stopped did not fail; what ended well before it could be stopped did end well."""
    if ending.status is RunStatus.success or control.reason is None:
        return ending
    if control.reason is Reason.cancelled:
        return replace(_cancelled(control.cancelled_by), detail=ending.detail)
    error = "cannot tell how it would have ended: its worker was stopped while it ran"
    return replace(ending, cause=Cause.interrupted, error=error, hint=_HINT_INTERRUPTED)


def _cancelled(by: str) -> RunEnding:
    return RunEnding(
        status=RunStatus.cancelled,
        cause=Cause.cancelled,
        error=f"cancelled by {by}",
        hint="What it has done until then is not undone; start another one with `fraisier run`",
    )


def _no_such_job(claim: RunClaim) -> RunEnding:
    error = f"cannot run {claim.job!r} of {claim.environment}: the configuration no longer has it"
    return RunEnding(
        status=RunStatus.cancelled, cause=Cause.preflight, error=error, hint="See `fraisier config show`"
    )
