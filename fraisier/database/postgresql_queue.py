"""Claims on PostgreSQL: environments are taken with SKIP LOCKED, leases are timed by the server's clock.

A worker lives as long as its lease says, wherever it runs. Its connection says nothing about it: a restart of
the server or a broken network ends the sessions of workers that go on working, and must not have their
deployments taken over.

Nobody promises that the server's clock only goes forward. Set forward it ends leases early, and tokens keep
apart who then meets. Set back it would have a dead worker's lease, and a pause between two tries, last until
the clock is there again: a sign of life or an end in the future tells, and whoever renews shortens them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fraisier.application.ports import Claim
from fraisier.database.claims import claim_of, held_by, never_published, raise_token_over
from fraisier.database.house import CONFIGURED_ALIKE
from fraisier.database.postgresql_transaction import PostgresqlTransaction
from fraisier.database.transaction import Connection, as_json, environments_as_json
from fraisier.domain.fraise import EnvironmentKey

_MOST_LOOKS = 5  # at environments of which another worker has just taken what was due

_FREE = """
       (e.lease_worker = '' OR e.lease_until IS NULL OR e.lease_until <= clock_timestamp()
        OR e.lease_worker IN (SELECT w.id FROM tb_workers w WHERE w.retired_at IS NOT NULL))
"""

# What both looks at the queue share: a free environment, and what is due in it: an interrupted deployment
# first, then rollbacks, then the oldest that waits. What was asked for in an environment that the
# configuration no longer has is claimed too: somebody has to bring it to its end. Labels: as
# `domain.labels.may_take` says. Where it is paused, or :closed: as `domain.deployment.goes_through` says;
# what was begun is recovered all the same.
_FREE_AND_DUE = f"""
  FROM tb_environments e
 CROSS JOIN LATERAL (
       SELECT d.* FROM tb_deployments d
        WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status IN ('running', 'pending')
          AND (d.status = 'running'
               OR (d.force OR d.trigger = 'rollback' OR NOT e.published
                   OR NOT e.paused AND (e.fraise, e.name) NOT IN (
                          SELECT k->>0, k->>1 FROM jsonb_array_elements(CAST(:closed AS jsonb)) k))
                  AND (d.not_before IS NULL OR d.not_before <= clock_timestamp())
                  -- What waits for its next try would undo what overtook it.
                  AND (d.force OR d.trigger = 'rollback'
                       OR NOT EXISTS (SELECT 1 FROM tb_deployments o
                                       WHERE o.fraise = e.fraise AND o.environment = e.name
                                         AND o.status = 'pending' AND o.pk < d.pk
                                         AND o.not_before > clock_timestamp())))
        ORDER BY d.status = 'running' DESC, d.trigger = 'rollback' DESC, d.pk LIMIT 1) d
 WHERE {_FREE}
   AND {CONFIGURED_ALIKE}
   AND CASE WHEN d.status = 'running' AND e.bound_labels <> '[]' THEN e.bound_labels <@ CAST(:labels AS jsonb)
            WHEN e.labels = '[]' THEN CAST(:labels AS jsonb) = '[]'
            ELSE e.labels <@ CAST(:labels AS jsonb) END
"""  # noqa: S608 - texts of this file
_WANTED = """
   AND (NOT e.published
        OR (e.fraise, e.name) IN (SELECT k->>0, k->>1 FROM jsonb_array_elements(CAST(:keys AS jsonb)) k))
   AND (e.fraise, e.name) NOT IN (SELECT k->>0, k->>1 FROM jsonb_array_elements(CAST(:without AS jsonb)) k)
"""
# Environments that another transaction has locked are passed over; who holds them wakes the workers after.
# What was found is noted in the transaction, so that _HEAD can be sent along.
_NEXT = f"""
SELECT e.fraise, e.name, set_config('fraisier.next', json_build_array(e.fraise, e.name)::text, true)
  FROM (SELECT e.fraise, e.name {_FREE_AND_DUE} {_WANTED}
         ORDER BY d.status = 'running' DESC, d.trigger = 'rollback' DESC, d.pk LIMIT 1
           FOR NO KEY UPDATE OF e SKIP LOCKED) e
"""  # noqa: S608 - texts of this file
# The environment was locked after the statement had looked at its deployments: look again. With the journal.
_HEAD = f"""
SELECT d.*, e.token, e.current_release, e.current_commit, e.current_deployment, e.quarantine,
       (SELECT coalesce(json_agg(json_build_object(
                   'number', a.number, 'resolved', a.resolved, 'outcome', a.outcome,
                   'started_at', fn_iso(a.started_at), 'ended_at', fn_iso(a.ended_at))
                   ORDER BY a.number), '[]')
          FROM tb_deployment_attempts a WHERE a.deployment = d.id) AS attempts,
       (SELECT coalesce(json_agg(json_build_object(
                   'pk', s.pk, 'attempt', s.attempt, 'phase', s.phase, 'step', s.step, 'state', s.state,
                   'host', s.host, 'release', s.release, 'error', s.error, 'cause', s.cause, 'hint', s.hint,
                   'started_at', fn_iso(s.started_at), 'ended_at', fn_iso(s.ended_at)) ORDER BY s.pk), '[]')
          FROM tb_deployment_steps s WHERE s.deployment = d.id) AS steps
       {_FREE_AND_DUE}
   AND e.fraise = CAST(nullif(current_setting('fraisier.next', true), '') AS jsonb) ->> 0
   AND e.name = CAST(nullif(current_setting('fraisier.next', true), '') AS jsonb) ->> 1
"""  # noqa: S608 - texts of this file

# Attempts that are under way in environments that nobody holds any more.
_LEFT = f"""
SELECT e.fraise, e.name AS environment, d.id AS deployment
  FROM tb_environments e
  JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name AND d.status = 'running'
 WHERE {_FREE}
   AND EXISTS (SELECT 1 FROM tb_deployment_attempts a WHERE a.deployment = d.id AND a.ended_at IS NULL)
"""  # noqa: S608 - texts of this file
_IS_ANYTHING_LEFT = f"SELECT EXISTS ({_LEFT})"
_LOCK_LEFT = f"{_LEFT} ORDER BY e.fraise, e.name FOR NO KEY UPDATE OF e SKIP LOCKED"

_TAKE = """
UPDATE tb_environments
   SET token = token + 1, lease_worker = ?, lease_until = clock_timestamp() + make_interval(secs => ?),
       bound_labels = CASE WHEN ? = 'pending' THEN labels ELSE bound_labels END
 WHERE fraise = ? AND name = ?
"""

# When a waiting retry is due, and when a lease ends on which something waits.
_NEXT_DUE = """
SELECT extract(epoch FROM min(moment) - clock_timestamp())::double precision FROM (
    SELECT d.not_before AS moment
      FROM tb_environments e
      JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name AND d.status = 'pending'
     WHERE d.not_before > clock_timestamp() AND (NOT e.paused OR d.force OR d.trigger = 'rollback')
     UNION ALL
    SELECT e.lease_until
      FROM tb_environments e
     WHERE e.lease_worker <> '' AND e.lease_until > clock_timestamp()
       AND EXISTS (SELECT 1 FROM tb_deployments d
                    WHERE d.fraise = e.fraise AND d.environment = e.name
                      AND d.status IN ('running', 'pending'))) due
"""

_RENEW = """
UPDATE tb_environments SET lease_until = clock_timestamp() + make_interval(secs => :lease)
 WHERE fraise = :fraise AND name = :environment AND token = :token AND lease_worker = :worker
"""
_SIGN_OF_LIFE = """
UPDATE tb_workers
   SET seen_at = clock_timestamp(), alive_until = clock_timestamp() + make_interval(secs => :lease)
 WHERE id = :worker
"""
# A sign of life from the future says nothing: who lives gives another one soon.
_LIVE_WORKERS = """
SELECT id, host, pid, version, started_at, seen_at, info FROM tb_workers
 WHERE retired_at IS NULL AND alive_until > clock_timestamp() AND seen_at <= clock_timestamp()
 ORDER BY started_at, id
"""
# Rows that are locked are somebody's who knows the time as well.
_SHORTEN_LEASES = """
UPDATE tb_environments e SET lease_until = clock_timestamp() + (w.alive_until - w.seen_at)
  FROM tb_workers w
 WHERE w.id = e.lease_worker AND e.pk IN (
       SELECT o.pk FROM tb_environments o JOIN tb_workers h ON h.id = o.lease_worker
        WHERE h.seen_at > clock_timestamp()
          AND o.lease_until > clock_timestamp() + (h.alive_until - h.seen_at)
          FOR NO KEY UPDATE OF o SKIP LOCKED)
"""
_SHORTEN_PAUSES = """
UPDATE tb_deployments SET not_before = clock_timestamp()
 WHERE pk IN (
       SELECT d.pk
         FROM tb_environments e
         JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name AND d.status = 'pending'
        WHERE d.not_before > clock_timestamp()
          AND EXISTS (SELECT 1 FROM tb_deployment_attempts a
                       WHERE a.deployment = d.id AND a.ended_at > clock_timestamp())
          FOR NO KEY UPDATE OF d SKIP LOCKED)
"""
_HOLDER = """
SELECT token, lease_worker, lease_worker <> '' AND lease_until > clock_timestamp() AS held
  FROM tb_environments WHERE fraise = ? AND name = ? FOR NO KEY UPDATE
"""


@dataclass(frozen=True, slots=True)
class Look:
    """What a worker looks for: what is due in these environments, as far as labels and windows allow it."""

    environments: Collection[EnvironmentKey]
    labels: Collection[str]
    closed: Collection[EnvironmentKey]
    digest: str  # of its configuration

    def values(self) -> dict[str, str]:
        """Of the statements."""
        return {
            "keys": environments_as_json(self.environments),
            "labels": as_json(self.labels),
            "closed": environments_as_json(self.closed),
            "digest": self.digest,
        }


def claim(tx: PostgresqlTransaction, worker: str, lease: float, look: Look) -> Claim | None:
    """Take the head of the queue, with a new token and a lease of `lease` seconds.

    Two round trips to the server, the commit included.
    """
    taken: list[EnvironmentKey] = []
    wanted = look.values()
    for _ in range(_MOST_LOOKS):
        looked = {**wanted, "without": environments_as_json(taken)}
        found, head = tx.execute_all((_NEXT, looked), (_HEAD, wanted))
        place, row = found.fetchone(), head.fetchone()
        if place is None:
            break
        if row is not None:
            tx.later(_TAKE, (worker, lease, row["status"], place["fraise"], place["name"]))
            return claim_of(tx, worker, row, orjson.loads(row["attempts"]), orjson.loads(row["steps"]))
        taken.append(EnvironmentKey(place["fraise"], place["name"]))
    tx.is_void = True
    return None


def is_anything_left(connection: Connection) -> bool:
    """Whether `left` would find something: a look that locks nothing."""
    return bool(connection.execute(_IS_ANYTHING_LEFT).fetchone()[0])


def left(tx: PostgresqlTransaction) -> list[Any]:
    """What dead workers left under way, locked. An environment that another transaction holds is left out."""
    return tx.execute(_LOCK_LEFT).fetchall()


def raise_token(tx: PostgresqlTransaction, key: EnvironmentKey, above: int, by: str) -> int:
    """A token over the environment's own and `above`.

    Raises:
        Conflict: a worker holds the environment.
        NotFound: no such environment was published.
    """
    row = tx.row(_HOLDER, (key.fraise, key.environment))
    if row is None:
        raise never_published(key)
    if row["held"]:
        raise held_by(key, row["lease_worker"])
    return raise_token_over(tx, key, max(row["token"], above), by)


def next_due(connection: Connection) -> float | None:
    """Seconds until a retry is due or a lease ends on which something waits."""
    seconds = connection.execute(_NEXT_DUE).fetchone()[0]
    return None if seconds is None else max(0.0, seconds)


def renew(
    tx: PostgresqlTransaction, worker: str, claims: Sequence[Claim], lease: float
) -> frozenset[EnvironmentKey]:
    """Prolong the leases that are still the worker's; returns their environments."""
    kept = set()
    for each in sorted(claims, key=lambda claim: (claim.environment.fraise, claim.environment.environment)):
        key = each.environment
        place = {"fraise": key.fraise, "environment": key.environment}
        if tx.execute(_RENEW, {**place, "lease": lease, "token": each.token, "worker": worker}).rowcount:
            kept.add(key)
    tx.later(_SIGN_OF_LIFE, {"lease": lease, "worker": worker})
    tx.later(_SHORTEN_LEASES, ())
    tx.later(_SHORTEN_PAUSES, ())
    return frozenset(kept)


def live_workers(connection: Connection) -> list[Any]:
    """Workers whose last sign of life is recent enough."""
    return connection.execute(_LIVE_WORKERS).fetchall()
