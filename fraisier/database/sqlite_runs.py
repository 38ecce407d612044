"""Runs on SQLite: which one a worker takes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from fraisier.application.ports import RunClaim
from fraisier.database.clocks import Clocks, iso, unix
from fraisier.database.house import CONFIGURED_ALIKE
from fraisier.database.run_claims import take
from fraisier.database.sqlite_transaction import SqliteTransaction
from fraisier.database.transaction import as_json, environments_as_json
from fraisier.domain.fraise import EnvironmentKey

# Workers of runs that are under way, and whether they live by their rows; the lock of one that does may be
# free all the same.
_HOLDERS = """
SELECT DISTINCT r.worker,
       EXISTS (SELECT 1 FROM tb_workers w
                WHERE w.id = r.worker AND w.retired_at IS NULL AND w.boot = :boot
                  AND w.alive_until > :boottime) AS lives
  FROM tb_runs r WHERE r.status IN ('pending', 'running') AND r.status = 'running' AND r.worker <> ''
"""

# What dead workers left, then the oldest that waits and may begin. A clock that was put back lets nothing
# wait for longer. What was asked for in an environment that the configuration no longer has is claimed too:
# somebody has to end it. What is backed up while a restore replaces it is neither the one nor the other, and
# would let good ones go: there is one of both at a time. Labels: `domain.labels.may_take`. Who was silent for
# so long that the others take it for dead would lose at once what it takes now.
_NEXT = f"""
SELECT r.*, e.run_token, e.current_release, e.current_commit, e.labels AS place_labels,
       coalesce(json_extract(e.document, '$.hosts[0]'), '') AS first_host
  FROM tb_runs r
 CROSS JOIN tb_environments e ON e.fraise = r.fraise AND e.name = r.environment
 WHERE r.status IN ('pending', 'running')
   AND {CONFIGURED_ALIKE}
   AND EXISTS (SELECT 1 FROM tb_workers w
                WHERE w.id = :worker AND w.boot = :boot AND w.alive_until > :boottime)
   AND (NOT e.published
        OR EXISTS (SELECT 1 FROM json_each(:keys)
                    WHERE json_extract(value, '$[0]') = e.fraise AND json_extract(value, '$[1]') = e.name))
   AND CASE WHEN r.status = 'running' THEN r.worker IN (SELECT value FROM json_each(:dead))
                 OR r.worker = :own AND r.id NOT IN (SELECT value FROM json_each(:performing))
            ELSE (r.not_before IS NULL OR r.not_before <= :now OR r.requested_at > :now)
                 AND (SELECT count(*) FROM tb_runs u
                       WHERE u.fraise = r.fraise AND u.environment = r.environment AND u.job = r.job
                         AND u.status = 'running') < r.concurrency
                 AND NOT (r.kind IN ('backup', 'restore')
                          AND EXISTS (SELECT 1 FROM tb_runs u
                                       WHERE u.status IN ('pending', 'running') AND u.status = 'running'
                                         AND u.fraise = r.fraise AND u.environment = r.environment
                                         AND u.kind IN ('backup', 'restore')))
                 AND NOT EXISTS (SELECT 1 FROM tb_deployments d
                                  WHERE d.id = e.runs_held_by AND d.status = 'running') END
   AND CASE WHEN r.status = 'running' AND r.bound_labels <> '[]'
            THEN NOT EXISTS (SELECT 1 FROM json_each(r.bound_labels)
                              WHERE value NOT IN (SELECT value FROM json_each(:labels)))
            WHEN e.labels = '[]' THEN :labels = '[]'
            ELSE NOT EXISTS (SELECT 1 FROM json_each(e.labels)
                              WHERE value NOT IN (SELECT value FROM json_each(:labels))) END
   AND (:only = '' OR r.id = :only
        OR r.status = 'running' AND (:only = 'left' OR EXISTS (SELECT 1 FROM tb_runs o
                                             WHERE o.id = :only AND o.fraise = r.fraise
                                               AND o.environment = r.environment
                                               AND (o.job = r.job OR o.kind IN ('backup', 'restore')
                                                    AND r.kind IN ('backup', 'restore')))))
 ORDER BY r.status = 'running' DESC, r.pk
 LIMIT 1
"""  # noqa: S608 - a text of this file
_NEXT_DUE = """
SELECT min(not_before) FROM tb_runs
 WHERE status IN ('pending', 'running') AND status = 'pending' AND not_before > :now AND requested_at <= :now
"""
_NEXT_LEFT = """
SELECT min(w.alive_until) FROM tb_workers w
 WHERE w.retired_at IS NULL AND w.boot = :boot AND w.alive_until > :boottime
   AND w.id IN (SELECT worker FROM tb_runs WHERE status IN ('pending', 'running') AND status = 'running')
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
    is_dead: Callable[[str], bool]


def _values(
    connection: sqlite3.Connection | SqliteTransaction, clocks: Clocks, look: RunLook
) -> dict[str, Any]:
    now = {"boot": clocks.boot_id, "boottime": clocks.boottime()}
    holders = connection.execute(_HOLDERS, now).fetchall()
    dead = [row["worker"] for row in holders if not row["lives"] or look.is_dead(row["worker"])]
    return {
        **now,
        "worker": look.worker,
        "keys": environments_as_json(look.environments),
        "labels": as_json(look.labels),
        "only": look.only,
        "digest": look.digest,
        "dead": as_json(dead),
        "own": None if look.performing is None else look.worker,
        "performing": as_json(look.performing or ()),
        "now": iso(clocks.now()),
    }


def is_any_run_due(connection: sqlite3.Connection, clocks: Clocks, look: RunLook) -> bool:
    """Whether a claim would find something: a look without the writer's lock."""
    return connection.execute(_NEXT, _values(connection, clocks, look)).fetchone() is not None


def claim_run(tx: SqliteTransaction, look: RunLook) -> RunClaim | None:
    """Take the next run."""
    row = tx.row(_NEXT, _values(tx, tx.clocks, look))
    return None if row is None else take(tx, row, look.worker)


def next_run_due(connection: sqlite3.Connection, clocks: Clocks) -> float | None:
    """Seconds until a run that waits may begin, or one may turn out to be left."""
    now, boottime = clocks.now(), clocks.boottime()
    begins = connection.execute(_NEXT_DUE, {"now": iso(now)}).fetchone()[0]
    left = connection.execute(_NEXT_LEFT, {"boot": clocks.boot_id, "boottime": boottime}).fetchone()[0]
    waits = ([] if begins is None else [unix(begins) - now]) + ([] if left is None else [left - boottime])
    return max(0.0, min(waits)) if waits else None
