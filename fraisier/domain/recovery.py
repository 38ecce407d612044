"""What a deployment whose worker died is resumed with: a rule over its journal, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Cutover
from fraisier.domain.migration import Story
from fraisier.domain.plan import BRING_IN, SWITCHED, Phase, StepName, StepState


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
    def host(self) -> str:
        """Which of several it was about; '' = the only one, or the deployment as a whole."""
        ...

    @property
    def error(self) -> str: ...
    @property
    def cause(self) -> Cause | None:
        """Why it failed; None: nobody noted it."""
        ...

    @property
    def hint(self) -> str: ...
    @property
    def retried(self) -> bool:
        """Whether its attempt, or a later one, had ended to be tried again: then it tells no way on."""
        ...


class Course(StrEnum):
    """The ways to go on."""

    start_over = "start_over"  # nothing that counts was done: from the first step, in a new folder
    go_on = "go_on"  # the release is whole: switch to it (again), restart, check
    roll_back = "roll_back"  # the way back had begun, or the release had failed after the switch
    ask = "ask"  # a migration was interrupted whose framework tells how far it came
    retry = "retry"  # a step had failed that blames no commit: only the end of its attempt is missing
    conclude = "conclude"  # a step had failed, or somebody stopped it: only the ending is missing


@dataclass(frozen=True, slots=True)
class Resumption:
    """How to go on, with which release, and why the deployment is lost where it is.

    `migrated`: this deployment's migration has been done, so it must not be done again. `undone`: the way
    back had already taken the database back, or had begun to (`torn`), which is never repeated either.
    `switched`: the new release may serve, so that what fails from here on is rolled back. `hint` and
    `failed_at` are of the step that had failed.
    """

    course: Course
    release: str = ""
    cause: Cause | None = None
    error: str = ""
    hint: str = ""
    failed_at: StepName | None = None
    migrated: bool = False
    undone: bool = False
    torn: bool = False
    switched: bool = False


# Of a step of which nobody has noted why it failed.
_CAUSE_OF_STEP = {
    StepName.preflight: Cause.preflight,
    StepName.fetch: Cause.repository,
    StepName.build: Cause.build,
    StepName.migrate: Cause.migration,
    StepName.restart: Cause.restart,
    StepName.check_health: Cause.unhealthy,
    StepName.finish: Cause.unhealthy,  # it fails only where the release did not stand its bake
}
# What leaves nothing behind is done once more where no commit is to blame, or where nobody has noted why it
# failed: then it finds out by itself.
_REPEATABLE = (
    StepName.preflight,
    StepName.fetch,
    StepName.prepare,
    StepName.link_shared,
    StepName.build,
    StepName.backup,
)
_UNFINISHED = (StepState.running, StepState.interrupted)
_BAD = (StepState.failed, StepState.cancelled)
MOST_INTERRUPTIONS = 20  # of one deployment; upgrades and reboots in a row are far fewer

INTERRUPTED_MIGRATION = (
    "cannot tell whether the migration took place: its worker died in the middle. "
    "The database may be between two states; the old release keeps serving"
)
STOPPED_MIGRATION = (
    ". Its migration was stopped in the middle and is not repeated: the database may be between two states"
)
TORN = (
    ". The way down of its migration was interrupted and is not repeated: "
    "the database may be between two states"
)


def torn_between(before: str, now: str) -> str:
    """Why a deployment ends whose migration was interrupted and is neither done nor to be begun again."""
    return (
        "cannot go on with the migration: its worker died in the middle. The database was at revision"
        f" {before}, is at {now}, and may be between two states; the old release keeps serving"
    )


INTERRUPTED_TOO_OFTEN = (
    "cannot finish: {most} workers died, or lost the environment, while they performed this deployment"
)


def resume(
    journal: Sequence[Journaled],
    cutover: Cutover = Cutover.restart,
    database: Story | None = None,
    *,
    interruptions: int = 0,
    most: int = MOST_INTERRUPTIONS,
) -> Resumption:
    """How a deployment with this journal goes on. An empty journal starts from the first step.

    `cutover` is that of the environment which it began with: it says which steps are behind the switch.
    `database` is what was noted of its migration; None: notes were not kept.
    `interruptions` is how many of its attempts ended because their worker did: a deployment that ends
    its workers, or loses its folder, each time is tried `most` times.
    """
    migrated, undone, torn = _database(journal)
    found = _way_on(journal, cutover, database, migrated=migrated)
    found = replace(found, migrated=migrated, undone=undone, torn=torn)
    if interruptions < most or found.course not in (Course.start_over, Course.go_on, Course.ask):
        return found
    course = Course.roll_back if found.switched else Course.conclude
    error = INTERRUPTED_TOO_OFTEN.format(most=most)
    return replace(found, course=course, cause=Cause.interrupted, error=error)


def _way_on(
    journal: Sequence[Journaled], cutover: Cutover, database: Story | None, *, migrated: bool
) -> Resumption:
    steps = [step for step in journal if not step.retried]
    forward = [step for step in steps if step.phase is Phase.deploy]
    switched = any(step.name in SWITCHED[cutover] for step in forward)
    last = [step for step in forward if step.attempt == steps[-1].attempt]
    failed = next((step for step in last if step.state in _BAD), None)
    if any(step.phase is Phase.rollback for step in steps):
        return _back(failed, steps, forward, switched)
    if failed is not None and not _is_done_again(failed, database):
        found = _failed(failed, switched=switched, lost=failed.name is StepName.migrate)
        return replace(found, error=found.error + _torn_by(failed, database))
    cut = next((s for s in last if s.name is StepName.migrate and s.state in _UNFINISHED), None)
    if cut is not None:
        return _in_the_migration(cut, database)
    whole = [s for s in last if s.name in BRING_IN[cutover] or (s.name is StepName.migrate and migrated)]
    if whole:
        return Resumption(Course.go_on, whole[-1].release, switched=switched)
    return Resumption(Course.start_over)


def _in_the_migration(cut: Journaled, database: Story | None) -> Resumption:
    """Nothing is migrated before it was noted that it will be; what had begun is never repeated blindly."""
    if database is not None and not database.planned:
        return Resumption(Course.start_over)
    tells = database is not None and database.tells
    course = Course.ask if tells else Course.conclude
    release = cut.release if tells else ""
    return Resumption(course, release, Cause.migration_interrupted, INTERRUPTED_MIGRATION)


def _database(journal: Sequence[Journaled]) -> tuple[bool, bool, bool]:
    """`migrated`, `undone` and `torn` of a Resumption: what became of the database, in any attempt."""
    migrations = [step for step in journal if step.name is StepName.migrate]
    up = {step.state for step in migrations if step.phase is Phase.deploy}
    down = {step.state for step in migrations if step.phase is Phase.rollback}
    torn = StepState.success not in down and not down.isdisjoint(_UNFINISHED)
    return StepState.success in up, StepState.success in down or torn, torn


def _back(
    failed: Journaled | None,
    steps: Sequence[Journaled],
    forward: Sequence[Journaled],
    switched: bool,  # noqa: FBT001
) -> Resumption:
    """The way back had begun: all of it behind the switch, else only the database's."""
    course = Course.roll_back if switched else Course.conclude
    why = failed or next((step for step in forward if step.state in _BAD), None)
    if why is None:
        error = "cannot tell why the way back had begun: its worker died in the middle"
        return Resumption(course, steps[-1].release, Cause.interrupted, error, switched=switched)
    # The database is taken back only where there is no other try.
    is_final = any(step.name is StepName.migrate and step.phase is Phase.rollback for step in steps)
    return _failed(why, switched=switched, lost=is_final)


def _is_done_again(step: Journaled, database: Story | None) -> bool:
    """Whether a failed step left nothing behind, and blames nobody: then all is begun again."""
    if step.state is not StepState.failed:
        return False
    is_retried = step.cause is not None and step.cause.is_retried
    if step.name is StepName.migrate:
        return is_retried and database is not None and not database.is_open
    # That it failed on one host of several ends nothing.
    return step.name in _REPEATABLE and (is_retried or step.cause is None or bool(step.host))


def _failed(step: Journaled, *, switched: bool, lost: bool) -> Resumption:
    """As whoever performed it would have gone on. `lost`: whatever the cause is, it is not tried again."""
    cause = _cause(step)
    course = Course.retry if cause.is_retried and not lost else Course.conclude
    return Resumption(
        Course.roll_back if switched else course,
        step.release,
        cause,
        step.error,
        step.hint,
        step.name,
        switched=switched,
    )


def cause_of(step: Journaled) -> Cause | None:
    """Why a step has failed, or what usually is to blame for it; None: nobody knows."""
    return step.cause or _CAUSE_OF_STEP.get(step.name)


def _torn_by(step: Journaled, database: Story | None) -> str:
    """What has to be said of a step that somebody stopped."""
    stopped = step.name is StepName.migrate and step.state is StepState.cancelled
    is_torn = database is None or (database.is_open and not database.tells)
    return STOPPED_MIGRATION if stopped and is_torn else ""


def _cause(step: Journaled) -> Cause:
    if step.state is StepState.cancelled:
        return Cause.cancelled
    return cause_of(step) or Cause.interrupted
