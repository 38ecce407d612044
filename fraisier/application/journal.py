"""One attempt's journal: every step is on disk before it begins and after it has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fraisier.application.control import Control, Reason, Stopped
from fraisier.application.ports import Claim, Job, Listener, Row, Store
from fraisier.application.stage import Scene
from fraisier.application.step_output import StepOutput
from fraisier.domain.errors import (
    Cause,
    ForeignOwner,
    FraisierError,
    StepFailed,
    StoreUnavailable,
    TokenOutdated,
)
from fraisier.domain.plan import Step, StepState
from fraisier.domain.secret import Redactor


class Journal:
    """Writes the steps of one attempt of a claimed deployment."""

    def __init__(
        self, store: Store, claim: Claim, control: Control, redactor: Redactor, listener: Listener
    ) -> None:
        self._store = store
        self._claim = claim
        self._control = control
        self._redactor = redactor
        self._listener = listener
        self._attempt = 0
        self._resolved: str | None = None  # of an attempt that is stored with its first step
        self.is_going_down: Callable[[], bool] = lambda: False
        # Knows more secrets; asked once per host, before anything is done there, because what it asks may be
        # unreachable.
        self.learn: Callable[[str], Sequence[str]] | None = None
        self._learnt: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()  # hosts are learnt of at the same time
        self._beginning = threading.Lock()  # and their first steps begin so

    def begin(self, resolved: str, *, with_first_step: bool = False) -> None:
        """A new attempt, with the environment that it works on.

        `with_first_step`: nothing is done before that, so both become durable together.
        """
        if with_first_step:
            self._resolved = resolved
        else:
            self._attempt = self._store.begin_attempt(self._claim, resolved=resolved)

    @property
    def attempt(self) -> int:
        """The attempt's number; it is stored now, if it was not yet."""
        with self._beginning:
            if self._resolved is not None:
                self._attempt = self._store.begin_attempt(self._claim, resolved=self._resolved)
                self._resolved = None
            return self._attempt

    def _begin_step(self, step: Step, release: str, host: str) -> int:
        claim = self._claim
        begun: Row = {"phase": step.phase, "name": step.name, "release": release, "host": host}
        with self._beginning:
            if self._resolved is not None:
                resolved = self._resolved
                self._attempt, number = self._store.begin_with_step(claim, resolved=resolved, **begun)
                self._resolved = None
                return number
        return self._store.begin_step(claim, self._attempt, **begun)

    @contextmanager
    def step(self, step: Step, release: str, stop: threading.Event, *, host: str = "") -> Iterator[Scene]:
        """Journal `step` around its acts, and give them a place to write to; `host` is one of several."""
        claim, name = self._claim, step.name
        number = self._begin_step(step, release, host)
        self._tell("step_started", step, **_named(host))
        output = StepOutput(self._redactor, lambda text: self._store.write_output(claim, number, text))
        try:
            if self._learns(host):
                output = StepOutput(
                    self._redactor, lambda text: self._store.write_output(claim, number, text)
                )
            yield Scene(name, Job(stop=stop, output=output), output)
        except (TokenOutdated, StoreUnavailable):
            raise
        except Exception as failure:
            ended = self._called_off() if stop is self._control.stop else None
            self._end(number, step, output, ended or failure, host)
            raise
        else:
            self._end(number, step, output, None, host)

    def _learns(self, host: str) -> bool:
        """Whether more secrets are known now. What was learnt of one host is kept from the output of all."""
        if self.learn is None or host in self._learnt:
            return False
        found = frozenset(self.learn(host))
        with self._lock:
            self._learnt[host] = found
            self._redactor = Redactor({secret for known in self._learnt.values() for secret in known})
        return True

    def redact(self, text: str) -> str:
        """`text` without secrets."""
        return self._redactor.text(text)

    def _called_off(self) -> StepFailed | None:
        """Whatever a step that a cancel may end has failed for by then: that somebody wanted it so."""
        if self._control.reason is not Reason.cancelled:
            return None
        return StepFailed(Cause.cancelled, f"cancelled by {self._control.cancelled_by or 'someone'}")

    def _redacted(self, failure: StepFailed) -> StepFailed:
        return StepFailed(failure.cause, self.redact(failure.message), self.redact(failure.hint))

    def _end(self, number: int, step: Step, output: StepOutput, failure: Exception | None, host: str) -> None:
        told = self._redacted(explain(failure)) if failure else None
        if told:
            output.line(told.message)
        state = self._state(failure)
        self._store.end_step(self._claim, number, state=state, tail=output.close(), failure=told)
        self._tell("step_ended", step, state=state.value, error=told.message if told else "", **_named(host))

    def _state(self, failure: Exception | None) -> StepState:
        if failure is None:
            return StepState.success
        if self.is_going_down():
            self._control.shut_down()
        if self._control.reason in (Reason.shutdown, Reason.lost):
            return StepState.interrupted
        cancelled = isinstance(failure, Stopped) or explain(failure).cause is Cause.cancelled
        return StepState.cancelled if cancelled else StepState.failed

    def _tell(self, event: str, step: Step, **fields: str) -> None:
        deployment = self._claim.deployment
        told = {"deployment": deployment.id, "environment": str(deployment.environment)}
        self._listener(event, {**told, "step": step.name.value, "phase": step.phase.value, **fields})


def _named(host: str) -> dict[str, str]:
    return {"host": host} if host else {}


def explain(failure: BaseException) -> StepFailed:
    """Any failure as one with a cause that a person can read."""
    if isinstance(failure, StepFailed):
        return failure
    if isinstance(failure, Stopped):
        return StepFailed(Cause.cancelled, f"cannot go on: {failure.reason.value}")
    if isinstance(failure, ForeignOwner):
        return StepFailed(Cause.owner, failure.message, failure.hint)
    if isinstance(failure, FraisierError):
        return StepFailed(Cause.preflight, failure.message, failure.hint)
    if isinstance(failure, OSError):
        full = failure.errno in _NO_SPACE
        return StepFailed(Cause.disk if full else Cause.host, f"cannot use the host: {failure}")
    kind = type(failure).__name__
    return StepFailed(
        Cause.internal,
        f"cannot go on: {kind}: {failure}",
        "This is a defect of Fraisier; please report it with the worker's log",
    )


_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT
