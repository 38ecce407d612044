"""Brings hosts along that could not be reached: a deployment of its own, about nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fraisier.application.crew import Crew
from fraisier.application.ports import Ending, Serving
from fraisier.application.roll_out import RollOut
from fraisier.deployers.common import candidate
from fraisier.domain.deployment import Deployment
from fraisier.domain.errors import StepFailed
from fraisier.domain.recovery import Resumption
from fraisier.domain.rollout import UNDER_WAY, HostState, Standing


class HealHosts(RollOut):
    """To what the environment runs now. Each host is its own affair: who fails goes back, the rest go on."""

    def _resume_at(self, _: Resumption) -> None:
        """What a dead worker has healed is looked at again; it is only ever concluded."""
        self._end_leftovers()

    def _from_the_start(self) -> None:
        claim = self._claim
        self._end_leftovers()
        ill = [member for member in self._everybody if self._is_ill(member.standing)]
        self._crew = Crew(ill, self._journal, self._control, at_once=self._tools.at_once)
        self._rollout = replace(self._rollout, canary=0, max_failures=len(ill), pause=0.0)
        if not ill:
            return
        self._begin(ill)
        self._only_away = frozenset(
            member.name
            for member in self._able()
            if member.standing.release == claim.current_release and not member.standing.unfinished
        )
        if not claim.current_release:
            self._remove_all()
            return
        self._store.pin(claim, commit=claim.current_commit)
        self._stage.candidate = candidate(self._environment, claim.current_release, claim.current_commit)
        self._remember_previous()
        self._build_where_missing(self._where_it_is_whole(claim.current_release))
        self._bring_in()

    def _is_ill(self, standing: Standing) -> bool:
        """Also who was being healed by a worker that died."""
        is_ours = standing.deployment == self._claim.deployment.id and standing.state in UNDER_WAY
        return is_ours or standing.is_healed_by_itself

    def _remove_all(self) -> None:
        """The first deployment ever has failed: nothing is to run."""
        members = self._able()
        for member in members:
            member.stands(HostState.failed, touched=True, previous="", previous_commit="", unfinished=True)
        self._note(members)
        self._take_back(members)

    def _blames_the_commit(self, _: StepFailed) -> bool:
        return False

    def _retry(self, failure: StepFailed, _: Sequence[Standing] = ()) -> Deployment:
        return self._give_up(failure)  # a worker looks again by itself

    def _finish(self, ending: Ending) -> Deployment:
        """What the environment is said to run is what it was."""
        claim = self._claim
        serving = Serving(release=claim.current_release, commit=claim.current_commit, healthy=True)
        return super()._finish(replace(ending, serving=serving))
