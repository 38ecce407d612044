"""What watches over jobs: up to when their schedules were looked at, and alerts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fraisier.application.ports import Row
from fraisier.application.ports.news import News
from fraisier.database.claims import never_published
from fraisier.database.clocks import iso, unix
from fraisier.database.transaction import Connection, Transaction, as_json
from fraisier.database.uuids import random_uuid
from fraisier.database.views import as_json_types
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.run import Alert, AlertKind

_PLANNED = "SELECT fraise, environment, job, planned_until FROM tb_job_plans"
_KNOWN = "SELECT 1 FROM tb_environments WHERE fraise = ? AND name = ?"
_RAISE = """
INSERT INTO tb_alerts (id, fraise, environment, job, kind, message, hint, run, raised_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (fraise, environment, job, kind) WHERE cleared_at IS NULL DO NOTHING
"""
_STANDING = """
SELECT * FROM v_alerts
 WHERE fraise_id = ? AND environment = ? AND job = ? AND kind = ? AND cleared_at IS NULL
"""
_CLEAR = "UPDATE tb_alerts SET cleared_at = ?, cleared_by = ? WHERE id = ?"
_ALERTS = """
SELECT * FROM v_alerts
 WHERE (:fraise = '' OR fraise_id = :fraise) AND (:environment = '' OR environment = :environment)
   AND (:standing = 0 OR cleared_at IS NULL)
 ORDER BY position DESC
"""


def planned_until(
    connection: Connection, environments: Collection[EnvironmentKey]
) -> dict[tuple[str, str, str], float]:
    """Up to when each job was planned."""
    wanted = {(key.fraise, key.environment) for key in environments}
    return {
        (row["fraise"], row["environment"], row["job"]): unix(row["planned_until"])
        for row in connection.execute(_PLANNED)
        if (row["fraise"], row["environment"]) in wanted
    }


def note_planned(tx: Transaction, until: Mapping[tuple[str, str, str], float]) -> None:
    """Remember it, unless more is known."""
    tx.later(tx.sql.note_planned, (as_json((*job, iso(moment)) for job, moment in sorted(until.items())),))


def raise_alert(tx: Transaction, alert: Alert) -> bool:
    """Store it, unless one of its kind stands for the job; whether it is new.

    Raises:
        NotFound: no such environment was ever published.
    """
    key = alert.environment
    if tx.row(_KNOWN, (key.fraise, key.environment)) is None:
        raise never_published(key)
    row = (
        *(random_uuid(), key.fraise, key.environment, alert.job, alert.kind.value, alert.message),
        *(alert.hint, alert.run or None, tx.at),
    )
    is_new = bool(tx.execute(_RAISE, row).rowcount)
    if is_new:
        tx.count("alerts.raised")
        tx.tell(News.work)
    return is_new


def clear_alert(
    tx: Transaction, key: EnvironmentKey, job: str, kinds: Collection[AlertKind], by: str
) -> Sequence[Row]:
    """End those that stand; returns them as they are then."""
    cleared = []
    for kind in kinds:
        for row in tx.execute(_STANDING, (key.fraise, key.environment, job, kind.value)).fetchall():
            tx.later(_CLEAR, (tx.at, by, row["id"]))
            cleared.append({**as_json_types(row), "cleared_at": tx.at, "cleared_by": by})
    tx.tell(News.work if cleared else News.nothing)
    return cleared


def alerts(connection: Connection, *, fraise: str, environment: str, standing: bool) -> list[Row]:
    """Rows of v_alerts, newest first."""
    values = {"fraise": fraise, "environment": environment, "standing": int(standing)}
    return [as_json_types(row) for row in connection.execute(_ALERTS, values)]
