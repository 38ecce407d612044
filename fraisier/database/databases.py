"""What deployments do to the databases of their environments: notes, and who works on which database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from fraisier.application.ports import Claim, Holder, Row
from fraisier.application.ports.news import News
from fraisier.database.transaction import Connection, DatabaseRow, Transaction
from fraisier.database.views import as_json_types
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.migration import DatabaseChange, Kind

_NOTE = """
INSERT INTO tb_database_changes (deployment, attempt, at, kind, revision, detail) VALUES (?, ?, ?, ?, ?, ?)
"""
_NOTES = "SELECT * FROM tb_database_changes WHERE deployment = ? ORDER BY pk"
_CHANGES = """
SELECT * FROM v_database_change WHERE fraise_id = :fraise AND environment = :environment ORDER BY position
"""
_CHANGES_OF_ONE = "SELECT * FROM v_database_change WHERE deployment_id = ? ORDER BY position"

# The row is ours, or of a deployment that does not run any more: then it has ended, or waits for another try.
_TAKE = """
INSERT INTO tb_database_locks (name, deployment, taken_at) VALUES (:name, :deployment, :now)
    ON CONFLICT (name) DO UPDATE SET deployment = excluded.deployment, taken_at = excluded.taken_at
 WHERE tb_database_locks.deployment = excluded.deployment
    OR NOT EXISTS (SELECT 1 FROM tb_deployments d
                    WHERE d.id = tb_database_locks.deployment AND d.status = 'running')
RETURNING name
"""
_HOLDER = """
SELECT l.taken_at, d.id, d.fraise, d.environment
  FROM tb_database_locks l JOIN tb_deployments d ON d.id = l.deployment WHERE l.name = ?
"""
_FREE = "DELETE FROM tb_database_locks WHERE deployment = ?"


def note(tx: Transaction, claim: Claim, change: DatabaseChange) -> None:
    """Write a note; nobody changes it again."""
    detail = orjson.dumps(change.detail).decode()
    values = (claim.deployment.id, change.attempt, tx.at, change.kind.value, change.revision, detail)
    tx.later(_NOTE, values)
    tx.tell(News.work)


def notes_of(connection: Connection | Transaction, deployment: str) -> tuple[DatabaseChange, ...]:
    """The notes of a deployment, oldest first."""
    return tuple(_change(row) for row in connection.execute(_NOTES, (deployment,)))


def _change(row: DatabaseRow) -> DatabaseChange:
    return DatabaseChange(
        kind=Kind(row["kind"]),
        revision=row["revision"],
        attempt=row["attempt"],
        at=str(row["at"]),
        detail=_detail(row),
    )


def _detail(row: DatabaseRow) -> Any:
    found = row["detail"]
    return orjson.loads(found) if isinstance(found, str) else found


def changes(connection: Connection, key: EnvironmentKey, deployment: str) -> Sequence[Row]:
    """Rows of v_database_change of an environment, or of one deployment, oldest first."""
    if deployment:
        found = connection.execute(_CHANGES_OF_ONE, (deployment,))
    else:
        found = connection.execute(_CHANGES, {"fraise": key.fraise, "environment": key.environment})
    return [{**as_json_types(row), "detail": _detail(row)} for row in found]


def lock(tx: Transaction, claim: Claim, name: str) -> Holder | None:
    """Take the database for a deployment; returns who has it instead."""
    values = {"name": name, "deployment": claim.deployment.id, "now": tx.at}
    if tx.row(_TAKE, values) is not None:
        return None
    row = tx.row(_HOLDER, (name,))
    if row is None:  # it was freed just now
        return lock(tx, claim, name)
    key = EnvironmentKey(row["fraise"], row["environment"])
    return Holder(deployment=row["id"], environment=key, since=str(row["taken_at"]))


def unlock(tx: Transaction, claim: Claim) -> None:
    """Let go of whatever databases a deployment has."""
    tx.later(_FREE, (claim.deployment.id,))
    tx.tell(News.work)
