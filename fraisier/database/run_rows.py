"""Rows of tb_runs: how one is made, read, and ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from fraisier.application.ports import Row, RunClaim
from fraisier.application.ports.news import News
from fraisier.database.clocks import iso, unix, unix_or_none
from fraisier.database.transaction import Connection, DatabaseRow, Transaction
from fraisier.database.uuids import random_uuid
from fraisier.database.views import as_json_types
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.job import JobKind
from fraisier.domain.run import RunEnding, RunStatus, RunTrigger, RunWish

_INSERT = """
INSERT INTO tb_runs (id, fraise, environment, host, job, kind, trigger, status, parameters, requested_by,
    requested_at, due, not_before, attempt, retry_of, concurrency, release, "commit", started_at, ended_at,
    error_message, hint, invocation)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_END = """
UPDATE tb_runs
   SET status = ?, started_at = coalesce(started_at, ?), ended_at = ?, duration = ?, exit_code = ?,
       peak_memory_bytes = ?, cause = ?, error_message = ?, hint = ?, artefacts = ?, detail = ?
 WHERE id = ?
"""
_RUN = "SELECT * FROM v_run_history WHERE id = ?"
_JSON = ("parameters", "artefacts", "detail")


def new_run(tx: Transaction, wish: RunWish, status: RunStatus, *, error: str = "", hint: str = "") -> str:
    """Store a run; returns its id. One that ends as it begins is counted."""
    return insert(tx, wish, status, {"error_message": error, "hint": hint})


def insert(tx: Transaction, wish: RunWish, status: RunStatus, columns: Mapping[str, Any]) -> str:
    """Store a run of which more than its wish is known: `columns`, by name."""
    known: dict[str, Any] = {
        "host": "",
        "release": "",
        "commit": "",
        "error_message": "",
        "hint": "",
        "invocation": "",
    }
    known |= {"started_at": None, **columns}
    run, key = random_uuid(), wish.environment
    row = (
        *(run, key.fraise, key.environment, known["host"], wish.job, wish.kind.value, wish.trigger.value),
        *(status.value, as_json_text(wish.parameters), wish.requested_by, tx.at),
        *(None if wish.due is None else iso(wish.due), iso(wish.not_before) if wish.not_before else None),
        *(wish.attempt, wish.retry_of or None, wish.concurrency, known["release"], known["commit"]),
        *(known["started_at"], tx.at if status.is_final else None),
        *(known["error_message"], known["hint"], known["invocation"]),
    )
    tx.later(_INSERT, row)
    if status.is_final:
        tx.count(f"runs.{status.value}")
    tx.tell(News.work)
    return run


def end(tx: Transaction, row: DatabaseRow, ending: RunEnding, *, ended_at: float) -> None:
    """Store how a run ended.

    Raises:
        ForbiddenTransition: its status may not follow.
    """
    RunStatus(row["status"]).check(ending.status)
    started = unix_or_none(row["started_at"])
    values = (
        *(ending.status.value, None if started is None else row["started_at"], iso(ended_at)),
        # Wall clocks jump; nobody is served by a negative duration.
        None if started is None else max(0.0, round(ended_at - started, 6)),
        *(ending.exit_code, ending.peak_memory, ending.cause and ending.cause.value),
        *(ending.error, ending.hint, as_json_text(ending.artefacts), as_json_text(ending.detail)),
        row["id"],
    )
    tx.later(_END, values)
    tx.count(f"runs.{ending.status.value}")
    tx.tell(News.work)


def shown(connection: Connection | Transaction, run: str) -> Row:
    """Its row of v_run_history."""
    return as_row(connection.execute(_RUN, (run,)).fetchone())


def as_row(row: DatabaseRow) -> Row:
    """A row of v_run_history with the types that JSON has."""
    found = dict(as_json_types(row))
    found.update({name: orjson.loads(found[name]) for name in _JSON if isinstance(found[name], str)})
    return found


def claim_of(row: DatabaseRow, worker: str, *, token: int, slot: int, at: str) -> RunClaim:
    """The claim on a run that was just taken: `row` as it was before, with its environment's columns."""
    interrupted = row["status"] == RunStatus.running
    return RunClaim(
        id=row["id"],
        environment=EnvironmentKey(row["fraise"], row["environment"]),
        job=row["job"],
        kind=JobKind(row["kind"]),
        trigger=RunTrigger(row["trigger"]),
        worker=worker,
        token=token,
        slot=slot,
        release=row["release"] if interrupted else row["current_release"],
        commit=row["commit"] if interrupted else row["current_commit"],
        parameters=_object(row["parameters"]),
        requested_by=row["requested_by"],
        due=unix_or_none(row["due"]),
        attempt=row["attempt"],
        retry_of=row["retry_of"] or "",
        concurrency=row["concurrency"],
        cancel_requested_by=row["cancel_requested_by"],
        started_at=unix(row["started_at"] or at),
        interrupted=interrupted,
        invocation=row["invocation"],
    )


def _object(value: Any) -> dict[str, str]:
    found: dict[str, str] = orjson.loads(value) if isinstance(value, str) else value
    return found


def as_json_text(value: Any) -> str:
    """JSON that every database takes: PostgreSQL's has no NUL."""
    return orjson.dumps(_without_nul(value), default=str).decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {_without_nul(str(name)): _without_nul(each) for name, each in value.items()}
    if isinstance(value, Sequence):
        return [_without_nul(each) for each in value]
    return value
