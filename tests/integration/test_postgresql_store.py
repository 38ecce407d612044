"""The PostgreSQL store: the contract that every store fulfils, and what is PostgreSQL's own."""

from __future__ import annotations

from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.unit.backup_contract import BackupContract
from tests.unit.database_contract import DatabaseContract
from tests.unit.failure_contract import FailureContract
from tests.unit.hold_contract import HoldContract
from tests.unit.label_contract import LabelContract
from tests.unit.run_contract import ReportContract, RunContract, RunHoldContract, WatchContract
from tests.unit.store_contract import (
    ClaimContract,
    HostsContract,
    JournalContract,
    ReadingContract,
    ReceivingContract,
    RequestingContract,
)


class TestReceiving(ReceivingContract):
    pass


class TestRequesting(RequestingContract):
    pass


class TestClaims(ClaimContract):
    pass


class TestDatabases(DatabaseContract):
    pass


class TestLabels(LabelContract):
    pass


class TestBackups(BackupContract):
    pass


class TestFailures(FailureContract):
    pass


class TestHolds(HoldContract):
    pass


class TestRuns(RunContract):
    pass


class TestRunsHeldBack(RunHoldContract):
    pass


class TestReports(ReportContract):
    pass


class TestWatch(WatchContract):
    pass


class TestJournal(JournalContract):
    pass


class TestHosts(HostsContract):
    pass


class TestReading(ReadingContract):
    pass
