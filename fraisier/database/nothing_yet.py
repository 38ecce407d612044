"""What is read where there is no SQLite file yet."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from fraisier.database.clocks import system_clocks
from fraisier.database.sqlite import SqliteStore, bring_up_to_date
from fraisier.database.sqlite_connection import prepare_file


class NothingYet(SqliteStore):
    """An empty store, in a folder that goes when it is closed.

    Raises:
        StoreUnavailable: there is no room for it either.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="fraisier-")
        path = Path(self._folder.name) / "fraisier.db"
        prepare_file(path, create=True)
        bring_up_to_date(path, thorough=True)
        super().__init__(path, state_folder=path.parent, clocks=system_clocks())

    def close(self) -> None:
        """Let go of it, and leave nothing behind."""
        super().close()
        self._folder.cleanup()
