"""Where a target works by itself: on what it finds on the host, under the deployment's rights."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from fraisier.application.ports.host import Host
from fraisier.domain.acts import Command, TargetWork
from fraisier.domain.fraise import Environment
from fraisier.domain.release import Layout


@dataclass(frozen=True, slots=True)
class Said:
    """How a long command ended and what it printed, which may hold secrets. `code` negative: a signal."""

    code: int
    output: bytes


class Workplace(Protocol):
    """One step of one deployment, as a target's work sees it.

    `commit` and `ref` are those of the release that the step is about; both '' where there is none.
    """

    host: Host
    environment: Environment
    layout: Layout

    @property
    def commit(self) -> str: ...
    @property
    def ref(self) -> str: ...
    def say(self, text: str) -> None:
        """A line of the step's output."""
        ...

    def run(self, command: Command, *, shown: bool = True) -> Said:
        """Run a long command; what it prints is part of the step's output only if it is `shown`.

        Raises:
            StepFailed, TokenOutdated: as `Host.run`.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Let some time pass.

        Raises:
            StepFailed: cancelled, when the step is to stop.
        """
        ...

    def guard(self) -> AbstractContextManager[None]:
        """The right to change something on the host, for short acts: `Host.guard`."""
        ...


class WorkingTarget(Protocol):
    """A target whose acts contain `TargetWork`."""

    def perform(self, work: TargetWork, place: Workplace) -> None:
        """Do it.

        Raises:
            StepFailed: it did not work.
            TokenOutdated: another worker has taken over.
        """
        ...
