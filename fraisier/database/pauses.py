"""Pausing an environment and going on: who, when and why, and an audit row for each.

What a pause holds back is part of each store's claims.
"""

from __future__ import annotations

from fraisier.application.ports.news import News
from fraisier.database.claims import never_published
from fraisier.database.transaction import Transaction
from fraisier.domain.fraise import EnvironmentKey

_PAUSED = "SELECT paused FROM tb_environments WHERE fraise = ? AND name = ? AND published"
_PAUSE = """
UPDATE tb_environments SET paused = TRUE, paused_by = ?, paused_at = ?, paused_reason = ?
 WHERE fraise = ? AND name = ?
"""
_RESUME = """
UPDATE tb_environments SET paused = FALSE, paused_by = '', paused_at = NULL, paused_reason = ''
 WHERE fraise = ? AND name = ?
"""


def pause(tx: Transaction, key: EnvironmentKey, by: str, reason: str) -> None:
    """Nothing begins by itself any more; a pause that was there is replaced.

    Raises:
        NotFound: no such environment is published.
    """
    _is_paused(tx, key)
    tx.execute(_PAUSE, (by, tx.at, reason, key.fraise, key.environment))
    tx.audit(actor=by, action="pause", subject=str(key), detail={"reason": reason})
    tx.tell(News.work)


def resume(tx: Transaction, key: EnvironmentKey, by: str) -> bool:
    """What waits may begin; whether it was paused.

    Raises:
        NotFound: no such environment is published.
    """
    if not _is_paused(tx, key):
        return False
    tx.execute(_RESUME, (key.fraise, key.environment))
    tx.audit(actor=by, action="resume", subject=str(key), detail={})
    tx.tell(News.work)
    return True


def _is_paused(tx: Transaction, key: EnvironmentKey) -> bool:
    tx.lock([(key.fraise, key.environment)])
    row = tx.row(_PAUSED, (key.fraise, key.environment))
    if row is None:
        raise never_published(key)
    return bool(row["paused"])
