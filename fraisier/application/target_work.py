"""Where a target works by itself, within one step: the `Workplace` of the ports."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from fraisier.application.heard import run_heard
from fraisier.application.ports import Host, Job, Said
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.release import Layout

if TYPE_CHECKING:
    from fraisier.application.stage import Stage


class Bench:
    """Fills `Workplace`, for one step of one stage."""

    def __init__(self, stage: Stage, job: Job) -> None:
        self._ground = stage.ground
        self._job = job
        self.host: Host = stage.host
        self.environment: Environment = stage.environment
        self.layout: Layout = stage.layout
        self.commit: str = stage.candidate.commit
        self.ref: str = stage.candidate.ref

    def say(self, text: str) -> None:
        """A line of the step's output."""
        self._job.output(text.encode() + b"\n")

    def wait(self, seconds: float) -> None:
        """Let some time pass.

        Raises:
            StepFailed: cancelled, when the step is to stop.
        """
        if self._job.stop.wait(seconds):
            raise StepFailed(Cause.cancelled, "cannot wait any longer: the step was told to stop")

    def guard(self) -> AbstractContextManager[None]:
        """The right to change something on the host, for short acts."""
        return self.host.guard(self._ground)

    def run(self, command: Command, *, shown: bool = True) -> Said:
        """Run a long command and keep what it printed.

        Raises:
            StepFailed, TokenOutdated: as `Host.run`; host, if it printed more than can be kept.
        """
        return run_heard(self.host, self._ground, command, self._job, shown=shown)
