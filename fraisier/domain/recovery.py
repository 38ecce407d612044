"""What a deployment whose worker died is resumed with: a rule over its journal, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fraisier.domain.errors import Cause
from fraisier.domain.plan import Phase, StepName, StepState


class Journaled(Protocol):
    """What the rule needs to know of a step in the journal."""

    @property
    def attempt(self) -> int: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def name(self) -> StepName: ...
    @property
    def state(self) -> StepState: ...
    @property
    def release(self) -> str: ...
    @property
    def error(self) -> str: ...


class Course(StrEnum):
    """The ways to go on."""

    start_over = "start_over"  # nothing that counts was done: from the first step, in a new folder
    go_on = "go_on"  # the release is whole: switch to it (again), restart, check
    roll_back = "roll_back"  # the way back had begun, or the release had failed after the switch
    conclude = "conclude"  # a step before the switch had failed: only the ending is missing


@dataclass(frozen=True, slots=True)
class Resumption:
    """How to go on, with which release, and why the deployment is lost where it is.

    `migrated`: this deployment's migration has been done, so it must not be done again. `undone`: the way
    back had already taken the database back.
    """

    course: Course
    release: str = ""
    cause: Cause | None = None
    error: str = ""
    migrated: bool = False
    undone: bool = False


CAUSE_OF_STEP = {
    StepName.preflight: Cause.preflight,
    StepName.fetch: Cause.repository,
    StepName.build: Cause.build,
    StepName.migrate: Cause.migration,
    StepName.restart: Cause.restart,
    StepName.check_health: Cause.unhealthy,
}
_SWITCH = (StepName.activate, StepName.restart, StepName.check_health, StepName.finish)
_UNFINISHED = (StepState.running, StepState.interrupted)

INTERRUPTED_MIGRATION = (
    "cannot tell whether the migration took place: its worker died in the middle. "
    "The database may be between two states; the old release keeps serving"
)


def resume(journal: Sequence[Journaled]) -> Resumption:
    """How a deployment with this journal goes on. An empty journal starts from the first step."""
    migrated = _last_success(journal, Phase.deploy, StepName.migrate)
    undone = _last_success(journal, Phase.rollback, StepName.migrate)
    back = [step for step in journal if step.phase is Phase.rollback]
    attempt = journal[-1].attempt if journal else 0
    last = [step for step in journal if step.attempt == attempt and step.phase is Phase.deploy]
    failed = next((step for step in last if step.state in (StepState.failed, StepState.cancelled)), None)
    if back:
        return _back(failed or _first_failure(journal), back[-1].release, migrated=migrated, undone=undone)
    if failed is not None:
        course = Course.roll_back if failed.name in _SWITCH else Course.conclude
        return Resumption(course, failed.release, _cause(failed), failed.error, migrated)
    if any(step.name is StepName.migrate and step.state in _UNFINISHED for step in last):
        return Resumption(Course.conclude, "", Cause.migration_interrupted, INTERRUPTED_MIGRATION)
    whole = [s for s in last if s.name in _SWITCH or (s.name is StepName.migrate and migrated)]
    if whole:
        return Resumption(Course.go_on, whole[-1].release, migrated=migrated)
    return Resumption(Course.start_over, migrated=migrated)


def _back(failed: Journaled | None, release: str, *, migrated: bool, undone: bool) -> Resumption:
    if failed is None:
        error = "cannot tell why the way back had begun: its worker died in the middle"
        return Resumption(Course.roll_back, release, Cause.interrupted, error, migrated, undone)
    return Resumption(Course.roll_back, failed.release, _cause(failed), failed.error, migrated, undone)


def _first_failure(journal: Sequence[Journaled]) -> Journaled | None:
    bad = (StepState.failed, StepState.cancelled)
    return next((step for step in journal if step.phase is Phase.deploy and step.state in bad), None)


def _last_success(journal: Sequence[Journaled], phase: Phase, name: StepName) -> bool:
    found = [step for step in journal if step.phase is phase and step.name is name]
    return any(step.state is StepState.success for step in found)


def _cause(step: Journaled) -> Cause:
    if step.state is StepState.cancelled:
        return Cause.cancelled
    return CAUSE_OF_STEP.get(step.name, Cause.interrupted)
