"""Deployments and runs: what is under way at the switch, which releases are in use, what runs after it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from fraisier.application.ports import Claim, Row, Store
from fraisier.application.stage import Scene
from fraisier.domain.deployment import Trigger
from fraisier.domain.errors import Cause, Conflict, NotFound, StepFailed
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import JobKind, OnRunning
from fraisier.domain.job_acts import HoldRuns
from fraisier.domain.run import RunTrigger, RunWish

LOOK = 0.5  # seconds between two looks; runs end in other processes, too
_SHORT = 8  # digits of an id that a person types


class HoldBack:
    """Performs `HoldRuns` for one deployment."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store = store
        self._claim = claim

    def __call__(self, act: HoldRuns, scene: Scene) -> None:
        """Let no run begin until the deployment has ended; return when none is under way.

        Raises:
            StepFailed: cancelled, when the step is to stop.
        """
        self._store.hold_runs(self._claim)
        told: set[str] = set()
        while active := self._active():
            for row in active:
                if row["id"] not in told:
                    told.add(row["id"])
                    scene.output.line(self._deal_with(row, act.on_running))
            if scene.job.stop.wait(LOOK):
                raise StepFailed(Cause.cancelled, "cannot wait for the run any longer: told to stop")

    def _active(self) -> list[Row]:
        """Those that workers perform; what systemd runs by itself is for who installs its units to mind."""
        rows = self._store.active_runs(self._claim.environment)
        return [row for row in rows if not row["invocation"]]

    def _deal_with(self, row: Row, how: OnRunning) -> str:
        what = f"run {row['id'][:_SHORT]} of {row['job']}"
        if how is OnRunning.cancel:
            with suppress(NotFound, Conflict):  # it has just ended
                self._store.cancel_run(row["id"], by=f"deployment {self._claim.deployment.id[:_SHORT]}")
                return f"{what} is cancelled"
        return f"waiting for the end of {what}"


def releases_in_use(store: Store, environment: EnvironmentKey) -> Collection[str]:
    """Releases that runs under way work in: they must not be removed."""
    return {row["release"] for row in store.active_runs(environment)}


def runs_after(environment: Environment, claim: Claim) -> tuple[RunWish, ...]:
    """What `run_on_deploy` asks for; stored with the end of the deployment. Nothing follows a way back."""
    if not environment.run_on_deploy or claim.deployment.trigger is Trigger.rollback:
        return ()
    return tuple(
        RunWish(
            environment=environment.key,
            job=job.name,
            kind=job.kind,
            trigger=RunTrigger.deploy,
            concurrency=job.concurrency,
            parameters={name: value or "" for name, value in job.parameters.items()},
            requested_by=claim.deployment.requested_by,
        )
        for job in environment.jobs.values()
        if job.kind is JobKind.command and not job.depends_on
    )
