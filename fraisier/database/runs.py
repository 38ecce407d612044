"""Runs: asked for, cancelled, ended, reported by a host. How one is claimed stands in each store's queue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from fraisier.application.ports import Claim, Row, RunClaim
from fraisier.application.ports.news import News
from fraisier.database import bounded_output, claims
from fraisier.database.bounded_output import OutputTable
from fraisier.database.claims import never_published
from fraisier.database.clocks import iso
from fraisier.database.house import PRUNE_CHUNK
from fraisier.database.run_claims import free_slot
from fraisier.database.run_rows import end, insert, new_run, shown
from fraisier.database.transaction import Connection, DatabaseRow, Transaction
from fraisier.database.uuids import is_uuid
from fraisier.domain.errors import Cause, Conflict, NotFound, TokenOutdated
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.run import Reported, RunEnding, RunStatus, RunTrigger, RunWish

_PLACE = """
SELECT published, current_release, current_commit FROM tb_environments WHERE fraise = ? AND name = ?
"""
_USED = """
SELECT 1 FROM tb_runs WHERE fraise = ? AND environment = ? AND job = ? AND due = ? AND attempt = 1
"""
_ACTIVE = """
SELECT status, count(*) AS runs FROM tb_runs
 WHERE fraise = ? AND environment = ? AND job = ? AND status IN ('pending', 'running') GROUP BY status
"""
_RUN = "SELECT * FROM tb_runs WHERE id = ?"
_ASK_TO_CANCEL = "UPDATE tb_runs SET cancel_requested_by = ? WHERE id = ?"
_CANCEL_REQUESTS = """
SELECT id, cancel_requested_by FROM tb_runs
 WHERE status IN ('pending', 'running') AND status = 'running' AND worker = ? AND cancel_requested_by <> ''
"""
_RUN_TOKEN = "SELECT run_token FROM tb_environments WHERE fraise = ? AND name = ?"
_RAISE_RUN_TOKEN = "UPDATE tb_environments SET run_token = ? WHERE fraise = ? AND name = ?"
_HOLD = "UPDATE tb_environments SET runs_held_by = ? WHERE fraise = ? AND name = ?"
_LEAVE = "UPDATE tb_runs SET worker = ?, slot = ? WHERE id = ?"
_NOBODY = "its host"  # no worker has this id, so it counts as dead, and what it left is taken over
_BY_INVOCATION = "SELECT * FROM tb_runs WHERE invocation = ? AND invocation <> ''"
_OUTPUT = OutputTable(
    volume="SELECT head, tail, dropped FROM tb_run_volumes WHERE run = ?",
    note_volume="""
INSERT INTO tb_run_volumes (run, head, tail, dropped) VALUES (?, ?, ?, ?)
    ON CONFLICT (run) DO UPDATE SET head = excluded.head, tail = excluded.tail, dropped = excluded.dropped
""",
    write="INSERT INTO tb_run_output (run, part, bytes, written_at, text) VALUES (?, ?, ?, ?, ?)",
    oldest_tail="SELECT seq, bytes FROM tb_run_output WHERE run = ? AND part = 'tail' ORDER BY seq LIMIT 1",
    gap="SELECT seq FROM tb_run_output WHERE run = ? AND part = 'gap'",
    make_gap="UPDATE tb_run_output SET part = 'gap', bytes = 0, text = '' WHERE seq = ?",
    describe_gap="UPDATE tb_run_output SET text = ? WHERE run = ? AND part = 'gap'",
    drop="DELETE FROM tb_run_output WHERE seq = ?",
)
_OLDEST_OUTPUT = "SELECT seq, written_at FROM tb_run_output ORDER BY seq LIMIT ?"
_PRUNE_OUTPUT = "DELETE FROM tb_run_output WHERE seq <= ?"

_GIVES_WAY = frozenset({RunTrigger.scheduled, RunTrigger.dependency})


# ----------------------------------------------------------------------------------------------- asking


def request(tx: Transaction, wish: RunWish) -> Row | None:
    """Store a run that waits, or is skipped.

    Raises:
        NotFound: no such environment is published.
        Conflict: as many as there may be wait or are under way.
    """
    _lock(tx, wish.environment)
    if _is_used(tx, wish):
        return None
    active = {row["status"]: int(row["runs"]) for row in tx.execute(_ACTIVE, _job(wish))}
    if sum(active.values()) < wish.concurrency:
        return shown(tx, new_run(tx, wish, RunStatus.pending))
    if wish.trigger in _GIVES_WAY:
        run = new_run(tx, wish, RunStatus.skipped, error=_too_many(wish), hint=_TOO_MANY_HINT)
        return shown(tx, run)
    raise Conflict(f"cannot run {wish.job!r} of {wish.environment}: {_too_many(wish)}", _TOO_MANY_HINT)


_TOO_MANY_HINT = "Wait for it, or cancel it: see `fraisier runs`; `concurrency` lets more of them run at once"


def _too_many(wish: RunWish) -> str:
    if wish.concurrency == 1:
        return "another run of it waits or is under way"
    return f"{wish.concurrency} runs of it wait or are under way"


def follow(tx: Transaction, wishes: Collection[RunWish]) -> None:
    """Store what follows an ending, in its transaction; the environment is locked.

    One that a deployment wants begins when there is room, unless one waits already: that has the new release.
    """
    for wish in wishes:
        active = {row["status"]: int(row["runs"]) for row in tx.execute(_ACTIVE, _job(wish))}
        waits_for_room = wish.trigger is RunTrigger.deploy and not active.get("pending")
        if waits_for_room or sum(active.values()) < wish.concurrency:
            new_run(tx, wish, RunStatus.pending)
        else:
            new_run(tx, wish, RunStatus.skipped, error=_too_many(wish), hint=_TOO_MANY_HINT)


_MISSED_HINT = "See that a worker runs all the time"
_SKIPPED_HINT = "See `fraisier runs` for what it waits for"


def note_missed(tx: Transaction, wish: RunWish, why: str, status: RunStatus = RunStatus.missed) -> Row | None:
    """Store a run that was due and never began; raises NotFound."""
    _lock(tx, wish.environment)
    if _is_used(tx, wish):
        return None
    hint = _MISSED_HINT if status is RunStatus.missed else _SKIPPED_HINT
    return shown(tx, new_run(tx, wish, status, error=why, hint=hint))


def _lock(tx: Transaction, key: EnvironmentKey, *, published: bool = True) -> DatabaseRow:
    tx.lock([_place(key)])
    row = tx.row(_PLACE, _place(key))
    if row is None or (published and not row["published"]):
        raise never_published(key)
    return row


def _is_used(tx: Transaction, wish: RunWish) -> bool:
    return wish.due is not None and tx.row(_USED, (*_job(wish), iso(wish.due))) is not None


def _place(key: EnvironmentKey) -> tuple[str, str]:
    return key.fraise, key.environment


def _job(wish: RunWish) -> tuple[str, str, str]:
    return (*_place(wish.environment), wish.job)


def cancel(tx: Transaction, run: str, by: str) -> Row:
    """Cancel one that waits; ask the worker of one that is under way.

    Raises:
        NotFound: no such run.
        Conflict: it has ended, or a host performs it by itself.
    """
    row = _locked(tx, run)
    if row["status"] == RunStatus.pending:
        end(tx, row, cancelled_by(by), ended_at=tx.now)
    elif row["status"] != RunStatus.running:
        message = f"cannot cancel the run {run}: it has ended ({row['status']})"
        raise Conflict(message, "Nothing to do")
    elif not row["worker"]:
        message = f"cannot cancel the run {run}: its host performs it by itself"
        raise Conflict(message, "Stop its unit on the host with `systemctl stop`")
    else:
        tx.later(_ASK_TO_CANCEL, (row["cancel_requested_by"] or by, run))
    tx.audit(actor=by, action="cancel_run", subject=run, detail={"status": row["status"]})
    tx.tell(News.work)
    return shown(tx, run)


def cancelled_by(who: str) -> RunEnding:
    """The ending of a run that somebody called off."""
    hint = "Start another one with `fraisier run`"
    return RunEnding(
        status=RunStatus.cancelled, cause=Cause.cancelled, error=f"cancelled by {who}", hint=hint
    )


def _locked(tx: Transaction, run: str) -> DatabaseRow:
    row = tx.row(_RUN, (run,)) if is_uuid(run) else None
    if row is None:
        message = f"cannot find the run {run!r}"
        raise NotFound(message, "See `fraisier runs`")
    tx.lock([(row["fraise"], row["environment"])])
    found = tx.row(_RUN, (run,))  # as it is now that nobody else changes it
    assert found is not None  # noqa: S101 - rows are never deleted
    return found


# ------------------------------------------------------------------------------------------- performing


def cancel_requests(connection: Connection, worker: str) -> dict[str, str]:
    """Runs that the worker performs and someone wants to stop: id -> who."""
    return {row[0]: row[1] for row in connection.execute(_CANCEL_REQUESTS, (worker,))}


def lost(connection: Connection, claims: Sequence[RunClaim]) -> frozenset[str]:
    """Ids of those that are no longer their worker's."""
    rows = ((claim, connection.execute(_RUN, (claim.id,)).fetchone()) for claim in claims)
    return frozenset(claim.id for claim, row in rows if not _holds(row, claim))


def _holds(row: DatabaseRow | None, claim: RunClaim) -> bool:
    return row is not None and (row["status"], row["worker"], row["token"]) == (
        RunStatus.running,
        claim.worker,
        claim.token,
    )


def hold(tx: Transaction, claim: RunClaim) -> DatabaseRow:
    """The run's row, which nobody else changes until the transaction ends.

    Raises:
        TokenOutdated: it is no longer this worker's.
    """
    row = tx.row(tx.sql.held_run, (claim.id,))
    if row is None or not _holds(row, claim):
        message = f"cannot go on with the run {claim.id}: it has ended, or another worker has it"
        raise TokenOutdated(message, "Nothing to do: see `fraisier runs`")
    return row


def raise_token(tx: Transaction, key: EnvironmentKey, above: int) -> int:
    """A token over that of the environment's runs and `above`; raises NotFound."""
    tx.lock([_place(key)])
    row = tx.row(_RUN_TOKEN, _place(key))
    if row is None:
        raise never_published(key)
    token = max(int(row["run_token"]), above) + 1
    tx.later(_RAISE_RUN_TOKEN, (token, *_place(key)))
    return token


def write_output(tx: Transaction, claim: RunClaim, text: str) -> None:
    """Append output, bounded; raises TokenOutdated."""
    hold(tx, claim)
    bounded_output.write_output(tx, _OUTPUT, (claim.id,), text)


def finish(tx: Transaction, claim: RunClaim, ending: RunEnding) -> Row:
    """End a run, and store the next try and what depends on it; raises TokenOutdated."""
    tx.lock([_place(claim.environment)])
    row = hold(tx, claim)
    end(tx, row, ending, ended_at=tx.now)
    if ending.again is not None and not row["cancel_requested_by"]:
        # The time of the schedule was used by the first try; the index lets the further ones have it.
        new_run(tx, ending.again, RunStatus.pending)
    follow(tx, ending.then)
    return shown(tx, claim.id)


def report(tx: Transaction, reported: Reported) -> Row:
    """Store what a host performed by itself, or complete what is stored of it.

    Raises:
        NotFound: no such environment.
    """
    place = _lock(tx, reported.environment, published=False)
    row = tx.row(_BY_INVOCATION, (reported.invocation,))
    if row is None:
        run = _insert_reported(tx, reported, place)
        row = tx.row(_RUN, (run,))
        assert row is not None  # noqa: S101 - it was just inserted
    if row["status"] != RunStatus.running or row["worker"]:
        return shown(tx, row["id"])
    if reported.output:
        bounded_output.write_output(tx, _OUTPUT, (row["id"],), reported.output)
    if reported.ending is not None:
        end(tx, row, reported.ending, ended_at=reported.ended_at or tx.now)
        follow(tx, reported.ending.then)
    elif reported.left:
        tx.later(_LEAVE, (_NOBODY, free_slot(tx, row), row["id"]))
        tx.tell(News.work)
    return shown(tx, row["id"])


def _insert_reported(tx: Transaction, reported: Reported, place: DatabaseRow) -> str:
    first = tx.row(_BY_INVOCATION, (reported.first,)) if reported.first else None
    wish = RunWish(
        environment=reported.environment,
        job=reported.job,
        trigger=reported.trigger,
        due=reported.due,
        attempt=reported.attempt,
        retry_of=str(first["id"]) if first is not None else "",
    )
    if wish.attempt == 1 and _is_used(tx, wish):
        wish = replace(wish, due=None)  # it was noted as missed, and came after all
    release = reported.release or place["current_release"]
    commit = place["current_commit"] if release == place["current_release"] else ""
    columns = {
        "host": reported.host,
        "release": release,
        "commit": commit,
        "started_at": iso(reported.started_at),
        "invocation": reported.invocation,
    }
    return insert(tx, wish, RunStatus.running, columns)


# ---------------------------------------------------------------------------------------- deployments


def hold_back(tx: Transaction, claim: Claim) -> None:
    """Let no run of the environment begin while the claim's deployment runs; raises TokenOutdated."""
    claims.hold(tx, claim)
    tx.later(_HOLD, (claim.deployment.id, *_place(claim.environment)))


# ------------------------------------------------------------------------------------------------ house


def prune_output(tx: Transaction, before: str) -> tuple[int, bool]:
    """Drop the oldest output written before `before`; how many pieces, and whether there are more."""
    rows = tx.execute(_OLDEST_OUTPUT, (PRUNE_CHUNK,)).fetchall()
    old = [seq for seq, written_at in rows if written_at < before]
    if not old:
        return 0, False
    tx.execute(_PRUNE_OUTPUT, (old[-1],))
    return len(old), len(old) == PRUNE_CHUNK
