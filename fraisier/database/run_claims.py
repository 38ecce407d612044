"""Taking a run, as far as it is the same on every database."""

from __future__ import annotations

from fraisier.application.ports import RunClaim
from fraisier.application.ports.news import News
from fraisier.database.run_rows import claim_of
from fraisier.database.transaction import DatabaseRow, Transaction
from fraisier.domain.run import RunStatus

_SLOTS = """
SELECT slot FROM tb_runs WHERE fraise = ? AND environment = ? AND job = ? AND status = 'running' AND id <> ?
"""
_RAISE = "UPDATE tb_environments SET run_token = ? WHERE fraise = ? AND name = ?"
_BEGIN = """
UPDATE tb_runs
   SET status = 'running', worker = ?, token = ?, slot = ?, host = ?, release = ?, "commit" = ?,
       started_at = ?, bound_labels = ?
 WHERE id = ?
"""
_TAKE_OVER = "UPDATE tb_runs SET worker = ?, token = ? WHERE id = ?"


def take(tx: Transaction, row: DatabaseRow, worker: str) -> RunClaim:
    """Begin a run that waits, or take over one that a dead worker left.

    `row` has the run's columns, and its environment's run_token, current_release, current_commit, its labels
    as `place_labels`, and `first_host`. The environment is locked.
    """
    place, token = (row["fraise"], row["environment"]), row["run_token"] + 1
    tx.later(_RAISE, (token, *place))
    tx.tell(News.work)
    if row["status"] == RunStatus.running:
        tx.later(_TAKE_OVER, (worker, token, row["id"]))
        return claim_of(row, worker, token=token, slot=row["slot"], at=tx.at)
    slot = free_slot(tx, row)
    begun = (worker, token, slot, row["first_host"], row["current_release"], row["current_commit"])
    tx.later(_BEGIN, (*begun, tx.at, row["place_labels"], row["id"]))
    return claim_of(row, worker, token=token, slot=slot, at=tx.at)


def free_slot(tx: Transaction, row: DatabaseRow) -> int:
    """The first that no other run of its job has."""
    others = tx.execute(_SLOTS, (row["fraise"], row["environment"], row["job"], row["id"]))
    taken = {each["slot"] for each in others}
    return next(number for number in range(len(taken) + 1) if number not in taken)
