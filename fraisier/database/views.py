"""What reads: rows of the views, as the CLI shows them, and the counters of the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from fraisier.application.ports import Output, Row
from fraisier.database.transaction import Connection, DatabaseRow, Statements
from fraisier.database.uuids import is_uuid
from fraisier.domain.errors import Ambiguous, NotFound
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.plan import Phase, StepName

# Columns of the views that hold JSON, and truth values that SQLite keeps as 0 and 1.
_JSON = frozenset({"environments", "changes", "quarantined_commits", "info", "labels"})
_TRUTH = frozenset({"healthy", "paused", "force"})
_HIDDEN = frozenset({"position", "data"})

_FRAISES = "SELECT * FROM v_fraise WHERE (:fraise = '' OR fraise_id = :fraise) ORDER BY fraise_id"

_STATUS = """
SELECT * FROM v_fraise_status
 WHERE (:fraise = '' OR fraise_id = :fraise) AND (:environment = '' OR environment = :environment)
 ORDER BY fraise_id, environment
"""

_HOSTS = """
SELECT * FROM v_environment_hosts
 WHERE (:fraise = '' OR fraise_id = :fraise) AND (:environment = '' OR environment = :environment)
 ORDER BY fraise_id, environment, position
"""

_HISTORY = "SELECT * FROM v_deployment_history ORDER BY position DESC LIMIT :limit OFFSET :offset"

# The view's figures for requests since a day, with the median of the newest 101 successes.
_STATS = """
SELECT s.fraise      AS fraise_id,
       s.environment,
       sum(total)    AS total,
       sum(CASE status WHEN 'success' THEN total ELSE 0 END)         AS succeeded,
       sum(CASE status WHEN 'failed' THEN total ELSE 0 END)          AS failed,
       sum(CASE status WHEN 'rolled_back' THEN total ELSE 0 END)     AS rolled_back,
       sum(CASE status WHEN 'rollback_failed' THEN total ELSE 0 END) AS rollback_failed,
       sum(CASE status WHEN 'cancelled' THEN total ELSE 0 END)       AS cancelled,
       sum(CASE status WHEN 'superseded' THEN total ELSE 0 END)      AS superseded,
       sum(CASE status WHEN 'success' THEN total ELSE 0 END) * 1.0
         / nullif(sum(CASE WHEN status IN ('success', 'failed', 'rolled_back', 'rollback_failed')
                           THEN total ELSE 0 END), 0)                AS success_rate,
       sum(CASE status WHEN 'success' THEN seconds ELSE 0 END)
         / nullif(sum(CASE status WHEN 'success' THEN timed ELSE 0 END), 0) AS average_duration_seconds,
       (SELECT e.last_deployed_at FROM tb_environments e
         WHERE e.fraise = s.fraise AND e.name = s.environment)       AS last_deployed
  FROM tb_deployment_days s
 WHERE (:fraise = '' OR s.fraise = :fraise) AND (:environment = '' OR s.environment = :environment)
   AND s.day >= :since
 GROUP BY s.fraise, s.environment
 ORDER BY s.fraise, s.environment
"""
_NEWEST_DURATIONS = """
SELECT duration FROM tb_deployments
 WHERE fraise = ? AND environment = ? AND status = 'success' AND duration IS NOT NULL
 ORDER BY pk DESC LIMIT 101
"""

_EVENTS = "SELECT * FROM v_webhook_events ORDER BY position DESC LIMIT :limit"
_EVENTS_OF_VERDICT = """
SELECT * FROM v_webhook_events WHERE verdict = :verdict ORDER BY position DESC LIMIT :limit
"""

_DEPLOYMENT = """
SELECT * FROM v_deployment_history WHERE id >= :lowest AND id <= :highest ORDER BY id LIMIT 2
"""

_TOKEN = "SELECT token FROM tb_environments WHERE fraise = ? AND name = ?"
_RESOLVED = """
SELECT resolved FROM tb_deployment_attempts WHERE deployment = ? ORDER BY number DESC LIMIT 1
"""
_RESOLVED_SINCE = """
SELECT max(a.pk) AS attempt_pk, d.fraise AS fraise_id, d.environment, a.resolved
  FROM tb_deployment_attempts a JOIN tb_deployments d ON d.id = a.deployment
 WHERE a.pk > :position GROUP BY d.fraise, d.environment, a.resolved ORDER BY 1
"""
_UNFINISHED = "SELECT * FROM v_unfinished_deployment ORDER BY position"

_STEPS = """
SELECT s.pk AS id, s.deployment AS deployment_id, s.attempt, s.phase, s.step, s.host, s.state, s.release,
       s.started_at, s.ended_at, s.duration AS duration_seconds, s.tail, s.error,
       s.cause, s.hint
  FROM tb_deployment_steps s WHERE s.deployment = ? ORDER BY s.pk
"""

_OUTPUT = """
SELECT o.seq, o.text, s.step, s.phase, s.attempt, s.host
  FROM tb_step_output o JOIN tb_deployment_steps s ON s.pk = o.step
 WHERE o.deployment = :deployment AND o.seq > :after ORDER BY o.seq LIMIT :limit
"""

# A counter may have several rows: see db/postgresql.
_COUNTS = "SELECT name, sum(value) AS value FROM tb_counters GROUP BY name ORDER BY name"

_ZEROS, _EFFS = ("-".join(digit * width for width in (8, 4, 4, 4, 12)) for digit in "0f")


def fraises(connection: Connection, *, fraise: str) -> list[Row]:
    """Rows of v_fraise."""
    return _rows(connection, _FRAISES, {"fraise": fraise})


def fraise_status(connection: Connection, *, fraise: str, environment: str) -> list[Row]:
    """Rows of v_fraise_status."""
    return _rows(connection, _STATUS, {"fraise": fraise, "environment": environment})


def hosts(connection: Connection, *, fraise: str, environment: str) -> list[Row]:
    """Rows of v_environment_hosts, in the order of the configuration."""
    return _rows(connection, _HOSTS, {"fraise": fraise, "environment": environment})


def history(connection: Connection, sql: Statements, filters: Mapping[str, Any]) -> list[Row]:
    """Rows of v_deployment_history, newest first."""
    filtered = filters["fraise"] or filters["environment"] or filters["status"]
    return _rows(connection, sql.history_of_some if filtered else _HISTORY, filters)


def stats(connection: Connection, *, fraise: str, environment: str, since: str) -> list[Row]:
    """Rows like those of v_deployment_stats, of requests since a day."""
    values = {"fraise": fraise, "environment": environment, "since": since}
    rows = _rows(connection, _STATS, values)
    return [{**row, "median_duration_seconds": _median(connection, row)} for row in rows]


def _median(connection: Connection, row: Row) -> float | None:
    found = connection.execute(_NEWEST_DURATIONS, (row["fraise_id"], row["environment"])).fetchall()
    ordered = sorted(duration for (duration,) in found)
    return ordered[len(ordered) // 2] if ordered else None


def events(connection: Connection, *, limit: int, verdict: str) -> list[Row]:
    """Rows of v_webhook_events, newest first."""
    sql = _EVENTS_OF_VERDICT if verdict else _EVENTS
    return _rows(connection, sql, {"limit": limit, "verdict": verdict})


def deployment(connection: Connection, prefix: str) -> Row:
    """The row whose id begins with `prefix`; raises NotFound."""
    return as_json_types(by_prefix(connection, _DEPLOYMENT, prefix, "deployment", "history"))


def by_prefix(connection: Connection, sql: str, prefix: str, what: str, see: str) -> DatabaseRow:
    """The row whose id begins with `prefix`, by a statement with :lowest and :highest.

    Raises:
        NotFound: none does.
        Ambiguous: more than one does.
    """
    wanted = prefix.strip().lower()
    lowest, highest = wanted + _ZEROS[len(wanted) :], wanted + _EFFS[len(wanted) :]
    found: list[DatabaseRow] = []
    if wanted and is_uuid(lowest):
        found = connection.execute(sql, {"lowest": lowest, "highest": highest}).fetchall()
    if not found:
        message = f"cannot find a {what} {prefix!r}"
        raise NotFound(message, f"See `fraisier {see}`")
    if len(found) > 1:
        message = f"cannot tell which {what} {prefix!r} is: more than one begins like this"
        raise Ambiguous(message, "Give more of its id")
    return found[0]


def unfinished(connection: Connection) -> list[Row]:
    """What waits or runs, with the labels that a worker needs for it."""
    return _rows(connection, _UNFINISHED, ())


def token(connection: Connection, key: EnvironmentKey) -> int:
    """The newest token of an environment; 0 where there is none."""
    row = connection.execute(_TOKEN, (key.fraise, key.environment)).fetchone()
    return int(row["token"]) if row is not None else 0


def resolved_since(connection: Connection, *, position: int) -> list[Row]:
    """What attempts behind a position were given, each once, oldest first."""
    return _rows(connection, _RESOLVED_SINCE, {"position": position})


def resolved(connection: Connection, deployment_id: str) -> str:
    """The environment of a deployment's last attempt, as text for the codec; '' where there was none."""
    row = connection.execute(_RESOLVED, (deployment_id,)).fetchone() if is_uuid(deployment_id) else None
    return str(row["resolved"]) if row is not None else ""


def steps(connection: Connection, deployment_id: str) -> list[Row]:
    """The journal of a deployment, oldest first."""
    return _rows(connection, _STEPS, (deployment_id,)) if is_uuid(deployment_id) else []


def output(connection: Connection, deployment_id: str, *, after: int, limit: int) -> list[Output]:
    """Pieces of output with a `seq` above `after`, in order."""
    if not is_uuid(deployment_id):
        return []
    values = {"deployment": deployment_id, "after": after, "limit": limit}
    return [
        Output(
            seq=row["seq"],
            step=StepName(row["step"]),
            phase=Phase(row["phase"]),
            attempt=row["attempt"],
            text=row["text"],
            host=row["host"],
        )
        for row in connection.execute(_OUTPUT, values)
    ]


def counts(connection: Connection) -> dict[str, int]:
    """Every counter."""
    return {row["name"]: int(row["value"]) for row in connection.execute(_COUNTS)}


def _rows(connection: Connection, sql: str, values: Any) -> list[Row]:
    return [as_json_types(row) for row in connection.execute(sql, values)]


def as_json_types(row: DatabaseRow) -> Row:
    """A row with the types that JSON has."""
    return {name: _value(name, row[name]) for name in row.keys() if name not in _HIDDEN}  # noqa: SIM118


def _value(name: str, value: Any) -> Any:
    if name in _JSON and isinstance(value, str):
        return orjson.loads(value)
    if name in _TRUTH and value is not None:
        return bool(value)
    return value
