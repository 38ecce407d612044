"""Runs on PostgreSQL: which one a worker takes. Times are the server's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fraisier.application.ports import RunClaim
from fraisier.database.house import CONFIGURED_ALIKE
from fraisier.database.postgresql_transaction import PostgresqlTransaction
from fraisier.database.run_claims import take
from fraisier.database.transaction import Connection, as_json, environments_as_json
from fraisier.domain.fraise import EnvironmentKey

_MOST_LOOKS = 5  # at environments of which another worker has just taken what was due

# What dead workers left, then the oldest that waits and may begin. A clock that was put back lets nothing
# wait for longer. What was asked for in an environment that the configuration no longer has is claimed too:
# somebody has to end it. Labels: `domain.labels.may_take`. Who was silent for so long that the others
# take it for dead would lose at once what it takes now.
_DUE = f"""
  FROM tb_runs r
  JOIN tb_environments e ON e.fraise = r.fraise AND e.name = r.environment
 WHERE r.status IN ('pending', 'running')
   AND {CONFIGURED_ALIKE}
   AND EXISTS (SELECT 1 FROM tb_workers w WHERE w.id = :worker AND w.alive_until > clock_timestamp())
   AND (NOT e.published
        OR (e.fraise, e.name) IN (SELECT k->>0, k->>1 FROM jsonb_array_elements(CAST(:keys AS jsonb)) k))
   AND CASE WHEN r.status = 'running'
            THEN r.worker <> ''
                 AND NOT EXISTS (SELECT 1 FROM tb_workers w
                                  WHERE w.id = r.worker AND w.retired_at IS NULL
                                    AND w.alive_until > clock_timestamp())
                 OR r.worker = CAST(:own AS text)
                    AND NOT EXISTS (SELECT 1 FROM jsonb_array_elements_text(CAST(:performing AS jsonb)) p (id)
                                     WHERE p.id = r.id::text)
            ELSE (r.not_before IS NULL OR r.not_before <= clock_timestamp()
                  OR r.requested_at > clock_timestamp())
                 AND (SELECT count(*) FROM tb_runs u
                       WHERE u.fraise = r.fraise AND u.environment = r.environment AND u.job = r.job
                         AND u.status = 'running') < r.concurrency
                 AND NOT (r.kind IN ('backup', 'restore')
                          AND EXISTS (SELECT 1 FROM tb_runs u
                                       WHERE u.fraise = r.fraise AND u.environment = r.environment
                                         AND u.status = 'running' AND u.kind IN ('backup', 'restore')))
                 AND NOT EXISTS (SELECT 1 FROM tb_deployments d
                                  WHERE d.id = e.runs_held_by AND d.status = 'running') END
   AND CASE WHEN r.status = 'running' AND r.bound_labels <> '[]'
            THEN r.bound_labels <@ CAST(:labels AS jsonb)
            WHEN e.labels = '[]' THEN CAST(:labels AS jsonb) = '[]'
            ELSE e.labels <@ CAST(:labels AS jsonb) END
   AND (CAST(:only AS text) = '' OR r.id::text = :only
        OR r.status = 'running' AND (:only = 'left' OR EXISTS (SELECT 1 FROM tb_runs o
                                             WHERE o.id::text = :only AND o.fraise = r.fraise
                                               AND o.environment = r.environment
                                               AND (o.job = r.job OR o.kind IN ('backup', 'restore')
                                                    AND r.kind IN ('backup', 'restore')))))
"""  # noqa: S608 - a text of this file
_ORDER = "ORDER BY r.status = 'running' DESC, r.pk LIMIT 1"
_IS_ANY_DUE = f"SELECT EXISTS (SELECT 1 {_DUE})"

# Environments that another transaction has locked are passed over; who holds them wakes the workers after.
_PLACE = f"""
SELECT e.fraise, e.name {_DUE}
   AND (e.fraise, e.name) NOT IN (SELECT k->>0, k->>1 FROM jsonb_array_elements(CAST(:without AS jsonb)) k)
 {_ORDER} FOR NO KEY UPDATE OF e SKIP LOCKED
"""  # noqa: S608 - texts of this file
# The environment was locked after the statement had looked at its runs: look again.
_HEAD = f"""
SELECT r.*, e.run_token, e.current_release, e.current_commit, e.labels AS place_labels,
       coalesce(e.document -> 'hosts' ->> 0, '') AS first_host
  {_DUE} AND e.fraise = :fraise AND e.name = :name {_ORDER}
"""
_NEXT_DUE = """
SELECT extract(epoch FROM min(moment) - clock_timestamp())::double precision FROM (
    SELECT not_before AS moment FROM tb_runs
     WHERE status = 'pending' AND not_before > clock_timestamp() AND requested_at <= clock_timestamp()
     UNION ALL
    SELECT w.alive_until FROM tb_workers w
     WHERE w.retired_at IS NULL AND w.alive_until > clock_timestamp()
       AND w.id IN (SELECT worker FROM tb_runs WHERE status = 'running')
) moments
"""


@dataclass(frozen=True, slots=True)
class RunLook:
    """What a worker looks for."""

    worker: str
    environments: Collection[EnvironmentKey]
    labels: Collection[str]
    only: str
    performing: Collection[str] | None  # by itself; None: nothing of its own is left
    digest: str  # of its configuration

    def values(self) -> dict[str, str | None]:
        """Of the statements."""
        return {
            "worker": self.worker,
            "keys": environments_as_json(self.environments),
            "labels": as_json(self.labels),
            "only": self.only,
            "digest": self.digest,
            "own": None if self.performing is None else self.worker,
            "performing": as_json(self.performing or ()),
        }


def is_any_run_due(connection: Connection, look: RunLook) -> bool:
    """Whether a claim would find something: a look that locks nothing."""
    return bool(connection.execute(_IS_ANY_DUE, look.values()).fetchone()[0])


def claim_run(tx: PostgresqlTransaction, look: RunLook) -> RunClaim | None:
    """Take the next run."""
    taken: list[EnvironmentKey] = []
    for _ in range(_MOST_LOOKS):
        place = tx.row(_PLACE, {**look.values(), "without": environments_as_json(taken)})
        if place is None:
            return None
        row = tx.row(_HEAD, {**look.values(), "fraise": place["fraise"], "name": place["name"]})
        if row is not None:
            return take(tx, row, look.worker)
        taken.append(EnvironmentKey(place["fraise"], place["name"]))
    return None


def next_run_due(connection: Connection) -> float | None:
    """Seconds until a run that waits may begin, or one may turn out to be left."""
    seconds = connection.execute(_NEXT_DUE).fetchone()[0]
    return None if seconds is None else max(0.0, seconds)
