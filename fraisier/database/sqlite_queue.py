"""Claims: who may change which environment, until when, and what comes next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fraisier.application.ports import Claim
from fraisier.database.claims import claim_of, held_by, never_published, raise_token_over
from fraisier.database.clocks import Clocks
from fraisier.database.house import CONFIGURED_ALIKE
from fraisier.database.sqlite_transaction import SqliteTransaction
from fraisier.database.transaction import Values, as_json, environments_as_json
from fraisier.domain.fraise import EnvironmentKey

_LEASE_HOLDERS = "SELECT DISTINCT lease_worker FROM tb_environments WHERE lease_worker <> ''"

# :dead are workers whose lock is free; a lease of another boot has ended.
_FREE = """
       (e.lease_worker = '' OR e.lease_boot <> :boot OR e.lease_until <= :boottime
        OR e.lease_worker IN (SELECT value FROM json_each(:dead))
        OR e.lease_worker IN (SELECT id FROM tb_workers WHERE retired_at IS NOT NULL))
"""

# The head of the queue among free environments: an interrupted deployment first, then rollbacks, then the
# oldest that waits. What was asked for in an environment that the configuration no longer has is claimed too:
# somebody has to bring it to its end. Labels: `domain.labels.may_take`. Where it is paused, or :closed:
# `domain.deployment.goes_through`; what was begun is recovered all the same.
_NEXT = f"""
SELECT d.*, e.token, e.current_release, e.current_commit, e.current_deployment, e.quarantine
  FROM (SELECT json_extract(value, '$[0]') AS fraise, json_extract(value, '$[1]') AS name
          FROM json_each(:keys)
         UNION
        SELECT fraise, name FROM tb_environments WHERE NOT published) k
 CROSS JOIN tb_environments e ON e.fraise = k.fraise AND e.name = k.name
  CROSS JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name
                             AND d.status IN ('running', 'pending')
 WHERE {_FREE}
   AND {CONFIGURED_ALIKE}
   AND (d.status = 'running'
        OR (d.force OR d.trigger = 'rollback' OR NOT e.published
            OR NOT e.paused AND NOT EXISTS (SELECT 1 FROM json_each(:closed)
                                             WHERE json_extract(value, '$[0]') = e.fraise
                                               AND json_extract(value, '$[1]') = e.name))
           -- Also where the labels keep us from going on with what runs, nothing else begins.
           AND NOT EXISTS (SELECT 1 FROM tb_deployments r
                            WHERE r.fraise = e.fraise AND r.environment = e.name AND r.status = 'running')
           AND (d.retry_at IS NULL OR d.retry_boot <> :boot OR d.retry_at <= :boottime)
           -- What waits for its next try would undo what overtook it.
           AND (d.force OR d.trigger = 'rollback'
                OR NOT EXISTS (SELECT 1 FROM tb_deployments o
                                WHERE o.fraise = e.fraise AND o.environment = e.name AND o.status = 'pending'
                                  AND o.pk < d.pk AND o.retry_boot = :boot AND o.retry_at > :boottime)))
   AND CASE WHEN d.status = 'running' AND e.bound_labels <> '[]'
            THEN NOT EXISTS (SELECT 1 FROM json_each(e.bound_labels)
                              WHERE value NOT IN (SELECT value FROM json_each(:labels)))
            WHEN e.labels = '[]' THEN :labels = '[]'
            ELSE NOT EXISTS (SELECT 1 FROM json_each(e.labels)
                              WHERE value NOT IN (SELECT value FROM json_each(:labels))) END
 ORDER BY d.status = 'running' DESC, d.trigger = 'rollback' DESC, d.pk
 LIMIT 1
"""  # noqa: S608 - a text of this file

# Attempts that are under way in environments that nobody holds any more.
_LEFT = f"""
SELECT e.fraise, e.name AS environment, d.id AS deployment
  FROM tb_environments e
 CROSS JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name AND d.status = 'running'
 WHERE {_FREE}
   AND EXISTS (SELECT 1 FROM tb_deployment_attempts a WHERE a.deployment = d.id AND a.ended_at IS NULL)
"""  # noqa: S608 - a text of this file

_TAKE = """
UPDATE tb_environments
   SET token = token + 1, lease_worker = ?, lease_until = ?, lease_boot = ?,
       bound_labels = CASE WHEN ? = 'pending' THEN labels ELSE bound_labels END
 WHERE fraise = ? AND name = ?
"""

_ATTEMPTS = """
SELECT number, resolved, started_at, ended_at, outcome
  FROM tb_deployment_attempts WHERE deployment = ? ORDER BY number
"""
_JOURNAL = "SELECT * FROM tb_deployment_steps WHERE deployment = ? ORDER BY pk"

# When a waiting retry is due, and when a lease ends on which something waits.
_NEXT_DUE = """
SELECT min(moment) FROM (
    SELECT d.retry_at AS moment
      FROM tb_environments e
      JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name AND d.status = 'pending'
     WHERE d.retry_boot = :boot AND d.retry_at > :boottime
       AND (NOT e.paused OR d.force OR d.trigger = 'rollback')
     UNION ALL
    SELECT e.lease_until
      FROM tb_environments e
     WHERE e.lease_worker <> '' AND e.lease_boot = :boot AND e.lease_until > :boottime
       AND EXISTS (SELECT 1 FROM tb_deployments d
                    WHERE d.fraise = e.fraise AND d.environment = e.name
                      AND d.status IN ('running', 'pending')))
"""

_RENEW = """
UPDATE tb_environments SET lease_until = :until, lease_boot = :boot
 WHERE fraise = :fraise AND name = :environment AND token = :token AND lease_worker = :worker
"""
_SIGN_OF_LIFE = """
UPDATE tb_workers SET seen_at = :now, alive_until = :until, boot = :boot WHERE id = :worker
"""

_HOLDER = (
    "SELECT token, lease_worker, lease_until, lease_boot FROM tb_environments WHERE fraise = ? AND name = ?"
)

_LIVE_WORKERS = """
SELECT id, host, pid, version, started_at, seen_at, info FROM tb_workers
 WHERE retired_at IS NULL AND boot = ? AND alive_until > ? ORDER BY started_at, id
"""

IsDead = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Look:
    """What a worker looks for: what is due in these environments, as far as labels and windows allow it."""

    environments: Collection[EnvironmentKey]
    labels: Collection[str]
    closed: Collection[EnvironmentKey]
    digest: str  # of its configuration
    is_dead: IsDead

    def values(self, clocks: Clocks, holders: Sequence[str]) -> Values:
        """Of the statement."""
        return {
            "keys": environments_as_json(self.environments),
            "labels": as_json(self.labels),
            "closed": environments_as_json(self.closed),
            "digest": self.digest,
            "boot": clocks.boot_id,
            "boottime": clocks.boottime(),
            "dead": as_json([worker for worker in holders if self.is_dead(worker)]),
        }


def is_anything_due(connection: sqlite3.Connection, clocks: Clocks, look: Look) -> bool:
    """Whether a claim would find something: a look without the writer's lock."""
    holders = [row[0] for row in connection.execute(_LEASE_HOLDERS)]
    return connection.execute(_NEXT, look.values(clocks, holders)).fetchone() is not None


def claim(tx: SqliteTransaction, worker: str, lease: float, look: Look) -> Claim | None:
    """Take the head of the queue, with a new token and a lease of `lease` seconds."""
    holders = [row[0] for row in tx.execute(_LEASE_HOLDERS)]
    row = tx.row(_NEXT, look.values(tx.clocks, holders))
    if row is None:
        return None
    key = EnvironmentKey(row["fraise"], row["environment"])
    clocks = tx.clocks
    until, boot, was = clocks.boottime() + lease, clocks.boot_id, row["status"]
    tx.execute(_TAKE, (worker, until, boot, was, key.fraise, key.environment))
    attempts = tx.execute(_ATTEMPTS, (row["id"],)).fetchall()
    return claim_of(tx, worker, row, attempts, tx.execute(_JOURNAL, (row["id"],)))


def left(
    connection: sqlite3.Connection | SqliteTransaction, clocks: Clocks, is_dead: IsDead
) -> list[sqlite3.Row]:
    """What dead workers left under way."""
    holders = [row[0] for row in connection.execute(_LEASE_HOLDERS)]
    dead = as_json([worker for worker in holders if is_dead(worker)])
    at = {"boot": clocks.boot_id, "boottime": clocks.boottime(), "dead": dead}
    return connection.execute(_LEFT, at).fetchall()


def raise_token(tx: SqliteTransaction, key: EnvironmentKey, above: int, by: str, is_dead: IsDead) -> int:
    """A token over the environment's own and `above`.

    Raises:
        Conflict: a worker holds the environment.
        NotFound: no such environment was published.
    """
    row = tx.row(_HOLDER, (key.fraise, key.environment))
    if row is None:
        raise never_published(key)
    holder, now = row["lease_worker"], tx.clocks.boottime()
    if row["lease_boot"] == tx.clocks.boot_id and row["lease_until"] > now and not is_dead(holder):
        raise held_by(key, holder)
    return raise_token_over(tx, key, max(row["token"], above), by)


def next_due(connection: sqlite3.Connection, clocks: Clocks) -> float | None:
    """Seconds until a retry is due or a lease ends on which something waits."""
    boottime = clocks.boottime()
    moment = connection.execute(_NEXT_DUE, {"boot": clocks.boot_id, "boottime": boottime}).fetchone()[0]
    return None if moment is None else max(0.0, moment - boottime)


def renew(
    tx: SqliteTransaction, worker: str, claims: Sequence[Claim], lease: float
) -> frozenset[EnvironmentKey]:
    """Prolong the leases that are still the worker's; returns their environments."""
    until, boot = tx.clocks.boottime() + lease, tx.clocks.boot_id
    kept = set()
    for each in claims:
        key = each.environment
        values = {"until": until, "boot": boot, "token": each.token, "worker": worker}
        names = {"fraise": key.fraise, "environment": key.environment}
        if tx.execute(_RENEW, {**values, **names}).rowcount:
            kept.add(key)
    tx.execute(_SIGN_OF_LIFE, {"now": tx.at, "until": until, "boot": boot, "worker": worker})
    return frozenset(kept)


def live_workers(connection: sqlite3.Connection, clocks: Clocks) -> list[sqlite3.Row]:
    """Workers whose last sign of life is recent enough."""
    return connection.execute(_LIVE_WORKERS, (clocks.boot_id, clocks.boottime())).fetchall()
