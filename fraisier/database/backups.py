"""What is known of each copy of each backup; see `domain.backup`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

from fraisier.application.ports import Row, RunClaim
from fraisier.application.ports.news import News
from fraisier.database.clocks import iso, unix, unix_or_none
from fraisier.database.jobs import Work
from fraisier.database.runs import hold
from fraisier.database.transaction import Connection, DatabaseRow, Transaction
from fraisier.database.uuids import random_uuid
from fraisier.database.views import as_json_types
from fraisier.domain.backup import Copy, CopyNote, CopyState, made_at_of
from fraisier.domain.fraise import EnvironmentKey

_LONGEST = 1000  # characters of what is said of a copy

_ADD = """
INSERT INTO tb_backups (id, fraise, environment, destination, name, made_at) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (fraise, environment, destination, name) DO NOTHING
"""
_CHANGE = """
UPDATE tb_backups
   SET made_at      = coalesce(:made_at, made_at),
       bytes        = coalesce(:bytes, bytes),
       manifest     = coalesce(:manifest, manifest),
       state        = coalesce(:state, state),
       detail       = coalesce(:detail, detail),
       looked_at    = coalesce(:looked_at, looked_at),
       verified_at  = coalesce(:verified_at, verified_at),
       verified_run = coalesce(:verified_run, verified_run),
       flaw         = coalesce(:flaw, flaw),
       safety       = coalesce(:safety, safety),
       pruned_at    = coalesce(:pruned_at, pruned_at)
 WHERE fraise = :fraise AND environment = :environment AND destination = :destination AND name = :name
"""
_THERE_AGAIN = """
UPDATE tb_backups SET pruned_at = NULL
 WHERE fraise = ? AND environment = ? AND destination = ? AND name = ?
"""
_COPIES = """
SELECT * FROM tb_backups WHERE fraise = ? AND environment = ? AND pruned_at IS NULL
 ORDER BY made_at, name, destination
"""
_PRUNED = """
SELECT name FROM tb_backups
 WHERE fraise = ? AND environment = ? AND destination = ? AND pruned_at IS NOT NULL
"""
_ROWS = """
SELECT * FROM v_backups
 WHERE (:fraise = '' OR fraise_id = :fraise) AND (:environment = '' OR environment = :environment)
   AND (:pruned = 1 OR pruned_at IS NULL)
 ORDER BY fraise_id, environment, made_at DESC, name DESC, destination
 LIMIT :limit
"""


def note(tx: Transaction, key: EnvironmentKey, notes: Sequence[CopyNote], by: RunClaim | None) -> None:
    """Write down what is new; copies that were not known are added. Raises TokenOutdated."""
    if by is not None:
        hold(tx, by)
    for each in notes:
        place = (key.fraise, key.environment, each.destination, each.name)
        made_at = each.made_at if each.made_at is not None else made_at_of(each.name)
        tx.later(_ADD, (random_uuid(), *place, iso(made_at)))
        tx.later(_CHANGE, _values(key, each))
        if each.pruned_at == 0.0:
            tx.later(_THERE_AGAIN, place)
    tx.tell(News.work)


def _values(key: EnvironmentKey, note: CopyNote) -> dict[str, Any]:
    return {
        "fraise": key.fraise,
        "environment": key.environment,
        "destination": note.destination,
        "name": note.name,
        "made_at": _time(note.made_at),
        "bytes": note.bytes,
        "manifest": note.manifest,
        "state": note.state.value if note.state is not None else None,
        "detail": _text(note.detail),
        "looked_at": _time(note.looked_at),
        "verified_at": _time(note.verified_at),
        "verified_run": note.verified_run,
        "flaw": _text(note.flaw),
        "safety": note.safety,
        "pruned_at": _time(note.pruned_at),
    }


def _time(seconds: float | None) -> str | None:
    return iso(seconds) if seconds else None


def _text(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "")[:_LONGEST]


def copies(connection: Connection, key: EnvironmentKey) -> Sequence[Copy]:
    """Those that are kept, oldest first."""
    found = connection.execute(_COPIES, (key.fraise, key.environment))
    return [_copy(row) for row in found]


def _copy(row: DatabaseRow) -> Copy:
    return Copy(
        destination=row["destination"],
        name=row["name"],
        made_at=unix(str(row["made_at"])),
        bytes=row["bytes"],
        manifest=row["manifest"],
        state=CopyState(row["state"]),
        detail=row["detail"],
        looked_at=unix_or_none(row["looked_at"]),
        verified_at=unix_or_none(row["verified_at"]),
        flaw=row["flaw"],
        safety=bool(row["safety"]),
    )


def pruned(connection: Connection, key: EnvironmentKey, destination: str) -> set[str]:
    """Names of those that were removed there, or were about to be."""
    found = connection.execute(_PRUNED, (key.fraise, key.environment, destination))
    return {row["name"] for row in found}


def rows(
    connection: Connection, fraise: str, environment: str, *, with_pruned: bool, limit: int
) -> Sequence[Row]:
    """Rows of v_backups, newest first in each environment."""
    values = {"fraise": fraise, "environment": environment, "pruned": int(with_pruned), "limit": limit}
    found = connection.execute(_ROWS, values)
    return [{**as_json_types(row), "safety": bool(row["safety"])} for row in found]


class BackupVerbs(ABC):
    """`BackupNotes` on SQL."""

    @abstractmethod
    def _write(self, work: Work) -> Any: ...
    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]: ...

    def note_copies(
        self, environment: EnvironmentKey, notes: Sequence[CopyNote], *, by: RunClaim | None = None
    ) -> None:
        """Write down what is new about copies of backups; raises TokenOutdated."""
        if notes:
            self._write(lambda tx: note(tx, environment, notes, by))

    def copies(self, environment: EnvironmentKey) -> Sequence[Copy]:
        """Those that no rule has removed, oldest first."""
        with self._reading() as connection:
            return copies(connection, environment)

    def pruned_copies(self, environment: EnvironmentKey, destination: str) -> Collection[str]:
        """Names of those that were removed from there, or were about to be."""
        with self._reading() as connection:
            return pruned(connection, environment, destination)

    def backups(
        self, fraise: str = "", environment: str = "", *, with_pruned: bool = False, limit: int = 1000
    ) -> Sequence[Row]:
        """Rows of v_backups, newest first in each environment."""
        with self._reading() as connection:
            return rows(connection, fraise, environment, with_pruned=with_pruned, limit=limit)
