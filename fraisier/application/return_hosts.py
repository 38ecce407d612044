"""The way back of single hosts: each to the release that it ran before, whatever the others do."""

from __future__ import annotations

from collections.abc import Callable

from fraisier.application.control import Control, Stopped
from fraisier.application.crew import Crew, Lost, Member, is_away
from fraisier.application.journal import explain
from fraisier.application.patience import Patience
from fraisier.application.release_marker import read_marker
from fraisier.application.way_back import way_back
from fraisier.deployers.common import Candidate, candidate
from fraisier.domain.errors import Cause, StepFailed, StoreUnavailable, TokenOutdated
from fraisier.domain.plan import Step
from fraisier.domain.rollout import HostState

_NOT_OURS_TO_TELL = (Stopped, TokenOutdated, StoreUnavailable)


class ReturnHosts:
    """Takes hosts back; afterwards each is `behind`, `broken` or `unreachable`."""

    def __init__(self, crew: Crew, patience: Patience, control: Control) -> None:
        self._crew = crew
        self._patience = patience
        self._control = control

    def __call__(self, members: list[Member]) -> list[StepFailed]:
        """All of them at once, also where the deployment was cancelled; returns what did not work.

        Who cannot be reached is no failure of the way back: a worker brings it back later.
        """
        return [*self._crew.each(members, self._return, back=True).values()]

    def _return(self, member: Member) -> None:
        try:
            old, troubles = self._go(member)
        except _NOT_OURS_TO_TELL:
            raise
        except Exception as failure:
            self._control.check_halt()
            explained = explain(failure)
            standing = member.standing
            if isinstance(failure, Lost) or is_away(member, explained):
                cause, detail = standing.cause or Cause.host, standing.detail or explained.message
                member.stands(HostState.unreachable, cause=cause, detail=detail)
                return
            member.stands(HostState.broken, detail=explained.message)
            raise
        if troubles:
            member.stands(HostState.broken, detail=troubles[0].message)
            raise troubles[0]
        member.stands(HostState.behind, release=old.name, commit=old.commit, unfinished=False)

    def _go(self, member: Member) -> tuple[Candidate, list[StepFailed]]:
        """What fails on the way is told, and the rest done all the same."""
        stage, new, previous = member.stage, member.stage.candidate, member.standing.previous
        marker = read_marker(stage.host, stage.layout, previous)
        old = candidate(stage.environment, previous if marker else "", marker.commit if marker else "")
        plan = way_back(stage, old if marker else None, ())
        troubles: list[StepFailed] = []
        stage.candidate = old
        try:
            for step in plan.steps:
                try:
                    self._patience.insist(self._doing(member, step))
                except (*_NOT_OURS_TO_TELL, Lost):
                    raise
                except Exception as failure:  # noqa: BLE001 - whatever it is, the code has to come back
                    self._control.check_halt()
                    troubles.append(explain(failure))
        finally:
            stage.candidate = new
        return old, troubles

    def _doing(self, member: Member, step: Step) -> Callable[[], None]:
        return lambda: self._crew.run_or_lose(member, step)
