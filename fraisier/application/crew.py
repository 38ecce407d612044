"""The hosts of one deployment, each with a stage of its own: what is done on several of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from fraisier.application.control import Control, Reason, Stopped
from fraisier.application.journal import Journal, explain
from fraisier.application.perform import Perform
from fraisier.application.release_marker import Marker, read_marker, running_release
from fraisier.application.stage import Scene, Stage
from fraisier.domain.errors import (
    Cause,
    FraisierError,
    HostUnreachable,
    StepFailed,
    StoreUnavailable,
    TokenOutdated,
)
from fraisier.domain.plan import Phase, Step, StepName
from fraisier.domain.release import release_number
from fraisier.domain.rollout import HostState, Standing

_FOR_ALL = (TokenOutdated, StoreUnavailable)  # end the whole deployment, here and now
_AWAY = frozenset({Cause.host, Cause.network})


class Lost(FraisierError):
    """A host that cannot be reached any more: no use to insist on it."""

    code = "unreachable"


class Member:
    """One host: its stage, and where it stands."""

    def __init__(
        self, stage: Stage, standing: Standing, more: Mapping[type, Callable[[Any, Scene], None]]
    ) -> None:
        """`more` performs the acts that need more than a stage."""
        self.stage = stage
        self.perform = Perform(stage, more)
        self.standing = standing
        self.is_ours = False  # whether its token was raised to ours
        self.is_switched = False  # whether its switch to the new release was begun

    @property
    def name(self) -> str:
        """As the configuration has it."""
        return self.standing.host

    def stands(self, state: HostState, **changes: Any) -> None:
        """From now on."""
        self.standing = replace(self.standing, state=state, **changes)

    def is_reachable(self) -> bool:
        """Whether the host answers."""
        try:
            self.stage.host.kind(self.stage.layout.app_path)
        except (StepFailed, OSError):
            return False
        return True

    def goes_down(self) -> bool:
        """Whether the machine is shutting down, or gone."""
        try:
            return bool(self.stage.host.is_going_down())
        except (StepFailed, OSError):
            return True

    def see_what_runs(self) -> None:
        """It waits for its turn in this deployment; what it runs now is what it goes back to."""
        stage = self.stage
        running = running_release(stage.host, stage.layout)
        marker = self.marker(running)
        stage.previous, commit = (running, marker.commit) if marker else ("", "")
        self.standing = Standing(
            host=self.name,
            state=HostState.waiting,
            release=running,
            commit=commit,
            previous=stage.previous,
            previous_commit=commit,
            deployment=stage.deployment,
            unfinished=self.standing.unfinished,
        )

    def marker(self, release: str) -> Marker | None:
        """What a release was made from; None if it is not whole here."""
        return read_marker(self.stage.host, self.stage.layout, release)

    def highest_number(self) -> int:
        """Of the releases that are whole here, or run."""
        stage = self.stage
        running = running_release(stage.host, stage.layout)
        names = stage.host.list(stage.layout.releases)
        return max((release_number(n) for n in names if n == running or self.marker(n)), default=0)


class Crew:
    """Members in the order of the configuration; `at_once` hosts are talked to at the same time."""

    def __init__(
        self, members: Sequence[Member], journal: Journal, control: Control, *, at_once: int
    ) -> None:
        self._members = {member.name: member for member in members}
        self._journal = journal
        self._control = control
        self._at_once = at_once

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    def named(self, names: Iterable[str]) -> list[Member]:
        """The members with these names."""
        return [self._members[name] for name in names]

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Where everybody stands."""
        return tuple(member.standing for member in self)

    def each(
        self, members: Sequence[Member], act: Callable[[Member], None], *, back: bool = False
    ) -> dict[str, StepFailed]:
        """Let `act` be done for each member, at the same time; returns what failed, by the host's name.

        All have ended when this returns, or raises. On the way `back`, or where it comes too late, a
        cancel disturbs nobody.

        Raises:
            TokenOutdated, StoreUnavailable: one of them, for everybody.
            Stopped: the deployment was told to stop.
        """
        failures: dict[str, StepFailed] = {}
        for member, failure in self._together(members, act):
            if isinstance(failure, Stopped):
                continue  # the control says why, below
            if isinstance(failure, Exception):
                failures[member.name] = self._of(member, explain(failure))
        (self._control.check_halt if back else self._control.check)()
        return failures

    def _together(
        self, members: Sequence[Member], act: Callable[[Member], None]
    ) -> list[tuple[Member, BaseException | None]]:
        if not members:
            return []
        with ThreadPoolExecutor(min(len(members), self._at_once), "host") as pool:
            futures = [pool.submit(self._alone, act, member) for member in members]
            wait(futures)
        ended = [future.exception() for future in futures]
        fatal = [error for error in ended if error is not None and not isinstance(error, Exception)]
        for error in (*fatal, *(each for each in ended if isinstance(each, _FOR_ALL))):
            raise error
        return list(zip(members, ended, strict=True))

    def _alone(self, act: Callable[[Member], None], member: Member) -> None:
        try:
            act(member)
        except _FOR_ALL:
            self._control.lose()  # nobody else touches anything either
            raise

    def _of(self, member: Member, failure: StepFailed) -> StepFailed:
        """The failure, told of its host. A machine that goes down is to blame itself."""
        cause = failure.cause
        if not cause.is_retried and cause is not Cause.cancelled and member.goes_down():
            cause = Cause.host
        kind = HostUnreachable if isinstance(failure, HostUnreachable) else StepFailed
        return kind(cause, f"{member.name}: {failure.message}", failure.hint)

    # ------------------------------------------------------------------------------------------ steps
    def adopt(self, member: Member) -> None:
        """Take the host over, if that has not been done: its older commands end before anything else."""
        if not member.is_ours:
            member.perform.adopt()
            member.is_ours = True

    def run(self, member: Member, step: Step, *, too_late: bool = False) -> None:
        """Perform one step on one host, journaled. On the way back, or `too_late`, no cancel disturbs it."""
        control, back = self._control, step.phase is Phase.rollback
        (control.check_halt if back or too_late else control.check)()
        member.is_switched |= step.name is StepName.activate and not back
        stop = control.halt if back or too_late else control.stop
        release = member.stage.candidate.name
        with self._journal.step(step, release, stop, host=member.name) as scene:
            if step.name is not StepName.preflight:
                self.adopt(member)
            for act in step.acts:
                member.perform(act, scene)
            member.is_ours = True

    def run_all(self, member: Member, steps: Sequence[Step]) -> None:
        """The same, one step after the other."""
        for step in steps:
            self.run(member, step)

    def run_or_lose(self, member: Member, step: Step) -> None:
        """`run`, where a host that is away is not to be waited for.

        Raises:
            Lost: it cannot be reached.
        """
        try:
            self.run(member, step)
        except (Stopped, *_FOR_ALL):
            raise
        except Exception as failure:
            if self._control.reason not in (Reason.shutdown, Reason.lost) and is_away(
                member, explain(failure)
            ):
                raise Lost(explain(failure).message) from failure
            raise


def is_away(member: Member, failure: StepFailed) -> bool:
    """Whether a failure is that of a host that cannot be reached."""
    is_away = failure.cause in _AWAY and not member.is_reachable()
    return is_away or isinstance(failure, HostUnreachable)
