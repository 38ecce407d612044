"""Which part of a plan is done when, if there are several hosts; each part keeps the plan's own order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fraisier.domain.acts import Command, Prove, Prune, Unpack
from fraisier.domain.cutover_acts import Retire
from fraisier.domain.plan import Act, Plan, Step, StepName
from fraisier.domain.timer_acts import QuietUnits

_FOR_ALL = (StepName.prepare, StepName.link_shared, StepName.build)
_ONCE = (StepName.backup, StepName.migrate)
_BEFORE_ITS_TURN = (StepName.preflight, StepName.fetch, *_FOR_ALL, *_ONCE)
_AT_THE_END = (Prove, Retire, Prune)


def for_all(plan: Plan) -> tuple[Step, ...]:
    """What makes a release whole on a host, besides the one that serves there."""
    return _acts(plan, lambda act: not _is_here(act))


def built_here(plan: Plan) -> tuple[Step, ...]:
    """What is done on Fraisier's own machine, once for all hosts."""
    return _acts(plan, _is_here)


def _is_here(act: Act) -> bool:
    return isinstance(act, Command | Unpack) and act.here


def _acts(plan: Plan, which: Callable[[Act], bool]) -> tuple[Step, ...]:
    steps = (step for step in plan.steps if step.name in _FOR_ALL)
    parts = (replace(step, acts=tuple(filter(which, step.acts))) for step in steps)
    return tuple(part for part in parts if part.acts)


def of_once(plan: Plan) -> tuple[Step, ...]:
    """What is done on one host for all of them, between building and the first host's turn.

    Runs of several hosts are begun by workers, which know whether they are held back; timers that systemd may
    have kept before are paused on their own host, in its turn.
    """
    steps = (step for step in plan.steps if step.name in _ONCE)
    parts = (replace(s, acts=tuple(a for a in s.acts if not isinstance(a, QuietUnits))) for s in steps)
    return tuple(part for part in parts if part.acts)


def in_turn(plan: Plan, *, looks_only: bool = False) -> tuple[Step, ...]:
    """What changes a host from the old release to the new one; or only the look at whether it serves well."""
    turn = [step for step in plan.steps if step.name not in _BEFORE_ITS_TURN]
    if looks_only:
        return tuple(step for step in turn if step.name is StepName.check_health)
    return _only(turn, at_the_end=False)


def when_all_have_it(plan: Plan) -> tuple[Step, ...]:
    """What says that a release is good, and tidies up: as long as others may fail nothing is thrown away.

    Nor are the old instances stopped: each host that has to go back needs its own, and the record of it.
    """
    return _only([step for step in plan.steps if step.name is StepName.finish], at_the_end=True)


def _only(steps: list[Step], *, at_the_end: bool) -> tuple[Step, ...]:
    parts = (
        replace(step, acts=tuple(act for act in step.acts if isinstance(act, _AT_THE_END) is at_the_end))
        for step in steps
    )
    return tuple(part for part in parts if part.acts)
