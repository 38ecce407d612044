"""What an export consists of: each table with its columns, and what stays behind.

A test compares this with the schemas that the migrations make. Whoever adds a table or a column adds it here,
or to `STAYS`. What an older export does not have takes the column's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# The oldest schema whose rows mean what they mean now. A migration that changes the meaning of rows, or adds
# a column whose default is wrong for older rows, raises it to its own number.
OLDEST_SCHEMA = 1


class Kind(StrEnum):
    """What a column holds, in whatever way a database keeps it."""

    text = "text"
    integer = "integer"
    real = "real"
    flag = "flag"  # 0 and 1 on SQLite
    uuid = "uuid"
    reference = "reference"  # a uuid; of nothing it is '' on SQLite and NULL on PostgreSQL
    time = "time"
    json = "json"
    bytes = "bytes"


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its rows are exported in the order of `key`."""

    name: str
    key: str
    columns: Mapping[str, Kind]


def _table(name: str, key: str, **columns: str) -> Table:
    kinds = {column: Kind(kind) for kind, listed in columns.items() for column in listed.split()}
    return Table(name, key, kinds)


# In an order in which rows refer only to what was there before.
TABLES = (
    _table(
        "tb_installation",
        "pk",
        integer="pk pruned_event",
        uuid="id",
        time="created_at published_at",
        text="digest",
    ),
    _table(
        "tb_fraises",
        "name",
        text="name type description forge repository",
        uuid="id",
        flag="published",
    ),
    _table(
        "tb_environments",
        "pk",
        integer="pk releases token run_token",
        uuid="id",
        reference="current_deployment runs_held_by",
        text="fraise name seen_tip current_release current_commit paused_by paused_reason",
        flag="published paused healthy",
        json="document quarantine labels bound_labels",
        time="last_deployed_at paused_at",
    ),
    _table(
        "tb_webhook_events",
        "pk",
        integer="pk deployments payload_bytes",
        uuid="id",
        text="forge delivery_id type repository ref before after sender remote verdict reason payload_digest",
        json="changes",
        time="received_at",
        bytes="payload",
    ),
    _table(
        "tb_deployments",
        "pk",
        integer="pk",
        uuid="id event",
        text="fraise environment ref commit status trigger requested_by cause error_message hint release"
        " previous_release cancel_requested_by",
        flag="force with_database",
        real="duration",
        time="requested_at started_at completed_at not_before",
    ),
    _table(
        "tb_deployment_attempts",
        "pk",
        integer="pk number token",
        uuid="deployment",
        text="worker resolved outcome error",
        time="started_at ended_at",
    ),
    _table(
        "tb_deployment_steps",
        "pk",
        integer="pk attempt",
        uuid="deployment",
        text="phase step state release tail error host cause hint",
        real="duration",
        time="started_at ended_at",
    ),
    _table(
        "tb_database_changes",
        "pk",
        integer="pk attempt",
        uuid="deployment",
        text="kind revision",
        time="at",
        json="detail",
    ),
    _table(
        "tb_environment_hosts",
        "fraise, environment, host",
        uuid="id deployment",
        text="fraise environment host state release commit previous_release previous_commit cause detail",
        flag="touched unfinished",
        time="since",
    ),
    _table(
        "tb_backups",
        "pk",
        integer="pk bytes",
        uuid="id verified_run",
        text="fraise environment destination name manifest state detail flaw",
        flag="safety",
        time="made_at looked_at verified_at pruned_at",
    ),
    _table(
        "tb_step_output",
        "seq",
        integer="seq step bytes",
        uuid="deployment",
        text="part text",
        time="written_at",
    ),
    _table("tb_step_volumes", "step", integer="step head tail dropped"),
    _table(
        "tb_runs",
        "pk",
        integer="pk attempt concurrency token slot exit_code peak_memory_bytes",
        uuid="id retry_of",
        text="fraise environment host job kind trigger status requested_by worker release commit cause"
        " error_message hint cancel_requested_by invocation",
        json="parameters bound_labels artefacts detail",
        real="duration",
        time="requested_at due not_before started_at ended_at",
    ),
    _table(
        "tb_run_output",
        "seq",
        integer="seq bytes",
        uuid="run",
        text="part text",
        time="written_at",
    ),
    _table("tb_run_volumes", "run", uuid="run", integer="head tail dropped"),
    _table(
        "tb_job_plans",
        "fraise, environment, job",
        text="fraise environment job",
        time="planned_until",
    ),
    _table(
        "tb_alerts",
        "pk",
        integer="pk",
        uuid="id run",
        text="fraise environment job kind message hint cleared_by",
        time="raised_at cleared_at",
    ),
    _table(
        "tb_audit_log",
        "pk",
        integer="pk",
        time="at",
        text="actor action subject",
        json="detail",
    ),
    _table("tb_counters", "name", text="name", integer="value"),
    _table(
        "tb_deployment_days",
        "fraise, environment, day, status",
        text="fraise environment day status",
        integer="total timed",
        real="seconds",
    ),
)

# What is not exported, as `table` or `table.column`, and why.
STAYS = {
    "tb_migrations": "each database has its own",
    "tb_workers": "they work on this database",
    "tb_database_locks": "a deployment that was running takes its database again when it goes on",
    "tb_receipts": "of sessions on this server",
    "tb_environments.lease_worker": "a lease is held on this database; without one, a deployment that was"
    " running is taken over as after a crash",
    "tb_environments.lease_until": "by a clock that another database does not have",
    "tb_environments.lease_boot": "of this machine",
    "tb_deployments.retry_at": "by a clock that another database does not have; without it a retry is due",
    "tb_deployments.retry_boot": "of this machine",
    "tb_counters.shard": "a counter is the sum of its shards",
    "tb_observer": "fraiseql-server's own",
    "core.tb_entity_change_log": "fraiseql-server's own, and a feed: subscribers have heard it",
}
