"""The database as a whole: what `fraisier db` looks at, migrates and moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO, Protocol

Told = Callable[[str, int], None]  # a table, and how many of its rows have been copied so far


class SchemaState(StrEnum):
    """How a database stands to the migrations of this Fraisier."""

    current = "current"
    older = "older"  # some are pending
    empty = "empty"  # all are
    missing = "missing"  # there is no database yet
    newer = "newer"  # a newer Fraisier has migrated it
    changed = "changed"  # a migration that was applied is not the one we have


class MigrationState(StrEnum):
    """What became of one migration."""

    applied = "applied"
    pending = "pending"
    changed = "changed"  # applied, with another checksum than ours has
    unknown = "unknown"  # applied, and none of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """One migration. `applied_at` is '' where it was not."""

    number: int
    name: str
    state: MigrationState
    applied_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """What a database is and holds. `url` is without a password, `schema` the newest migration it has."""

    url: str
    dialect: str
    server: str  # the product and its version
    state: SchemaState
    schema: int
    newest: int  # the newest migration that this Fraisier knows
    migrations: Sequence[MigrationStatus]
    installation: str = ""
    size_bytes: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)  # by table
    workers: Sequence[Mapping[str, Any]] = ()  # those that live


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was exported or imported: rows by table, and how many workers lived meanwhile."""

    rows: Mapping[str, int]
    workers: int


class Database(Protocol):
    """The database as a whole. To open it changes nothing, whatever its migrations are.

    Every method raises StoreUnavailable where the database cannot be used.
    """

    def close(self) -> None:
        """Let go of it."""
        ...

    def status(self) -> DatabaseStatus:
        """What it is and holds; changes nothing."""
        ...

    def migrate(self, *, dry_run: bool = False) -> Sequence[str]:
        """Apply the pending migrations, or with `dry_run` none; returns their names.

        Raises:
            StoreTooNew: a newer Fraisier has migrated it.
        """
        ...

    def export_to(self, file: BinaryIO, *, told: Told) -> Copied:
        """Write all that outlives a process to `file`, as it is at one moment; changes nothing.

        Raises:
            StoreTooNew: a newer Fraisier has migrated it.
            Conflict: it is empty.
        """
        ...

    def import_from(self, file: BinaryIO, *, by: str, told: Told) -> Copied:
        """Take over what `export_to` wrote: all of it, or nothing. Applies pending migrations first.

        Raises:
            UnusableExport: `file` has no whole export, or one that this Fraisier cannot take over.
            Conflict: the database is in use: it has deployments, events or raised tokens, or a worker lives.
            StoreTooNew: a newer Fraisier has migrated it.
        """
        ...
