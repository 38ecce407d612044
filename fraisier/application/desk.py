"""One run, as whoever performs it sees it: the `Desk` of the ports."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from fraisier.application.heard import run_heard
from fraisier.application.ports import Ground, Host, Job, RunClaim, Said
from fraisier.application.release_marker import Marker
from fraisier.application.step_output import StepOutput
from fraisier.domain import job as jobs
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.job import JobKind
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret


class RunDesk:
    """Fills `Desk`. `peak_memory` is what the hungriest of its commands took, in bytes; None: nobody told."""

    def __init__(
        self,
        host: Host,
        ground: Ground,
        environment: Environment,
        claim: RunClaim,
        *,
        listening: Job,
        output: StepOutput,
        release: Marker | None,
    ) -> None:
        self.host = host
        self.environment = environment
        self.job: jobs.Job = environment.jobs[claim.job]
        self.claim = claim
        self.peak_memory: int | None = None
        self._ground = ground
        self._listening = replace(listening, used=self._note_memory)
        self._output = output
        self._release = release

    @property
    def folder(self) -> str:
        """The folder of the release, itself and not `current`: a deployment may come meanwhile. What
        Fraisier performs by itself has the app_path where there is none.

        Raises:
            StepFailed: preflight, where nothing was deployed.
        """
        if self._release is None and self.job.kind is not JobKind.command:
            return self.environment.app_path  # a backup may do without releases
        if self._release is None:
            key = self.environment.key
            message = f"cannot run {self.job.name!r} of {key}: no release is there"
            raise StepFailed(
                Cause.preflight, message, f"Deploy it: fraisier deploy {key.fraise} {key.environment}"
            )
        return Layout(self.environment.app_path).release(self._release.release)

    def say(self, text: str) -> None:
        """A line of the run's output; redacted."""
        self._output.line(text)

    def run(self, command: Command, *, shown: bool = True) -> Said:
        """Run a long command; what it prints is part of the run's output only if it is `shown`.

        Raises:
            StepFailed, TokenOutdated: as `Host.run`.
        """
        return run_heard(self.host, self._ground, self._filled(command), self._listening, shown=shown)

    def follow(self, command: Command) -> int:
        """Run a long command whose output is the run's, and returns its exit code.

        Raises:
            StepFailed, TokenOutdated: as `Host.run`.
        """
        return self.host.run(self._ground, self._filled(command), self._listening)

    def wait(self, seconds: float) -> None:
        """Let some time pass.

        Raises:
            StepFailed: cancelled, when the run is to stop.
        """
        if self._listening.stop.wait(seconds):
            raise StepFailed(Cause.cancelled, "cannot wait any longer: the run was told to stop")

    @property
    def is_let_go(self) -> bool:
        """Whether its worker ends, or has lost it: what goes on without a worker had better do so."""
        return self._ground.halt.is_set()

    def guard(self) -> AbstractContextManager[None]:
        """The right to change something on the host, for short acts."""
        return self.host.guard(self._ground)

    def _filled(self, command: Command) -> Command:
        environment = self.environment
        return replace(
            command,
            cwd=command.cwd or "/",  # not everybody has a home
            user=command.user or environment.user,
            env={**environment.env, **self._told(), **command.env},
            env_file=command.env_file or environment.env_file,
            timeout=self.job.timeout if command.timeout is None else command.timeout,
        )

    def _told(self) -> Mapping[str, str | Secret]:
        """What every command of a run is told. Parameters stay data: they are in no shell line."""
        claim, release = self.claim, self._release
        return {
            "FRAISIER_COMMIT": release.commit if release else "",
            "FRAISIER_REF": release.ref if release else "",
            "FRAISIER_RELEASE": release.release if release else "",
            "FRAISIER_RUN": claim.id,
            "FRAISIER_JOB": claim.job,
            "FRAISIER_ATTEMPT": str(claim.attempt),
            **jobs.variables(claim.parameters),
        }

    def _note_memory(self, size: int) -> None:
        self.peak_memory = max(size, self.peak_memory or 0)
