"""The contract of every store on the oldest PostgreSQL that Fraisier supports, whichever is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.postgresql_stores import advance, database, postgresql_url, store
from tests.integration.test_postgresql_store import (
    TestClaims,
    TestJournal,
    TestLabels,
    TestReading,
    TestReceiving,
    TestRequesting,
)
from tests.servers.other_postgresql import OLDEST, Unobtainable, fetch
from tests.servers.postgresql import PostgresqlServer, running

__all__ = ["TestClaims", "TestJournal", "TestLabels", "TestReading", "TestReceiving", "TestRequesting"]
__all__ += ["advance", "database", "postgresql_url", "store"]


@pytest.fixture(scope="module")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """The oldest version, instead of the installed one."""

    def oldest(folder: Path) -> Path:
        try:
            return fetch(OLDEST, folder)
        except Unobtainable as error:
            pytest.skip(f"SKIPPED WITHOUT POSTGRESQL {OLDEST}: {error}")

    with running(oldest) as server:
        assert server.version == OLDEST
        yield server
