"""What the read views serve, as plain dataclasses: one for each view, one field for each key of its `data`.

Nothing here depends on a GraphQL library: resolvers.py registers these with fraiseql, and whatever else
serves them takes them as they are. Ids are uuids; `fraise_id` is the fraise's name. Times are UTC. Bytes of
what may be large are floats: GraphQL's Int ends at 2 GiB.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class FraiseType(StrEnum):
    """What kind of service a fraise is."""

    api = "api"
    etl = "etl"
    scheduled = "scheduled"
    backup = "backup"


class DeploymentStatus(StrEnum):
    """What became of a deployment. All but `pending` and `running` are final."""

    pending = "pending"
    running = "running"
    success = "success"
    failed = "failed"
    rolled_back = "rolled_back"
    rollback_failed = "rollback_failed"
    cancelled = "cancelled"
    superseded = "superseded"


class DeploymentTrigger(StrEnum):
    """Who, or what, asked for a deployment."""

    webhook = "webhook"
    manual = "manual"
    api = "api"
    scheduled = "scheduled"
    sweep = "sweep"
    rollback = "rollback"
    heal = "heal"


class RunStatus(StrEnum):
    """What became of a run. All but `pending` and `running` are final."""

    pending = "pending"
    running = "running"
    success = "success"
    failed = "failed"
    cancelled = "cancelled"
    skipped = "skipped"
    missed = "missed"


class CopyState(StrEnum):
    """What was found when a copy of a backup was last looked at."""

    unknown = "unknown"
    whole = "whole"
    damaged = "damaged"
    gone = "gone"


class HostState(StrEnum):
    """Where a host stands. The first four are those of a deployment that is under way."""

    waiting = "waiting"
    changing = "changing"
    failed = "failed"
    returning = "returning"
    current = "current"
    behind = "behind"
    broken = "broken"
    unreachable = "unreachable"
    unknown = "unknown"


class WebhookVerdict(StrEnum):
    """What a delivery came to."""

    accepted = "accepted"
    ignored = "ignored"
    pong = "pong"


@dataclass
class Fraise:
    """A deployable service, as the published configuration has it."""

    id: UUID
    fraise_id: str
    type: FraiseType
    description: str
    forge: str
    repository: str
    environments: list[str]


@dataclass
class Environment:
    """Where a fraise runs. Either `branch` or `tag`, a pattern, is what it follows; the other one is ''."""

    id: UUID
    fraise_id: str
    environment: str
    branch: str
    tag: str
    hosts: list[str]
    app_path: str
    paused: bool


@dataclass
class EnvironmentHost:
    """What one host of an environment runs; of one that cannot be reached, what was last known.

    `cause` and `detail` say why it did not come along.
    """

    id: UUID
    fraise_id: str
    environment: str
    host: str
    state: HostState
    release: str
    commit: str
    healthy: bool | None
    cause: str | None
    detail: str
    deployment_id: UUID | None
    previous_release: str
    since: datetime | None


@dataclass
class FraiseStatus:
    """What runs in one environment, and what became of its newest deployment."""

    id: UUID
    fraise_id: str
    environment: str
    type: FraiseType
    status: DeploymentStatus | None
    deployment_id: UUID | None
    requested_at: datetime | None
    error_message: str | None
    cause: str | None
    hint: str | None
    current_release: str
    current_commit: str
    current_deployment_id: UUID | None
    healthy: bool | None
    last_deployed: datetime | None
    running_deployment_id: UUID | None
    pending: int
    paused: bool
    quarantined_commits: list[str]
    lease_worker: str | None
    seen_tip: str
    paused_by: str
    paused_at: datetime | None
    paused_reason: str
    alerts: int
    last_run: datetime | None
    last_run_status: RunStatus | None


@dataclass
class Deployment:
    """The wish to bring one environment to one commit, and what became of it.

    `commit` is '' until the first fetch pins it.
    """

    id: UUID
    fraise_id: str
    environment: str
    ref: str
    commit: str
    status: DeploymentStatus
    trigger: DeploymentTrigger
    requested_by: str
    requested_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None
    error_message: str
    cause: str | None
    hint: str
    release: str
    previous_release: str
    event_id: UUID | None
    force: bool
    cancel_requested_by: str
    not_before: datetime | None
    attempts: int


@dataclass
class Run:
    """One time that a job was performed, or should have been. The view's `data` has its parameters, too."""

    id: UUID
    fraise_id: str
    environment: str
    host: str
    job: str
    kind: str
    trigger: str
    status: RunStatus
    release: str
    commit: str
    requested_by: str
    requested_at: datetime
    due: datetime | None
    not_before: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    exit_code: int | None
    peak_memory_bytes: float | None
    attempt: int
    retry_of: UUID | None
    cause: str | None
    error_message: str
    hint: str
    artefacts: list[str]
    cancel_requested_by: str
    invocation: str


@dataclass
class Alert:
    """What a person should look at, until it is cleared."""

    id: UUID
    fraise_id: str
    environment: str
    job: str
    kind: str
    message: str
    hint: str
    run_id: UUID | None
    raised_at: datetime
    cleared_at: datetime | None
    cleared_by: str


@dataclass
class Backup:
    """What is known of one backup at one destination."""

    id: UUID
    fraise_id: str
    environment: str
    destination: str
    name: str
    made_at: datetime
    bytes: float
    manifest_sha256: str
    state: CopyState
    detail: str
    looked_at: datetime | None
    verified_at: datetime | None
    verified_run_id: UUID | None
    flaw: str
    safety: bool
    pruned_at: datetime | None


@dataclass
class DeploymentStats:
    """How the deployments of one environment ended."""

    id: UUID
    fraise_id: str
    environment: str
    total: int
    succeeded: int
    failed: int
    rolled_back: int
    rollback_failed: int
    cancelled: int
    superseded: int
    success_rate: float | None
    average_duration_seconds: float | None
    last_deployed: datetime | None


@dataclass
class WebhookEvent:
    """An authentic delivery of a forge. `ref`, `before` and `after` are those of its first change."""

    id: UUID
    forge: str
    delivery_id: str
    type: str
    repository: str
    ref: str
    before: str
    after: str
    sender: str
    remote: str
    received_at: datetime
    verdict: WebhookVerdict
    reason: str
    deployments: int
    payload_digest: str
    payload_bytes: int


ENUMS = (FraiseType, DeploymentStatus, DeploymentTrigger, RunStatus, CopyState, HostState, WebhookVerdict)

# Which view serves which model.
VIEWS = {
    Fraise: "v_fraise",
    Environment: "v_environment",
    EnvironmentHost: "v_environment_hosts",
    FraiseStatus: "v_fraise_status",
    Deployment: "v_deployment_history",
    DeploymentStats: "v_deployment_stats",
    Run: "v_run_history",
    Alert: "v_alerts",
    Backup: "v_backups",
    WebhookEvent: "v_webhook_events",
}
