"""What a deployment over several hosts is resumed with: a rule over its journal and where its hosts stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Cutover
from fraisier.domain.migration import Story
from fraisier.domain.plan import SWITCHED, Phase, StepName, StepState
from fraisier.domain.recovery import (
    INTERRUPTED_TOO_OFTEN,
    MOST_INTERRUPTIONS,
    Course,
    Journaled,
    Resumption,
    cause_of,
    resume,
)
from fraisier.domain.rollout import LOST, HostState, Standing


def resume_rollout(
    journal: Sequence[Journaled],
    standings: Sequence[Standing],
    cutover: Cutover = Cutover.restart,
    database: Story | None = None,
    *,
    interruptions: int = 0,
    most: int = MOST_INTERRUPTIONS,
) -> Resumption:
    """How a deployment goes on whose hosts stand so; only those count that stand so in this deployment.

    Before the first host's turn the rule is the one for a single host, without what failed on hosts that the
    rollout had left out. From then on where the hosts stand says how to go on, and the journal only whether
    any of them was switched. The way back of one host is not the deployment's.
    """
    if not any(each.touched for each in standings):
        left_out = {each.host for each in standings if each.state in LOST}
        steps = [s for s in journal if s.name is StepName.migrate or s.host not in left_out]
        return resume(steps, cutover, database, interruptions=interruptions, most=most)
    shared = [step for step in journal if step.name is StepName.migrate or not step.host]
    known_of_it = resume(shared, cutover, database)
    known = Resumption(
        Course.go_on,
        migrated=known_of_it.migrated,
        undone=known_of_it.undone,
        torn=known_of_it.torn,
        switched=any(_switches(step, cutover) for step in journal),
    )
    if interruptions < most:
        return known
    course = Course.roll_back if known.switched else Course.conclude
    error = INTERRUPTED_TOO_OFTEN.format(most=most)
    return replace(known, course=course, cause=Cause.interrupted, error=error)


def _switches(step: Journaled, cutover: Cutover) -> bool:
    return step.name in SWITCHED[cutover] and step.phase is Phase.deploy and not step.retried


def as_journaled(standing: Standing, journal: Sequence[Journaled], new: Standing) -> Standing:
    """A host whose worker died in its turn, with what the journal adds: whether it had failed, what it runs.

    `new` is the same host with the release that it was to get.
    """
    if standing.state is not HostState.changing:
        return standing
    steps = [step for step in journal if step.host == standing.host]
    forward = [step for step in steps if step.phase is Phase.deploy]
    if any(step.name is StepName.activate and step.state is StepState.success for step in forward):
        standing = replace(standing, release=new.release, commit=new.commit)
    last = forward[-1] if forward else None
    if last is None or last.state is not StepState.failed:
        return standing
    cause = cause_of(last) or Cause.host
    return replace(standing, state=HostState.failed, cause=cause, detail=last.error)
