"""The files of `db/<dialect>/`: numbered, checksummed, applied in order, each exactly once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fraisier.domain.errors import StoreTooNew, StoreUnavailable

_FILE = re.compile(r"(\d{4})_(\w+)\.sql\Z")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `db/<dialect>/`."""

    number: int
    name: str
    sql: str

    @property
    def full_name(self) -> str:
        """As its file is called: 0001_initial."""
        return f"{self.number:04d}_{self.name}"

    @property
    def checksum(self) -> str:
        """sha256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that a database says it has had."""

    number: int
    name: str
    checksum: str
    applied_at: str


def migrations_folder(dialect: str) -> Path:
    """`db/<dialect>` beside the package in a checkout, `fraisier/_db/<dialect>` where it is installed."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_db" / dialect
    return installed if installed.is_dir() else package.parent / "db" / dialect


def load_migrations(folder: Path) -> Sequence[Migration]:
    """All migrations of a folder, by number. Numbers count from 1 without a gap.

    Raises:
        StoreUnavailable: there are none, or one is missing: the installation is damaged.
    """
    matches = [(found, path) for path in sorted(folder.glob("*.sql")) if (found := _FILE.match(path.name))]
    loaded = [Migration(int(m[1]), m[2], path.read_text(encoding="utf-8")) for m, path in matches]
    if not loaded or [each.number for each in loaded] != list(range(1, len(loaded) + 1)):
        message = f"cannot find the database's migrations in {folder}"
        raise StoreUnavailable(message, "Install Fraisier again")
    return loaded


def newest_number(folder: Path) -> int:
    """The number of the newest migration, from the names of the files alone."""
    return max((int(m[1]) for path in folder.glob("*.sql") if (m := _FILE.match(path.name))), default=0)


def check_applied(applied: Iterable[Applied], migrations: Sequence[Migration]) -> None:
    """Compare what a database says was applied with what we have.

    Raises:
        StoreTooNew: a newer Fraisier has migrated it.
        StoreUnavailable: a migration that was applied is not the one we have.
    """
    ours = {each.number: each for each in migrations}
    for each in applied:
        refuse_newer(each.number, len(migrations))
        if ours[each.number].checksum != each.checksum:
            name = f"{each.number:04d}_{each.name}"
            message = f"cannot use this database: its migration {name} is not the one we have"
            raise StoreUnavailable(message, "Install the Fraisier that migrated it, or restore a backup")


def refuse_newer(version: int, newest: int) -> None:
    """Raises: StoreTooNew: `version` is above `newest`."""
    if version > newest:
        message = f"cannot use a database of a newer Fraisier (schema {version}, this one knows {newest})"
        raise StoreTooNew(message, "Upgrade this Fraisier, or restore the backup from before the upgrade")
