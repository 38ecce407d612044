"""A run: one time that a job was performed, or should have been, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fraisier.domain.errors import Cause, ForbiddenTransition
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.job import JobKind


class RunStatus(StrEnum):
    """The words of deployments, where they fit, and two for what never began."""

    pending = "pending"
    running = "running"
    success = "success"
    failed = "failed"
    cancelled = "cancelled"
    skipped = "skipped"  # another run was under way, or what it depends on was not well
    missed = "missed"  # nobody was there when it was due

    @property
    def is_final(self) -> bool:
        """Nothing follows."""
        return not RUN_MAY_FOLLOW[self]

    def check(self, following: RunStatus) -> RunStatus:
        """`following`, if it may follow this status.

        Raises:
            ForbiddenTransition: it may not.
        """
        if following not in RUN_MAY_FOLLOW[self]:
            message = f"cannot change a run from {self} to {following}"
            raise ForbiddenTransition(message, "A run that ended stays as it is; start a new one")
        return following


RUN_MAY_FOLLOW: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.pending: frozenset({RunStatus.running, RunStatus.cancelled, RunStatus.skipped}),
    RunStatus.running: frozenset({RunStatus.success, RunStatus.failed, RunStatus.cancelled}),
    RunStatus.success: frozenset(),
    RunStatus.failed: frozenset(),
    RunStatus.cancelled: frozenset(),
    RunStatus.skipped: frozenset(),
    RunStatus.missed: frozenset(),
}


class RunTrigger(StrEnum):
    """Who, or what, asked for a run."""

    manual = "manual"
    api = "api"
    scheduled = "scheduled"
    deploy = "deploy"  # `run_on_deploy`
    dependency = "dependency"  # the job that it depends on was a success
    retry = "retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWish:
    """A request for a run.

    `due` is when the schedule wanted it, in Unix seconds: a time is used once per job. `concurrency` is the
    job's. `not_before` (Unix seconds; 0: now) is when it may begin. `attempt` counts the tries from 1;
    `retry_of` is the id of the first of them.
    """

    environment: EnvironmentKey
    job: str
    kind: JobKind = JobKind.command
    trigger: RunTrigger = RunTrigger.manual
    concurrency: int = 1
    parameters: Mapping[str, str] = field(default_factory=dict)
    requested_by: str = ""
    due: float | None = None
    not_before: float = 0.0
    attempt: int = 1
    retry_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnding:
    """How a run ended. `exit_code` None: no process ended by itself. `peak_memory` is in bytes, None where
    the system does not tell. `artefacts` are absolute paths on its host. `again` is the wish for the next
    try, `then` are those for what depends on it: they are stored with the ending. `detail` has what else a
    kind of job tells, e.g. a backup's size.
    """

    status: RunStatus
    cause: Cause | None = None
    error: str = ""
    hint: str = ""
    exit_code: int | None = None
    peak_memory: int | None = None
    artefacts: tuple[str, ...] = ()
    detail: Mapping[str, object] = field(default_factory=dict)
    again: RunWish | None = None
    then: tuple[RunWish, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A run that a host performed by itself (a systemd timer's), as it reports in. Times are Unix seconds.

    `invocation` is systemd's name of it, which no two have; `first` is that of the first try, where this is a
    further one. `ending` None: it is under way; or it was cut off (`left`), and a worker has to end it, and
    to run the hooks that its host did not come to.
    """

    environment: EnvironmentKey
    host: str
    job: str
    invocation: str
    started_at: float
    trigger: RunTrigger = RunTrigger.scheduled
    due: float | None = None
    attempt: int = 1
    first: str = ""
    release: str = ""
    ended_at: float | None = None
    ending: RunEnding | None = None
    left: bool = False
    output: str = ""


class AlertKind(StrEnum):
    """What an alert is about."""

    missed = "missed"  # a run that was due has not begun
    late = "late"  # it begun after its grace
    failed = "failed"  # a run failed, after its last try
    backup = "backup"  # a backup is damaged, or is not there
    unverified = "unverified"  # no backup was verified within its period


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that a person should look at, until it is cleared: one per environment, job and kind.

    It is a row, a log line, a metric, and an unhealthy status.
    """

    environment: EnvironmentKey
    job: str
    kind: AlertKind
    message: str
    hint: str = ""
    run: str = ""
