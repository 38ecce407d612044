"""Reading runs: rows of v_run_history, and what they printed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fraisier.application.ports import Newest, Row
from fraisier.database.run_rows import as_row
from fraisier.database.transaction import Connection
from fraisier.database.uuids import is_uuid
from fraisier.database.views import by_prefix
from fraisier.domain.fraise import EnvironmentKey

# Only the filters that are set: with `:job = '' OR …` no index would be of use.
_FILTERS = {
    "fraise": "fraise_id = :fraise",
    "environment": "environment = :environment",
    "job": "job = :job",
    "status": "status = :status",
}
_RUN = "SELECT * FROM v_run_history WHERE id >= :lowest AND id <= :highest ORDER BY id LIMIT 2"
# The first condition is that of the index of what is under way: SQLite concludes nothing from the second.
_ACTIVE = """
SELECT * FROM v_run_history
 WHERE status IN ('pending', 'running') AND fraise_id = ? AND environment = ? AND status = 'running'
 ORDER BY position
"""
# One look into the index per job, however many runs each has.
_LAST = """
WITH RECURSIVE jobs (job) AS (
    SELECT min(job) FROM tb_runs
     WHERE fraise = :fraise AND environment = :environment AND started_at IS NOT NULL
     UNION ALL
    SELECT (SELECT min(r.job) FROM tb_runs r
             WHERE r.fraise = :fraise AND r.environment = :environment AND r.job > jobs.job
               AND r.started_at IS NOT NULL)
      FROM jobs WHERE jobs.job IS NOT NULL)
SELECT h.* FROM jobs
  JOIN v_run_history h ON h.position = (
       SELECT max(r.pk) FROM tb_runs r
        WHERE r.fraise = :fraise AND r.environment = :environment AND r.job = jobs.job
          AND r.started_at IS NOT NULL)
"""
# Each a look into an index, however many runs a job has.
_NEWEST = """
SELECT p.fraise, p.environment, p.job,
       (SELECT max(r.pk) FROM tb_runs r WHERE r.fraise = p.fraise AND r.environment = p.environment
           AND r.job = p.job AND r.status = 'success') AS success,
       (SELECT max(r.pk) FROM tb_runs r WHERE r.fraise = p.fraise AND r.environment = p.environment
           AND r.job = p.job AND r.status = 'failed') AS failed,
       (SELECT max(r.pk) FROM tb_runs r WHERE r.fraise = p.fraise AND r.environment = p.environment
           AND r.job = p.job AND r.status = 'missed') AS missed,
       (SELECT min(r.pk) FROM tb_runs r WHERE r.fraise = p.fraise AND r.environment = p.environment
           AND r.job = p.job AND r.status = 'pending') AS waiting,
       (SELECT max(r.pk) FROM tb_runs r WHERE r.fraise = p.fraise AND r.environment = p.environment
           AND r.job = p.job AND r.status IN ('pending', 'running') AND r.trigger = 'retry') AS retry,
       (SELECT max(r.pk) FROM tb_runs r WHERE r.fraise = p.fraise AND r.environment = p.environment
           AND r.job = p.job AND r.started_at IS NOT NULL) AS begun
  FROM tb_job_plans p
"""
_AT = "SELECT * FROM v_run_history WHERE position = ?"
_OUTPUT = """
SELECT seq, text FROM tb_run_output WHERE run = :run AND seq > :after ORDER BY seq LIMIT :limit
"""


def runs(connection: Connection, filters: Mapping[str, Any]) -> list[Row]:
    """Rows of v_run_history, newest first; `filters` with `limit` and `offset`."""
    wanted = [text for name, text in _FILTERS.items() if filters[name]]
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    sql = f"SELECT * FROM v_run_history {where} ORDER BY position DESC LIMIT :limit OFFSET :offset"  # noqa: S608
    return [as_row(row) for row in connection.execute(sql, filters)]


def run(connection: Connection, prefix: str) -> Row:
    """The run whose id begins with `prefix`; raises NotFound."""
    return as_row(by_prefix(connection, _RUN, prefix, "run", "runs"))


def active(connection: Connection, key: EnvironmentKey) -> list[Row]:
    """Those that are under way, oldest first."""
    return [as_row(row) for row in connection.execute(_ACTIVE, (key.fraise, key.environment))]


def last(connection: Connection, key: EnvironmentKey) -> dict[str, Row]:
    """The newest of each job that has begun."""
    values = {"fraise": key.fraise, "environment": key.environment}
    return {row["job"]: as_row(row) for row in connection.execute(_LAST, values)}


def newest(connection: Connection) -> dict[tuple[str, str, str], Newest]:
    """The newest runs of each job that was planned once."""
    return {
        (row["fraise"], row["environment"], row["job"]): Newest(
            success=row["success"] or 0,
            failed=row["failed"] or 0,
            missed=row["missed"] or 0,
            waiting=row["waiting"] or 0,
            retry=row["retry"] or 0,
            begun=row["begun"] or 0,
        )
        for row in connection.execute(_NEWEST)
    }


def at(connection: Connection, positions: Collection[int]) -> dict[int, Row]:
    """Rows by position; those that are not there are left out."""
    rows = (connection.execute(_AT, (position,)).fetchone() for position in positions)
    return {row["position"]: as_row(row) for row in rows if row is not None}


def output(connection: Connection, run_id: str, *, after: int, limit: int) -> list[tuple[int, str]]:
    """Pieces of output with a number above `after`, in order."""
    if not is_uuid(run_id):
        return []
    values = {"run": run_id, "after": after, "limit": limit}
    return [(row["seq"], row["text"]) for row in connection.execute(_OUTPUT, values)]
