"""A brand of process manager: what runs a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fraisier.application.ports.host import Host
from fraisier.domain.acts import UnitCommand
from fraisier.domain.fraise import Environment, TargetSpec
from fraisier.domain.plan import TargetActs


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """What a process manager says of a unit.

    `invocation` differs between any two starts; '' = not running. `settled` is False while it is starting or
    stopping. `restarts` counts restarts that the manager did by itself. `pid` is the main process; 0 = none,
    or several.
    """

    known: bool
    running: bool
    settled: bool = True
    invocation: str = ""
    restarts: int = 0
    detail: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and how to mend it (a command where possible)."""

    message: str
    hint: str = ""
    fatal: bool = True


class Target(Protocol):
    """One brand of process manager. Says what to do as data; looks, but never changes, by itself."""

    kind: str

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        """The commands for this environment's unit."""
        ...

    def state(self, spec: TargetSpec, host: Host) -> UnitState:
        """What the manager says now.

        Raises:
            StepFailed: host, when the manager does not answer.
        """
        ...

    def problems(self, environment: Environment, host: Host) -> Sequence[Problem]:
        """What would keep a deployment from working: no manager, an unknown unit, no permission."""
        ...

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        """The command that shows the unit's own log."""
        ...


@runtime_checkable
class OfGroup(Protocol):
    """A target whose manager is open to a group of the host's users, and needs no right of root."""

    def group(self, spec: TargetSpec) -> str:
        """The group that Fraisier's user on the host has to be in; '' where it need not."""
        ...


@runtime_checkable
class SideBySide(Protocol):
    """A target that can run two releases at a time: `acts` of a blue/green environment are an instance's."""

    def instance(self, spec: TargetSpec, release: str) -> TargetSpec:
        """The unit that runs `release` beside others."""
        ...
