"""A deployment as data: steps made of acts. Planned in `deployers/`, performed in `application/`.

An act says what is done and can describe itself as the shell command a person would type, so that
`fraisier plan` shows exactly what a deployment performs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from fraisier.domain.acts import (
    CheckHealth,
    Command,
    Fetch,
    InstallFile,
    LinkShared,
    Preflight,
    Prove,
    Prune,
    RemoveFile,
    Seal,
    Send,
    Switch,
    TargetWork,
    UnitCommand,
    Unpack,
    WriteFile,
)
from fraisier.domain.cutover_acts import Allot, Bake, Retire, Route
from fraisier.domain.database_acts import AskDatabase, BackUp, LockDatabase, NoteRevision, TakeDatabaseBack
from fraisier.domain.fraise import Cutover
from fraisier.domain.job_acts import HoldRuns
from fraisier.domain.timer_acts import InstallUnits, QuietUnits, RemoveUnits, WriteUnits


class StepName(StrEnum):
    """The steps of a deployment, in the order in which they are performed (see `BRING_IN` for the end)."""

    preflight = "preflight"
    fetch = "fetch"
    prepare = "prepare"
    link_shared = "link_shared"
    build = "build"
    backup = "backup"
    migrate = "migrate"
    activate = "activate"
    restart = "restart"
    check_health = "check_health"
    finish = "finish"


# How a release that is whole is brought in, and from which step on it serves.
BRING_IN = {
    Cutover.restart: (StepName.activate, StepName.restart, StepName.check_health, StepName.finish),
    Cutover.socket: (StepName.activate, StepName.restart, StepName.check_health, StepName.finish),
    Cutover.blue_green: (StepName.restart, StepName.check_health, StepName.activate, StepName.finish),
    Cutover.trial: (StepName.check_health, StepName.activate, StepName.restart, StepName.finish),
}
SWITCHED = {how: steps[steps.index(StepName.activate) :] for how, steps in BRING_IN.items()}


class Phase(StrEnum):
    """Whether a step brings the new release in, or the old one back."""

    deploy = "deploy"
    rollback = "rollback"


class StepState(StrEnum):
    """What became of a step of one attempt. `interrupted`: its worker died, or lost the environment."""

    running = "running"
    success = "success"
    failed = "failed"
    cancelled = "cancelled"
    interrupted = "interrupted"


# A timeout in these steps quarantines the commit, as their other failures do by their causes: it will not be
# deployed again by itself.
QUARANTINING = frozenset({StepName.build, StepName.migrate, StepName.restart, StepName.check_health})


Act: TypeAlias = (
    Preflight
    | Fetch
    | Unpack
    | Send
    | LinkShared
    | Command
    | Seal
    | Switch
    | InstallFile
    | WriteFile
    | RemoveFile
    | UnitCommand
    | Allot
    | TargetWork
    | CheckHealth
    | Route
    | Bake
    | Retire
    | Prove
    | Prune
    | LockDatabase
    | AskDatabase
    | BackUp
    | NoteRevision
    | TakeDatabaseBack
    | HoldRuns
    | WriteUnits
    | InstallUnits
    | QuietUnits
    | RemoveUnits
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step and the acts that it consists of."""

    name: StepName
    acts: tuple[Act, ...]
    phase: Phase = Phase.deploy


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a deployment, or a way back, performs."""

    release: str
    steps: tuple[Step, ...]

    def after(self, *names: StepName) -> tuple[Step, ...]:
        """The steps from the first one on that has one of these names."""
        first = next((i for i, step in enumerate(self.steps) if step.name in names), len(self.steps))
        return self.steps[first:]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetActs:
    """What a target brand does for one environment, as data.

    `build` ends a release's build, before it is sealed. `install` comes before `restart` when a unit file is
    configured. `release_failure` clears what a crash left behind (systemd: reset-failed) and comes before
    each restart. `start` does nothing to what runs. `keep` has it started at boot, and `forget` undoes `keep`
    and `install`. `retire` asks it to stop without waiting for that. `explain` shows why a release is not
    healthy, before the way back removes what could tell. `discard` removes what `build` made outside of the
    release's folder, before that goes. `listen` is where it may listen (see `Environment.listen`).
    """

    build: tuple[Act, ...] = ()
    install: tuple[Act, ...] = ()
    release_failure: tuple[Act, ...] = ()
    restart: tuple[Act, ...] = ()
    stop: tuple[Act, ...] = ()
    start: tuple[Act, ...] = ()
    keep: tuple[Act, ...] = ()
    forget: tuple[Act, ...] = ()
    retire: tuple[Act, ...] = ()
    explain: tuple[Act, ...] = ()
    discard: tuple[Act, ...] = ()
    listen: tuple[str, ...] = ()
