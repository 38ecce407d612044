"""The journal of a deployment: attempts, steps, output, and how it ended.

Who gives a claim has checked its token in the same transaction (`claims.hold`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from fraisier.application.ports import Claim, Ending, Serving
from fraisier.application.ports.news import News
from fraisier.database import bounded_output
from fraisier.database.bounded_output import OutputTable
from fraisier.database.claims import ended_by_cancel, let_go
from fraisier.database.clocks import unix
from fraisier.database.deployment_rows import (
    SUPERSEDED_HINT,
    change_deployment,
    load_deployment,
    superseded_by,
)
from fraisier.database.hosts import note
from fraisier.database.runs import follow
from fraisier.database.transaction import DatabaseRow, Transaction
from fraisier.domain.deployment import REPLACEABLE, Deployment, Status, Trigger
from fraisier.domain.errors import Cause, Conflict, StepFailed
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.rollout import Standing

_INTERRUPT_STEPS = """
UPDATE tb_deployment_steps SET state = 'interrupted', ended_at = :now
 WHERE deployment = :deployment AND state = 'running'
"""
_INTERRUPT_ATTEMPTS = """
UPDATE tb_deployment_attempts SET ended_at = :now, outcome = 'interrupted'
 WHERE deployment = :deployment AND ended_at IS NULL
"""
_RAISE_TOKEN = "UPDATE tb_environments SET token = token + 1 WHERE fraise = ? AND name = ?"
_BEGIN_ATTEMPT = """
INSERT INTO tb_deployment_attempts (deployment, number, worker, token, resolved, started_at)
VALUES (:deployment,
        (SELECT coalesce(max(number), 0) + 1 FROM tb_deployment_attempts WHERE deployment = :deployment),
        :worker, :token, :resolved, :now)
"""
_END_ATTEMPT = """
UPDATE tb_deployment_attempts SET ended_at = ?, outcome = ?, error = ? WHERE deployment = ? AND number = ?
"""

_NEXT_RELEASE = "UPDATE tb_environments SET releases = releases + 1 WHERE fraise = ? AND name = ?"
_RELEASES = "SELECT releases FROM tb_environments WHERE fraise = ? AND name = ?"
_SEE_TIP = "UPDATE tb_environments SET seen_tip = ? WHERE fraise = ? AND name = ?"

_BEGIN_STEP = """
INSERT INTO tb_deployment_steps (deployment, attempt, phase, step, host, state, release, started_at)
VALUES (?, ?, ?, ?, ?, 'running', ?, ?) RETURNING pk
"""
# The attempt's number is not known yet: both go to the server together.
_FIRST_STEP = """
INSERT INTO tb_deployment_steps (deployment, attempt, phase, step, host, state, release, started_at)
VALUES (:deployment, (SELECT max(number) FROM tb_deployment_attempts WHERE deployment = :deployment),
        :phase, :step, :host, 'running', :release, :now)
RETURNING attempt, pk
"""
_STEP = "SELECT state, started_at FROM tb_deployment_steps WHERE pk = ? AND deployment = ?"
_END_STEP = """
UPDATE tb_deployment_steps
   SET state = ?, ended_at = ?, duration = ?, tail = ?, error = ?, cause = ?, hint = ?
 WHERE pk = ?
"""

_OUTPUT = OutputTable(
    volume="SELECT head, tail, dropped FROM tb_step_volumes WHERE step = ?",
    note_volume="""
INSERT INTO tb_step_volumes (step, head, tail, dropped) VALUES (?, ?, ?, ?)
    ON CONFLICT (step) DO UPDATE SET head = excluded.head, tail = excluded.tail, dropped = excluded.dropped
""",
    write="""
INSERT INTO tb_step_output (deployment, step, part, bytes, written_at, text) VALUES (?, ?, ?, ?, ?, ?)
""",
    oldest_tail="SELECT seq, bytes FROM tb_step_output WHERE step = ? AND part = 'tail' ORDER BY seq LIMIT 1",
    gap="SELECT seq FROM tb_step_output WHERE step = ? AND part = 'gap'",
    make_gap="UPDATE tb_step_output SET part = 'gap', bytes = 0, text = '' WHERE seq = ?",
    describe_gap="UPDATE tb_step_output SET text = ? WHERE step = ? AND part = 'gap'",
    drop="DELETE FROM tb_step_output WHERE seq = ?",
)

_PLACE = """
SELECT current_release, current_deployment, quarantine FROM tb_environments WHERE fraise = ? AND name = ?
"""
_DEPLOYED = "UPDATE tb_environments SET last_deployed_at = ? WHERE fraise = ? AND name = ?"
_QUARANTINE = "UPDATE tb_environments SET quarantine = ? WHERE fraise = ? AND name = ?"

# Of an environment's pending deployments the newest one, if it was asked for after this one.
_NEWEST_PENDING = """
SELECT d.id FROM tb_deployments d
 WHERE d.fraise = ? AND d.environment = ? AND d.status = 'pending'
   AND d.pk > (SELECT o.pk FROM tb_deployments o WHERE o.id = ?)
   AND (CAST(? AS boolean) OR d.force OR d.trigger = 'rollback')
 ORDER BY d.pk DESC LIMIT 1
"""


# ---------------------------------------------------------------------------------------------- attempts


def begin_attempt(tx: Transaction, claim: Claim, resolved: str) -> int:
    """A new attempt; returns its number. What an earlier one left running is `interrupted`."""
    begun = _begun(tx, claim, resolved)
    return int(tx.execute(f"{_BEGIN_ATTEMPT} RETURNING number", begun).fetchone()[0])


def begin_with_step(
    tx: Transaction, claim: Claim, resolved: str, *, phase: Phase, name: StepName, release: str, host: str
) -> tuple[int, int]:
    """A new attempt with its first step; returns the attempt's number and the step's id."""
    begun = _begun(tx, claim, resolved)
    tx.later(_BEGIN_ATTEMPT, begun)
    step = {"phase": phase.value, "step": name.value, "host": host, "release": release}
    here = {"deployment": claim.deployment.id, "now": begun["now"]}
    attempt, pk = tx.execute(_FIRST_STEP, {**here, **step}).fetchone()
    tx.tell(News.step)
    return int(attempt), int(pk)


def _begun(tx: Transaction, claim: Claim, resolved: str) -> dict[str, Any]:
    """What `_BEGIN_ATTEMPT` is given, when what was left running is interrupted."""
    _interrupt(tx, claim.deployment.id)
    by = {"deployment": claim.deployment.id, "worker": claim.worker, "token": claim.token}
    return {**by, "resolved": resolved, "now": tx.stamp}


def interrupt_left(tx: Transaction, left: Sequence[DatabaseRow]) -> int:
    """End the attempts that dead workers left (`fraise`, `environment`, `deployment`); returns how many.

    A new token first: whoever is not as dead as it seems must not go on with an attempt that has ended.
    """
    for row in left:
        tx.later(_RAISE_TOKEN, (row["fraise"], row["environment"]))
        tx.later(tx.sql.let_go, (row["fraise"], row["environment"]))
        _interrupt(tx, row["deployment"])
    tx.tell(News.work if left else News.nothing)
    return len(left)


def _interrupt(tx: Transaction, deployment: str) -> None:
    left = {"deployment": deployment, "now": tx.stamp}
    tx.later(_INTERRUPT_STEPS, left)
    tx.later(_INTERRUPT_ATTEMPTS, left)


def next_release_number(tx: Transaction, claim: Claim) -> int:
    """A number that no release of the environment had."""
    place = _place(claim)
    tx.later(_NEXT_RELEASE, place)
    row = tx.row(_RELEASES, place)
    return int(row[0]) if row else 0


def pin(tx: Transaction, claim: Claim, commit: str, seen_tip: str) -> None:
    """Fix the commit, for good.

    Raises:
        Conflict: another one is pinned.
    """
    before = load_deployment(tx, claim.deployment.id)
    if before.commit and before.commit != commit:
        message = f"cannot pin {commit[:12]}: the deployment {before.id} is about {before.commit[:12]}"
        raise Conflict(message, "Request another deployment for the other commit")
    if not before.commit:
        change_deployment(tx, before, replace(before, commit=commit))
    if seen_tip:
        tx.later(_SEE_TIP, (seen_tip, *_place(claim)))


def set_release(tx: Transaction, claim: Claim, release: str, previous: str) -> None:
    """Which release the deployment brings in, and which it would go back to."""
    before = load_deployment(tx, claim.deployment.id)
    change_deployment(tx, before, replace(before, release=release, previous_release=previous))


def _place(claim: Claim) -> tuple[str, str]:
    return claim.environment.fraise, claim.environment.environment


# ------------------------------------------------------------------------------------------------- steps


def begin_step(
    tx: Transaction, claim: Claim, attempt: int, *, phase: Phase, name: StepName, release: str, host: str
) -> int:
    """Journal that a step begins; returns its id."""
    row = (claim.deployment.id, attempt, phase.value, name.value, host, release, tx.stamp)
    tx.tell(News.step)
    return int(tx.execute(_BEGIN_STEP, row).fetchone()[0])


def end_step(
    tx: Transaction, claim: Claim, step: int, *, state: StepState, tail: str, failure: StepFailed | None
) -> None:
    """Journal how a step ended, and why.

    Raises:
        Conflict: it has ended already, or is none of this deployment.
    """
    row = tx.row(_STEP, (step, claim.deployment.id))
    if row is None or row["state"] != StepState.running:
        message = f"cannot end step {step}: it does not run"
        raise Conflict(message, "Begin a new step; the journal keeps what was written")
    duration = max(0.0, round(tx.now - unix(row["started_at"]), 6))
    why = (failure.message, failure.cause.value, failure.hint) if failure else ("", None, "")
    tx.later(_END_STEP, (state.value, tx.at, duration, tail, *why, step))
    tx.tell(News.step)


def write_output(tx: Transaction, claim: Claim, step: int, text: str) -> None:
    """Append output, bounded."""
    bounded_output.write_output(tx, _OUTPUT, (claim.deployment.id, step), text)


# ----------------------------------------------------------------------------------------------- endings


def finish(tx: Transaction, claim: Claim, attempt: int, ending: Ending) -> Deployment:
    """End attempt and deployment, note what runs and what is quarantined, release the lease."""
    before = load_deployment(tx, claim.deployment.id)
    ended = before.becomes(ending.status, cause=ending.cause, error=ending.error, hint=ending.hint)
    after = replace(ended, completed_at=tx.now)
    change_deployment(tx, before, after)
    _end_attempt(tx, claim, attempt, outcome=ending.status.value, error=ending.error)
    deployed = ending.status is Status.success and before.trigger is not Trigger.heal
    if ending.serving is not None:
        _serve(tx, claim, ending.serving, succeeded=deployed)
    if ending.hosts:
        note(tx, claim, ending.hosts)
    if deployed:
        tx.later(_DEPLOYED, (tx.at, *_place(claim)))
        _lift(tx, claim, after.commit)
    if after.commit and (ending.quarantine or ending.cause is Cause.force_push_refused):
        _bar(tx, claim, after)
    follow(tx, ending.runs)
    let_go(tx, claim)
    return after


def _end_attempt(tx: Transaction, claim: Claim, attempt: int, *, outcome: str, error: str) -> None:
    tx.later(_INTERRUPT_STEPS, {"deployment": claim.deployment.id, "now": tx.at})
    tx.later(_END_ATTEMPT, (tx.at, outcome, error, claim.deployment.id, attempt))


def _serve(tx: Transaction, claim: Claim, serving: Serving, *, succeeded: bool) -> None:
    row = tx.row(_PLACE, _place(claim))
    as_before = row is not None and serving.release and row["current_release"] == serving.release
    earlier = (row["current_deployment"] or "") if row is not None and as_before else ""
    values = {
        "release": serving.release,
        "commit": serving.commit,
        "deployment": claim.deployment.id if succeeded else earlier,
        "healthy": serving.healthy,
        "fraise": claim.environment.fraise,
        "environment": claim.environment.environment,
    }
    tx.later(tx.sql.serves, values)


def _bar(tx: Transaction, claim: Claim, deployment: Deployment) -> None:
    """Only `deploy --force` brings this commit again; a refused force push, any person's `deploy` does."""
    quarantine = _quarantine(tx, claim)
    cause = deployment.cause.value if deployment.cause else ""
    quarantine[deployment.commit] = {"at": tx.at, "deployment": deployment.id, "cause": cause}
    tx.later(_QUARANTINE, (orjson.dumps(quarantine).decode(), *_place(claim)))


def _lift(tx: Transaction, claim: Claim, commit: str) -> None:
    """What has succeeded is not barred any more."""
    quarantine = _quarantine(tx, claim)
    if quarantine.pop(commit, None) is not None:
        tx.later(_QUARANTINE, (orjson.dumps(quarantine).decode(), *_place(claim)))


def _quarantine(tx: Transaction, claim: Claim) -> dict[str, Any]:
    row = tx.row(_PLACE, _place(claim))
    known: dict[str, Any] = orjson.loads(row["quarantine"]) if row is not None else {}
    return known


def retry_later(
    tx: Transaction,
    claim: Claim,
    attempt: int,
    *,
    delay: float,
    cause: Cause,
    error: str,
    hint: str,
    hosts: Sequence[Standing],
) -> Deployment:
    """End the attempt; the deployment waits, unless it was cancelled or a newer one waits already."""
    before = load_deployment(tx, claim.deployment.id)
    newer = _newer(tx, claim, before)
    retry_in: float | None = None
    if before.cancel_requested_by:
        after = ended_by_cancel(before, before.cancel_requested_by, tx.now)
    elif newer:
        said = superseded_by(newer)
        ended = before.becomes(Status.superseded, cause=Cause.superseded, error=said, hint=SUPERSEDED_HINT)
        after = replace(ended, completed_at=tx.now)
    else:
        waiting = before.becomes(Status.pending, cause=cause, error=error, hint=hint)
        after = replace(waiting, not_before=tx.now + delay)
        retry_in = delay
    change_deployment(tx, before, after, retry_in=retry_in)
    if hosts:
        note(tx, claim, hosts)
    outcome = "retry" if after.status is Status.pending else after.status.value
    _end_attempt(tx, claim, attempt, outcome=outcome, error=error)
    let_go(tx, claim)
    return after


def _newer(tx: Transaction, claim: Claim, deployment: Deployment) -> str:
    """A newer deployment that waits and takes the place of this one; '' where none does.

    What a person asked for gives way only to what goes first: tried again after that, it would undo it.
    """
    row = tx.row(_NEWEST_PENDING, (*_place(claim), deployment.id, deployment.trigger in REPLACEABLE))
    return row["id"] if row else ""
