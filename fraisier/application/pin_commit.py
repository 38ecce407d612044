"""Fetches what a deployment asks for, pins its commit for good, and says whether it is deployed at all."""

from __future__ import annotations

from fraisier.application.ports import Claim, Fetched, Store
from fraisier.application.stage import Scene
from fraisier.application.tools import Tools
from fraisier.domain.acts import Fetch
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Environment, OnForcePush
from fraisier.domain.lineage import Lineage, Refusal, judge, watches_paths
from fraisier.domain.plan import Step


class PinCommit:
    """The fetch of one attempt, and the judgement of what it found."""

    def __init__(self, tools: Tools, store: Store, claim: Claim, environment: Environment) -> None:
        self._repository = tools.repository
        self._store = store
        self._claim = claim
        self._environment = environment

    def __call__(self, step: Step, scene: Scene) -> Fetched:
        """Fetch the commit, and pin it.

        Raises:
            StepFailed: it cannot be fetched.
        """
        deployment = self._claim.deployment
        for act in step.acts:
            if isinstance(act, Fetch):
                scene.output.line(f"$ {act.describe()}")
        ref, commit = deployment.ref, deployment.commit
        fetched = self._repository.fetch(self._environment.source, ref=ref, commit=commit, job=scene.job)
        # A tip that is another commit's was not decided on: its own push, or a sweep, asks for it.
        decided = fetched.tip if fetched.tip == fetched.commit else ""
        self._store.pin(self._claim, commit=fetched.commit, seen_tip=decided)
        scene.output.line(f"pinned {fetched.commit}")
        return fetched

    def refusal(self, fetched: Fetched) -> Refusal | None:
        """Why the commit is not deployed after all; None: it is."""
        deployment = self._claim.deployment
        if deployment.force:
            return None
        if fetched.commit in self._claim.quarantined:
            return _quarantined(self._environment, fetched.commit)
        return judge(self._environment, deployment.trigger, self._lineage(fetched.commit, fetched.tip))

    def _lineage(self, commit: str, tip: str) -> Lineage:
        repository, source = self._repository, self._environment.source
        current = self._claim.current_commit
        if not current or commit == current:
            return Lineage(commit=commit, tip=tip, current=current)
        watched = watches_paths(self._environment)
        refuses = self._environment.on_force_push is OnForcePush.refuse
        # Each question is a process: only those are asked that `judge` looks at.
        return Lineage(
            commit=commit,
            tip=tip,
            current=current,
            is_ancestor_of_current=commit != tip and repository.is_ancestor(source, commit, current),
            is_descendant_of_current=refuses and repository.is_ancestor(source, current, commit),
            changed=repository.changed_paths(source, current, commit) if watched else None,
        )


def _quarantined(environment: Environment, commit: str) -> Refusal:
    message = f"cannot deploy {commit[:12]}: it failed in this environment before and is quarantined"
    hint = f"If the cause is gone: fraisier deploy {environment.fraise} {environment.name} --force"
    return Refusal(Status.failed, Cause.quarantined, message, hint)


class Refused(Exception):
    """The fetched commit is not deployed after all."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
