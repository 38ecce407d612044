"""Where a target works by itself, within one step: the `Workplace` of the ports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from fraisier.application.ports import Host, Job, Said
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.release import Layout

if TYPE_CHECKING:
    from fraisier.application.stage import Stage

LONGEST = 16 << 20  # bytes of a command's output that are handed to the target


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
        heard = bytearray()
        listening = replace(self._job, output=self._both(heard) if shown else _all(heard))
        code = self.host.run(self._ground, command, listening)
        if len(heard) > LONGEST and not shown:
            message = f"cannot read what `{command.describe()}` printed: it is over {LONGEST >> 20} MiB"
            raise StepFailed(Cause.host, message)
        return Said(code, bytes(heard))

    def _both(self, heard: bytearray) -> Callable[[bytes], None]:
        """Only the end is kept of what is shown: there the tools say what went wrong."""

        def hear(chunk: bytes) -> None:
            self._job.output(chunk)
            heard.extend(chunk)
            del heard[: -(1 << 16)]

        return hear


def _all(heard: bytearray) -> Callable[[bytes], None]:
    """Everything, up to what shows that it was too much."""

    def hear(chunk: bytes) -> None:
        if len(heard) <= LONGEST:
            heard.extend(chunk)

    return hear
