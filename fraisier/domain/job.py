"""What an environment does again and again besides serving: pipelines, scheduled commands, backups.

`config/` reads them from `fraises.yaml`; an `etl` fraise has one job, a `scheduled` one as many as it names,
a `backup` one makes backups and tries them. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

MAIN = "main"  # the job of an environment that has but one, and gave it no name


class JobKind(StrEnum):
    """What a run of a job does."""

    command = "command"  # the user's shell line, in the folder of the release
    backup = "backup"  # make a backup, look at it, remove what is too old
    verify = "verify"  # look at all backups; bring the newest back in a place of its own, and ask it
    restore = "restore"  # bring a backup back, because a person asked for it
    prune = "prune"  # remove the backups that the rules do not keep


class OnRunning(StrEnum):
    """What a deployment does where a run is under way as it comes to its migration, else to the switch."""

    wait = "wait"  # until it has ended; none is begun meanwhile
    cancel = "cancel"  # end it, then go on
    new_release_next = "new_release_next"  # go on: it ends on the old release, the next has the new one


class Keeper(StrEnum):
    """Who starts the runs of a schedule."""

    worker = "worker"  # Fraisier's own
    systemd = "systemd"  # timers that Fraisier writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a job is due: a cron expression, or a calendar expression as systemd's OnCalendar has them.

    `timezone` '' = the machine's own. `jitter`: each run starts up to so many seconds later. `persistent`:
    one that was missed while nobody looked is caught up, once. `grace`: so long after it was due, a run that
    has not begun raises an alert.
    """

    expression: str
    timezone: str = ""
    jitter: float = 0.0
    persistent: bool = True
    grace: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something that is run again and again in one environment.

    `run` is a shell line, performed in the folder of the present release as the environment's user; '' for
    jobs that Fraisier performs by itself (`kind`). `depends_on` names a job of the same environment: this one
    is run after each success of that one. `retries` are further tries after a failure, the first
    `retry_delay` seconds later, each after twice the pause of the one before. `concurrency` is how many runs
    there may be at a time. `on_success` and `on_failure` are shell lines that follow the last try.
    `parameters` are those that a run may be given, with their defaults; None: it has to be given.
    `artefacts` are patterns of files, in the release or absolute, that are listed with a run.
    """

    name: str
    run: str = ""
    kind: JobKind = JobKind.command
    schedule: Schedule | None = None
    keeper: Keeper = Keeper.worker
    depends_on: str = ""
    timeout: float = 3600.0
    retries: int = 0
    retry_delay: float = 30.0
    concurrency: int = 1
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    artefacts: tuple[str, ...] = ()


def variables(parameters: Mapping[str, str | None]) -> dict[str, str]:
    """What commands of a run see of its parameters; one that nobody gave is no variable."""
    return {
        f"FRAISIER_PARAM_{name.upper()}": value for name, value in parameters.items() if value is not None
    }
