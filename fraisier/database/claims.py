"""Claims, as far as they are the same on every database: what one holds, keeps, cancels and lets go of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from fraisier.application.ports import Claim, JournaledStep
from fraisier.application.ports.news import News
from fraisier.database.clocks import unix, unix_or_none
from fraisier.database.databases import notes_of
from fraisier.database.deployment_rows import change_deployment, deployment_of, locked_deployment
from fraisier.database.transaction import Connection, DatabaseRow, Transaction
from fraisier.domain.deployment import Deployment, Status
from fraisier.domain.errors import Cause, Conflict, NotFound, TokenOutdated
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.plan import Phase, StepName, StepState

_CANCEL_REQUESTS = """
SELECT d.id, d.cancel_requested_by
  FROM tb_environments e
  JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name AND d.status = 'running'
 WHERE e.lease_worker = ? AND d.cancel_requested_by <> ''
"""
_RAISE_TOKEN = "UPDATE tb_environments SET token = ? WHERE fraise = ? AND name = ?"


def claim_of(
    tx: Transaction,
    worker: str,
    row: DatabaseRow,
    attempts: Sequence[Mapping[str, Any]],
    steps: Iterable[Mapping[str, Any]],
) -> Claim:
    """The claim on a deployment whose environment was just taken.

    `row` has the deployment's columns, and the environment's token (as it was before), current_release,
    current_commit, current_deployment and quarantine; `attempts` (number, resolved, started_at, ended_at,
    outcome) and `steps` are its journal so far, oldest first.
    """
    retried = [each["number"] for each in attempts if each["outcome"] == "retry"]
    tx.tell(News.claim)  # followers see it running, and other workers wait for this lease from now on
    return Claim(
        environment=EnvironmentKey(row["fraise"], row["environment"]),
        token=row["token"] + 1,
        worker=worker,
        deployment=_started(tx, deployment_of(row)),
        current_release=row["current_release"],
        current_commit=row["current_commit"],
        current_deployment=row["current_deployment"] or "",
        journal=tuple(_journaled(step, max(retried, default=0)) for step in steps),
        changes=notes_of(tx, row["id"]) if attempts else (),
        resolved=attempts[-1]["resolved"] if attempts else "",
        attempts=len(attempts),
        interruptions=len(attempts) - len(retried),
        quarantined=_quarantined(row["quarantine"]),
        tried_for=sum(_took(each) for each in attempts if each["outcome"] == "retry"),
    )


def _took(attempt: Mapping[str, Any]) -> float:
    return max(0.0, unix(attempt["ended_at"]) - unix(attempt["started_at"]))


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


def _journaled(row: Mapping[str, Any], last_retried: int) -> JournaledStep:
    """Who decides on another try has brought to an end what those before had left, too."""
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
        cause=Cause(row["cause"]) if row["cause"] else None,
        hint=row["hint"],
        retried=row["attempt"] <= last_retried,
        host=row["host"],
    )


def cancel_requests(connection: Connection, worker: str) -> dict[str, str]:
    """Deployments that the worker runs and someone wants to stop: id -> who."""
    return {row[0]: row[1] for row in connection.execute(_CANCEL_REQUESTS, (worker,))}


def cancel(tx: Transaction, deployment: str, by: str) -> Deployment:
    """Cancel a pending deployment; ask the worker of a running one.

    Raises:
        NotFound: no such deployment.
        Conflict: it has ended.
    """
    before = locked_deployment(tx, deployment)
    if before.status.is_final:
        message = f"cannot cancel the deployment {deployment}: it has ended ({before.status})"
        raise Conflict(message, f"Go back with `fraisier rollback {_typed(before.environment)}`")
    after = _cancelled(tx, before, by)
    change_deployment(tx, before, after)
    tx.audit(actor=by, action="cancel", subject=deployment, detail={"status": before.status.value})
    tx.tell(News.work)
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
    """Go on only if the claim's token is still the newest of its environment.

    Raises:
        TokenOutdated: a higher one was given out.
    """
    key = claim.environment

    def check(row: DatabaseRow | None) -> None:
        if row is None or row["token"] != claim.token:
            message = f"cannot go on with {key}: another worker has taken it over"
            raise TokenOutdated(message, "Nothing to do: that worker finishes the deployment")

    tx.expect(tx.sql.held_token, (key.fraise, key.environment), check)


def let_go(tx: Transaction, claim: Claim) -> None:
    """Give up the lease; the deployment stays as it is."""
    tx.later(tx.sql.let_go, (claim.environment.fraise, claim.environment.environment))
    tx.tell(News.work)


def raise_token_over(tx: Transaction, key: EnvironmentKey, token: int, by: str) -> int:
    """Give the environment the token after `token`, and note who wanted it."""
    raised = token + 1
    tx.later(_RAISE_TOKEN, (raised, key.fraise, key.environment))
    tx.audit(actor=by, action="adopt", subject=str(key), detail={"token": raised})
    return raised


def never_published(key: EnvironmentKey) -> NotFound:
    """For a token that cannot be raised."""
    return NotFound(f"cannot find environment {key}: it was not published", "See `fraisier list`")


def held_by(key: EnvironmentKey, worker: str) -> Conflict:
    """For a token that cannot be raised."""
    message = f"cannot adopt {key}: worker {worker} is deploying to it"
    return Conflict(message, "Wait for it, or cancel its deployment: see `fraisier status`")
