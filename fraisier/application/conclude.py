"""Writes how an attempt ended: for good, or until its next try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fraisier.application.control import Control, Stopped
from fraisier.application.journal import Journal, explain
from fraisier.application.patience import Patience
from fraisier.application.ports import Claim, Ending, Serving, Store
from fraisier.domain.deployment import Deployment, Status, Trigger
from fraisier.domain.errors import Cause, StepFailed, StoreUnavailable, TokenOutdated
from fraisier.domain.lineage import Refusal
from fraisier.domain.plan import QUARANTINING, StepName
from fraisier.domain.rollout import Standing

UNJOURNALED = (TokenOutdated, StoreUnavailable)  # nothing can, or may, be written any more
_BLAMED = {Cause.build, Cause.migration, Cause.migration_interrupted, Cause.restart, Cause.unhealthy}


class Conclude:
    """What every kind of attempt ends with. Nothing that is known to be secret is in what it writes."""

    def __init__(
        self, store: Store, claim: Claim, control: Control, journal: Journal, patience: Patience
    ) -> None:
        self._store = store
        self._claim = claim
        self._control = control
        self._journal = journal
        self._patience = patience
        self._failed_at = StepName.preflight

    def _refuse(self, refusal: Refusal) -> Deployment:
        return self._finish(
            Ending(status=refusal.status, cause=refusal.cause, error=refusal.message, hint=refusal.hint)
        )

    def _cancelled(self, consequence: str = "") -> StepFailed:
        by = self._control.cancelled_by or self._claim.deployment.cancel_requested_by
        return StepFailed(Cause.cancelled, f"cancelled by {by or 'someone'}{consequence}")

    def _retry(self, failure: StepFailed, hosts: Sequence[Standing] = ()) -> Deployment:
        return self._store.retry_later(
            self._claim,
            self._journal.attempt,
            delay=self._patience.pause(),
            cause=failure.cause,
            error=self._journal.redact(failure.message),
            hint=self._journal.redact(failure.hint),
            hosts=hosts,
        )

    def _end(
        self, status: Status, failure: StepFailed, *, error: str, serving: Serving | None = None
    ) -> Deployment:
        return self._finish(
            Ending(
                status=status,
                cause=failure.cause,
                error=error,
                hint=failure.hint,
                serving=serving,
                quarantine=self._blames_the_commit(failure),
            )
        )

    def _try_to(self, act: Callable[[], None], trouble: str) -> str:
        """Do what the end of the deployment must not depend on; what is said where it did not work."""
        try:
            act()
        except (Stopped, *UNJOURNALED):
            raise
        except Exception as failed:  # noqa: BLE001 - a boundary: the deployment has to end
            self._control.check_halt()
            return f". {trouble}: {explain(failed).message}"
        return ""

    def _went_back(
        self, failure: StepFailed, troubles: list[StepFailed], serving: Serving | None
    ) -> Deployment:
        """`serving` is what the way back led to; None: the old release has served all the time."""
        said = "; ".join(trouble.message for trouble in troubles)
        error = f"{failure.message}. The way back failed too: {said}" if said else failure.message
        status = Status.rollback_failed if troubles else Status.rolled_back
        if serving is None or not (troubles or serving.release):
            status = Status.cancelled if failure.cause is Cause.cancelled else Status.failed
            serving = replace(serving, healthy=False) if serving else None
        return self._end(status, failure, error=error, serving=serving)

    def _blames_the_commit(self, failure: StepFailed) -> bool:
        if self._claim.deployment.trigger is Trigger.rollback:
            return False
        is_late = failure.cause is Cause.timeout and self._failed_at in QUARANTINING
        return failure.cause in _BLAMED or is_late

    def _finish(self, ending: Ending) -> Deployment:
        ending = replace(
            ending, error=self._journal.redact(ending.error), hint=self._journal.redact(ending.hint)
        )
        return self._store.finish(self._claim, self._journal.attempt, ending)


def with_consequence(failure: StepFailed, said: str) -> StepFailed:
    """The failure, and what is said of the database because of it."""
    return StepFailed(failure.cause, failure.message + said, failure.hint) if said else failure
