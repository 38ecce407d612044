"""A transaction on SQLite, whose one lock is held by the writer: nothing else has to be locked."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from fraisier.database.clocks import Clocks
from fraisier.database.sqlite_statements import SQLITE
from fraisier.database.transaction import Place, Transaction


class SqliteTransaction(Transaction):
    """See `Transaction`."""

    __slots__ = ("clocks",)

    sql = SQLITE

    def __init__(self, connection: sqlite3.Connection, clocks: Clocks) -> None:
        super().__init__(connection, clocks.now())
        self.clocks = clocks

    def lock(self, places: Collection[Place]) -> None:
        """Whoever writes is alone."""

    def lock_all(self) -> None:
        """Whoever writes is alone."""

    def moment(self, ahead: float) -> Mapping[str, Any]:
        """A CLOCK_BOOTTIME in seconds, and the boot that it belongs to."""
        return {"until": self.clocks.boottime() + ahead, "boot": self.clocks.boot_id}
