"""A SQLite file with all migrations applied, which were applied once for all tests of a process."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from fraisier.database.sqlite import open_sqlite


def lay_migrated(path: Path) -> None:
    """Put a migrated, empty database at `path`, unless something is there.

    What a store does when it is opened it does all the same; it only finds nothing to migrate. All of these
    databases name the same installation.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(_migrated())


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fraisier.db"
        open_sqlite(f"sqlite://{path}", state_folder=folder).close()
        return path.read_bytes()
