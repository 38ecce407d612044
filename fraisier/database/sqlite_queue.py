"""Claims: who may change which environment, until when, and what comes next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import orjson

from fraisier.application.ports import Claim, JournaledStep
from fraisier.database.clocks import Clocks, unix, unix_or_none
from fraisier.database.sqlite_deployments import change_deployment, deployment_of, load_deployment
from fraisier.database.sqlite_transaction import Transaction, Values, as_json
from fraisier.domain.deployment import Deployment, Status
from fraisier.domain.errors import Cause, Conflict, NotFound, TokenOutdated
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.plan import Phase, StepName, StepState

_LEASE_HOLDERS = "SELECT DISTINCT lease_worker FROM tb_environments WHERE lease_worker <> ''"

# The head of the queue among free environments: an interrupted deployment first, then rollbacks, then the
# oldest that waits. :dead are workers whose lock is free; a lease of another boot has ended. An interrupted
# deployment is recovered even where the environment is paused. What was asked for in an environment that the
# configuration no longer has is claimed too: somebody has to bring it to its end.
_NEXT = """
SELECT d.*, e.token, e.current_release, e.current_commit, e.current_deployment, e.quarantine
  FROM (SELECT json_extract(value, '$[0]') AS fraise, json_extract(value, '$[1]') AS name
          FROM json_each(:keys)
         UNION
        SELECT fraise, name FROM tb_environments WHERE NOT published) k
 CROSS JOIN tb_environments e ON e.fraise = k.fraise AND e.name = k.name
  CROSS JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name
                             AND d.status IN ('running', 'pending')
 WHERE (e.lease_worker = '' OR e.lease_boot <> :boot OR e.lease_until <= :boottime
        OR e.lease_worker IN (SELECT value FROM json_each(:dead))
        OR e.lease_worker IN (SELECT id FROM tb_workers WHERE retired_at IS NOT NULL))
   AND (d.status = 'running'
        OR NOT e.paused
           AND (d.retry_at IS NULL OR d.retry_boot <> :boot OR d.retry_at <= :boottime))
 ORDER BY d.status = 'running' DESC, d.trigger = 'rollback' DESC, d.pk
 LIMIT 1
"""

_TAKE = """
UPDATE tb_environments SET token = token + 1, lease_worker = ?, lease_until = ?, lease_boot = ?
 WHERE fraise = ? AND name = ?
"""

_JOURNAL = "SELECT * FROM tb_deployment_steps WHERE deployment = ? ORDER BY pk"
_ATTEMPTS = (
    "SELECT number, resolved, started_at, outcome FROM tb_deployment_attempts"
    " WHERE deployment = ? ORDER BY number"
)

# When a waiting retry is due, and when a lease ends on which something waits.
_NEXT_DUE = """
SELECT min(moment) FROM (
    SELECT d.retry_at AS moment
      FROM tb_environments e
      JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name AND d.status = 'pending'
     WHERE d.retry_boot = :boot AND d.retry_at > :boottime AND NOT e.paused
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

_CANCEL_REQUESTS = """
SELECT d.id, d.cancel_requested_by
  FROM tb_environments e
  JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name AND d.status = 'running'
 WHERE e.lease_worker = ? AND d.cancel_requested_by <> ''
"""

_TOKEN = "SELECT token FROM tb_environments WHERE fraise = ? AND name = ?"
_LET_GO = """
UPDATE tb_environments SET lease_worker = '', lease_until = 0, lease_boot = '' WHERE fraise = ? AND name = ?
"""

_HOLDER = (
    "SELECT token, lease_worker, lease_until, lease_boot FROM tb_environments WHERE fraise = ? AND name = ?"
)
_RAISE_TOKEN = "UPDATE tb_environments SET token = ? WHERE fraise = ? AND name = ?"

IsDead = Callable[[str], bool]


def is_anything_due(
    connection: sqlite3.Connection, clocks: Clocks, environments: Collection[EnvironmentKey], is_dead: IsDead
) -> bool:
    """Whether a claim would find something: a look without the writer's lock."""
    holders = [row[0] for row in connection.execute(_LEASE_HOLDERS)]
    return connection.execute(_NEXT, _wanted(clocks, environments, holders, is_dead)).fetchone() is not None


def claim(
    tx: Transaction, worker: str, lease: float, environments: Collection[EnvironmentKey], is_dead: IsDead
) -> Claim | None:
    """Take the head of the queue, with a new token and a lease of `lease` seconds."""
    holders = [row[0] for row in tx.execute(_LEASE_HOLDERS)]
    row = tx.row(_NEXT, _wanted(tx.clocks, environments, holders, is_dead))
    if row is None:
        return None
    key = EnvironmentKey(row["fraise"], row["environment"])
    clocks = tx.clocks
    tx.execute(_TAKE, (worker, clocks.boottime() + lease, clocks.boot_id, key.fraise, key.environment))
    attempts = tx.execute(_ATTEMPTS, (row["id"],)).fetchall()
    retried = {each["number"] for each in attempts if each["outcome"] == "retry"}
    tx.wakes = True  # followers see it running, and other workers wait for this lease from now on
    return Claim(
        environment=key,
        token=row["token"] + 1,
        worker=worker,
        deployment=_started(tx, deployment_of(row)),
        current_release=row["current_release"],
        current_commit=row["current_commit"],
        current_deployment=row["current_deployment"],
        journal=tuple(_journaled(step, retried) for step in tx.execute(_JOURNAL, (row["id"],))),
        resolved=attempts[-1]["resolved"] if attempts else "",
        attempts=len(attempts),
        interruptions=len(attempts) - len(retried),
        quarantined=_quarantined(row["quarantine"]),
        first_try_at=unix(attempts[0]["started_at"]) if attempts else None,
    )


def _wanted(
    clocks: Clocks, environments: Collection[EnvironmentKey], holders: Sequence[str], is_dead: IsDead
) -> Values:
    return {
        "keys": as_json((key.fraise, key.environment) for key in environments),
        "boot": clocks.boot_id,
        "boottime": clocks.boottime(),
        "dead": as_json(holder for holder in holders if is_dead(holder)),
    }


def _quarantined(document: str) -> frozenset[str]:
    """Commits that failed here; a refused force push is not among them, for a person may deploy it."""
    entries = orjson.loads(document)
    return frozenset(c for c, entry in entries.items() if entry["cause"] != Cause.force_push_refused)


def _started(tx: Transaction, deployment: Deployment) -> Deployment:
    if deployment.status is Status.running:
        return deployment
    running = replace(
        deployment.becomes(Status.running), started_at=deployment.started_at or tx.now, not_before=0.0
    )
    change_deployment(tx, deployment, running)
    return running


def _journaled(row: sqlite3.Row, retried: Collection[int]) -> JournaledStep:
    return JournaledStep(
        id=row["pk"],
        attempt=row["attempt"],
        phase=Phase(row["phase"]),
        name=StepName(row["step"]),
        state=StepState(row["state"]),
        started_at=unix(row["started_at"]),
        ended_at=unix_or_none(row["ended_at"]),
        release=row["release"],
        error=row["error"],
        retried=row["attempt"] in retried,
    )


def raise_token(tx: Transaction, key: EnvironmentKey, above: int, by: str, is_dead: IsDead) -> int:
    """A token over the environment's own and `above`.

    Raises:
        Conflict: a worker holds the environment.
        NotFound: no such environment was published.
    """
    row = tx.row(_HOLDER, (key.fraise, key.environment))
    if row is None:
        raise NotFound(f"cannot find environment {key}: it was not published", "See `fraisier list`")
    holder, now = row["lease_worker"], tx.clocks.boottime()
    if row["lease_boot"] == tx.clocks.boot_id and row["lease_until"] > now and not is_dead(holder):
        message = f"cannot adopt {key}: worker {holder} is deploying to it"
        raise Conflict(message, "Wait for it, or cancel its deployment: see `fraisier status`")
    token = int(max(row["token"], above)) + 1
    tx.execute(_RAISE_TOKEN, (token, key.fraise, key.environment))
    tx.audit(actor=by, action="adopt", subject=str(key), detail={"token": token})
    return token


def next_due(connection: sqlite3.Connection, clocks: Clocks) -> float | None:
    """Seconds until a retry is due or a lease ends on which something waits."""
    boottime = clocks.boottime()
    moment = connection.execute(_NEXT_DUE, {"boot": clocks.boot_id, "boottime": boottime}).fetchone()[0]
    return None if moment is None else max(0.0, moment - boottime)


def renew(tx: Transaction, worker: str, claims: Sequence[Claim], lease: float) -> frozenset[EnvironmentKey]:
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


def cancel_requests(connection: sqlite3.Connection, worker: str) -> dict[str, str]:
    """Deployments that the worker runs and someone wants to stop: id -> who."""
    return {row[0]: row[1] for row in connection.execute(_CANCEL_REQUESTS, (worker,))}


def cancel(tx: Transaction, deployment: str, by: str) -> Deployment:
    """Cancel a pending deployment; ask the worker of a running one.

    Raises:
        NotFound: no such deployment.
        Conflict: it has ended.
    """
    before = load_deployment(tx, deployment)
    if before.status.is_final:
        message = f"cannot cancel the deployment {deployment}: it has ended ({before.status})"
        raise Conflict(message, f"Go back with `fraisier rollback {_typed(before.environment)}`")
    after = _cancelled(tx, before, by)
    change_deployment(tx, before, after)
    tx.audit(actor=by, action="cancel", subject=deployment, detail={"status": before.status.value})
    tx.wakes = True
    return after


def _cancelled(tx: Transaction, before: Deployment, by: str) -> Deployment:
    if before.status is Status.running:
        return replace(before, cancel_requested_by=before.cancel_requested_by or by)
    return ended_by_cancel(before, by, tx.now)


def ended_by_cancel(before: Deployment, by: str, now: float) -> Deployment:
    """A deployment that somebody called off."""
    hint = f"Request it again with `fraisier deploy {_typed(before.environment)}`"
    error = f"cancelled by {by}"
    after = before.becomes(Status.cancelled, cause=Cause.cancelled, error=error, hint=hint)
    return replace(after, cancel_requested_by=by, completed_at=now)


def _typed(key: EnvironmentKey) -> str:
    return f"{key.fraise} {key.environment}"


def hold(tx: Transaction, claim: Claim) -> None:
    """Return if the claim's token is still the newest of its environment.

    Raises:
        TokenOutdated: a higher one was given out.
    """
    key = claim.environment
    row = tx.row(_TOKEN, (key.fraise, key.environment))
    if row is None or row["token"] != claim.token:
        message = f"cannot go on with {key}: another worker has taken it over"
        raise TokenOutdated(message, "Nothing to do: that worker finishes the deployment")


def let_go(tx: Transaction, claim: Claim) -> None:
    """Give up the lease; the deployment stays as it is."""
    tx.execute(_LET_GO, (claim.environment.fraise, claim.environment.environment))
    tx.wakes = True
