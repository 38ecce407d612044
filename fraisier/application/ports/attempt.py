"""What a worker holds, and what the journal keeps, while a deployment is performed."""

from __future__ import annotations

from dataclasses import dataclass

from fraisier.domain.deployment import Deployment, Status
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.migration import DatabaseChange
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.rollout import Standing
from fraisier.domain.run import RunWish


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledStep:
    """A step of an attempt as the journal has it. Times are Unix seconds.

    `retried`: its attempt, or a later one, ended by itself, and the deployment waited to be tried again.
    """

    id: int
    attempt: int
    phase: Phase
    name: StepName
    state: StepState
    started_at: float
    ended_at: float | None = None
    release: str = ""  # the release that the attempt was bringing in when the step began
    error: str = ""
    cause: Cause | None = None  # why it failed; None: it did not, or nobody noted it
    hint: str = ""
    retried: bool = False
    host: str = ""  # '' where the environment has one host, and for what is done once for all


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who works on a database; `since` is UTC ISO 8601."""

    deployment: str
    environment: EnvironmentKey
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to change one environment, until the lease ends or a higher token is given out.

    `current_release` and `current_commit` are what the database says is running ('' = nothing yet).
    `journal` has the steps of all earlier attempts of this deployment, oldest first, and `changes` what was
    noted of its database; `resolved` is the environment as the last attempt stored it ('' = none). `attempts`
    counts earlier ones, `interruptions` those of them that ended with their worker. `tried_for` is how many
    seconds those took that failed and are tried again, by the store's clock.
    """

    environment: EnvironmentKey
    token: int
    worker: str
    deployment: Deployment
    current_release: str = ""
    current_commit: str = ""
    current_deployment: str = ""
    journal: tuple[JournaledStep, ...] = ()
    changes: tuple[DatabaseChange, ...] = ()
    resolved: str = ""
    attempts: int = 0
    interruptions: int = 0
    quarantined: frozenset[str] = frozenset()  # commits that only `--force` brings again
    tried_for: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What an environment runs after a deployment has ended; release '' = nothing."""

    release: str
    commit: str
    healthy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The last transaction of a deployment: its status, why, what runs now, and whether to quarantine."""

    status: Status
    cause: Cause | None = None
    error: str = ""
    hint: str = ""
    serving: Serving | None = None  # None: unchanged
    quarantine: bool = False
    hosts: tuple[Standing, ...] = ()  # where they stand now, if there are several; none: unchanged
    runs: tuple[RunWish, ...] = ()  # that it wants: each waits for room, unless one of its job waits already


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A piece of a step's output. `seq` grows within a deployment; `text` is redacted UTF-8."""

    seq: int
    step: StepName
    phase: Phase
    attempt: int
    text: str
    host: str = ""
