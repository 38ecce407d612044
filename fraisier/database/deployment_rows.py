"""Rows of tb_deployments: to and from the domain's object, and how one is changed.

Only superseding is elsewhere (`deciding`), where one statement does it to many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fraisier.database.clocks import iso, unix, unix_or_none
from fraisier.database.transaction import DatabaseRow, Transaction
from fraisier.domain.deployment import Deployment, Status, Trigger
from fraisier.domain.errors import Cause, NotFound
from fraisier.domain.fraise import EnvironmentKey

_INSERT = """
INSERT INTO tb_deployments (id, fraise, environment, ref, "commit", status, trigger, requested_by,
    requested_at, event, force, release, with_database, completed_at, cause, error_message, hint)
"""
_INSERT_WIDTH = 17

SUPERSEDED_HINT = "Nothing to do: the newer one takes its place"

Columns = tuple[Any, ...]


def deployment_rows(
    tx: Transaction, deployments: Iterable[Deployment], replaced: Mapping[str, str]
) -> list[Columns]:
    """New deployments as rows.

    `replaced` has those that a newer one of the same batch took the place of: id -> the newer one's id.
    """
    return [_new_row(each, tx.at, replaced.get(each.id)) for each in deployments]


def insert_deployments(tx: Transaction, rows: Sequence[Columns]) -> None:
    """Store new deployments, and count them."""
    tx.insert(_INSERT, _INSERT_WIDTH, rows)
    for (fraise, environment, status), number in Counter((row[1], row[2], row[5]) for row in rows).items():
        tx.count_deployment((fraise, environment), tx.at, status, number)


def superseded_by(newer: str) -> str:
    """Why a deployment is `superseded`."""
    return f"superseded by the newer deployment {newer}"


def _new_row(deployment: Deployment, at: str, newer: str | None) -> Columns:
    key = deployment.environment
    return (
        deployment.id,
        key.fraise,
        key.environment,
        deployment.ref,
        deployment.commit,
        "pending" if newer is None else "superseded",
        deployment.trigger.value,
        deployment.requested_by,
        at,
        deployment.event_id or None,
        deployment.force,
        deployment.release,
        deployment.with_database,
        None if newer is None else at,
        None if newer is None else "superseded",
        "" if newer is None else superseded_by(newer),
        "" if newer is None else SUPERSEDED_HINT,
    )


def deployment_of(row: DatabaseRow) -> Deployment:
    """The domain's object of a row."""
    return Deployment(
        id=row["id"],
        environment=EnvironmentKey(row["fraise"], row["environment"]),
        ref=row["ref"],
        commit=row["commit"],
        status=Status(row["status"]),
        trigger=Trigger(row["trigger"]),
        requested_by=row["requested_by"],
        requested_at=unix(row["requested_at"]),
        force=bool(row["force"]),
        event_id=row["event"] or "",
        started_at=unix_or_none(row["started_at"]),
        completed_at=unix_or_none(row["completed_at"]),
        cause=Cause(row["cause"]) if row["cause"] else None,
        error_message=row["error_message"],
        hint=row["hint"],
        release=row["release"],
        previous_release=row["previous_release"],
        with_database=bool(row["with_database"]),
        cancel_requested_by=row["cancel_requested_by"],
        not_before=unix_or_none(row["not_before"]) or 0.0,
    )


def load_deployment(tx: Transaction, deployment: str) -> Deployment:
    """The deployment with that id.

    Raises:
        NotFound: there is none.
    """
    row = tx.row(tx.sql.deployment_by_id, {"id": deployment})
    if row is None:
        message = f"cannot find the deployment {deployment!r}"
        raise NotFound(message, "See `fraisier history`")
    return deployment_of(row)


def locked_deployment(tx: Transaction, deployment: str) -> Deployment:
    """The same, with its environment locked against others.

    Raises:
        NotFound: there is none.
    """
    key = load_deployment(tx, deployment).environment
    tx.lock([(key.fraise, key.environment)])
    return load_deployment(tx, deployment)  # as it is now that nobody else changes it


def change_deployment(
    tx: Transaction, before: Deployment, after: Deployment, *, retry_in: float | None = None
) -> None:
    """Store `after`, which came of `before` by the domain's rules, and count the change.

    Raises:
        ForbiddenTransition: its status may not follow.
    """
    if after.status is not before.status:
        before.status.check(after.status)
    duration = _duration(after)
    tx.later(
        tx.sql.change_deployment,
        {
            "id": after.id,
            "status": after.status.value,
            "commit": after.commit,
            "started_at": None if after.started_at is None else iso(after.started_at),
            "completed_at": None if after.completed_at is None else iso(after.completed_at),
            "duration": duration,
            "cause": after.cause and after.cause.value,
            "error": after.error_message,
            "hint": after.hint,
            "release": after.release,
            "previous_release": after.previous_release,
            "cancel_requested_by": after.cancel_requested_by,
            "not_before": iso(after.not_before) if after.not_before else None,
            **({"until": None, "boot": ""} if retry_in is None else tx.moment(retry_in)),
        },
    )
    if after.status is not before.status:
        place, requested = (after.environment.fraise, after.environment.environment), iso(after.requested_at)
        tx.count_deployment(place, requested, before.status.value, -1)
        tx.count_deployment(place, requested, after.status.value, 1, duration)


def _duration(deployment: Deployment) -> float | None:
    if deployment.started_at is None or deployment.completed_at is None:
        return None
    # Wall clocks jump; nobody is served by a negative duration.
    return max(0.0, round(deployment.completed_at - deployment.started_at, 6))
