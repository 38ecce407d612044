"""The SQLite store: the contract that every store fulfils, and what is SQLite's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.ports import Delivery, Ending, Received
from fraisier.database import run_views
from fraisier.database.clocks import Clocks, iso, unix
from fraisier.database.sqlite import SqliteStore, open_sqlite
from fraisier.database.sqlite_connection import file_system_of
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Conflict, NotFound, StoreUnavailable, UsageError
from fraisier.domain.plan import Phase, StepName, StepState
from tests import factories
from tests.migrated import lay_migrated
from tests.unit.backup_contract import BackupContract
from tests.unit.database_contract import DatabaseContract
from tests.unit.failure_contract import FailureContract
from tests.unit.hold_contract import HoldContract
from tests.unit.label_contract import LabelContract
from tests.unit.run_contract import ReportContract, RunContract, RunHoldContract, WatchContract
from tests.unit.store_contract import (
    KEY,
    LEASE,
    PATIENCE,
    STAGING,
    ClaimContract,
    HostsContract,
    JournalContract,
    ReadingContract,
    ReceivingContract,
    RequestingContract,
    claimed,
    delivery,
    finished,
    publish,
    sha,
    wish,
)


class MovableTime:
    """Clocks of this machine that a test can set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.boot = "boot-1"

    def advance(self, seconds: float) -> None:
        self.ahead += seconds

    def clocks(self) -> Clocks:
        return Clocks(
            now=lambda: time.time() + self.ahead,
            boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + self.ahead,
            boot_id=self.boot,
        )


@pytest.fixture
def moving() -> MovableTime:
    return MovableTime()


@pytest.fixture
def advance(moving: MovableTime) -> Callable[[float], None]:
    return moving.advance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def open_in(folder: Path, moving: MovableTime | None = None) -> SqliteStore:
    clocks = moving.clocks() if moving else None
    lay_migrated(folder / "fraisier.db")
    return open_sqlite(f"sqlite://{folder}/fraisier.db", state_folder=str(folder), clocks=clocks)


@pytest.fixture
def store(folder: Path, moving: MovableTime) -> Iterator[SqliteStore]:
    opened = open_in(folder, moving)
    publish(opened)
    yield opened
    opened.close()


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


# ---------------------------------------------------------------------------------------------- the file


def test_the_file_is_private_and_durable(store: SqliteStore, folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_store_that_is_opened_again_has_everything(folder: Path) -> None:
    first = open_in(folder)
    publish(first)
    deployment = first.request(wish()).deployment
    installation = first.installation
    first.close()
    again = open_in(folder)
    assert deployment is not None
    assert again.deployment(deployment.id)["status"] == "pending"
    assert again.installation == installation
    again.close()


def test_four_slashes_name_the_same_file_as_three(tmp_path: Path) -> None:
    open_sqlite(f"sqlite:///{tmp_path}/fraisier.db", state_folder=str(tmp_path)).close()
    open_sqlite(f"sqlite://{tmp_path}/fraisier.db", state_folder=str(tmp_path), create=False).close()


@pytest.mark.parametrize("url", ["postgresql://x/y", "sqlite:", "sqlite:///", "/var/lib/fraisier.db"])
def test_other_urls_are_refused_with_an_example(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sqlite:///var/lib"):
        open_sqlite(url, state_folder=str(tmp_path))


def test_a_missing_file_is_refused_where_none_may_be_created(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot find the database"):
        open_sqlite(f"sqlite://{tmp_path}/none.db", state_folder=str(tmp_path), create=False, readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all " * 100)
    with pytest.raises(StoreUnavailable, match="check database"):
        open_sqlite(f"sqlite://{tmp_path}/x.db", state_folder=str(tmp_path))


def test_the_file_system_of_a_path_is_that_of_the_innermost_mount() -> None:
    mounts = "/dev/a / ext4 rw 0 0\nserver:/x /srv nfs4 rw 0 0\n/dev/b /srv/my\\040disk xfs rw 0 0\n"
    mounts += "server:/y /données nfs4 rw 0 0\n"
    assert file_system_of(Path("/var/lib"), mounts) == "ext4"
    assert file_system_of(Path("/srv/data"), mounts) == "nfs4"
    assert file_system_of(Path("/srvdata"), mounts) == "ext4"
    assert file_system_of(Path("/srv/my disk/x"), mounts) == "xfs"
    assert file_system_of(Path("/données/x"), mounts) == "nfs4"


def test_a_reader_starts_no_writer_and_no_socket(store: SqliteStore, folder: Path) -> None:
    reader = open_sqlite(f"sqlite://{store.path}", state_folder=str(folder), readonly=True)
    before = threading.active_count()
    assert len(reader.fraise_status()) == 2
    assert threading.active_count() == before
    reader.request(wish())  # ... until something is written
    assert len(store.history()) == 1
    reader.close()


def test_times_are_utc_with_microseconds() -> None:
    assert iso(1795381200.123456) == "2026-11-22T21:00:00.123456Z"
    assert unix("2026-11-22T21:00:00.123456Z") == pytest.approx(1795381200.123456, abs=1e-6)
    assert iso(0) == "1970-01-01T00:00:00.000000Z"


# -------------------------------------------------------------------------------------- what is kept stays


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM tb_webhook_events",
        "UPDATE tb_webhook_events SET sender = 'mallory'",
        "UPDATE tb_webhook_events SET payload = x'00'",
        "DELETE FROM tb_deployments",
        "UPDATE tb_deployments SET requested_by = 'mallory'",
        "UPDATE tb_deployments SET \"commit\" = 'other'",
        "UPDATE tb_deployments SET status = 'pending'",
        "DELETE FROM tb_deployment_attempts",
        "UPDATE tb_deployment_attempts SET token = 99",
        "UPDATE tb_deployment_attempts SET outcome = 'other'",
        "DELETE FROM tb_deployment_steps",
        "UPDATE tb_deployment_steps SET state = 'running'",
        "UPDATE tb_environments SET token = 0",
        "DELETE FROM tb_audit_log",
        "UPDATE tb_audit_log SET actor = 'mallory'",
    ],
)
def test_the_schema_itself_refuses_to_rewrite_history(store: SqliteStore, sql: str) -> None:
    store.record(delivery()).result(PATIENCE)
    claim = claimed(store)
    attempt = store.begin_attempt(claim, resolved="{}")
    step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="")
    store.end_step(claim, step, state=StepState.success, tail="")
    store.finish(claim, attempt, Ending(status=Status.success))
    with (
        sqlite3.connect(store.path) as connection,
        pytest.raises(sqlite3.IntegrityError, match=r"cannot (delete|change|lower)"),
    ):
        connection.execute(sql)


def test_counters_are_what_counting_would_find(store: SqliteStore) -> None:
    for number in range(1, 8):
        store.record(delivery(f"d{number}", wish(sha(number)))).result(PATIENCE)
    finished(store, claimed(store))
    store.request(wish(sha(99)))
    with sqlite3.connect(store.path) as connection:
        counted = connection.execute(
            "SELECT 'deployments.' || status, count(*) FROM tb_deployments GROUP BY status"
        ).fetchall()
        days = connection.execute(
            "SELECT status, sum(total) FROM tb_deployment_days GROUP BY status"
        ).fetchall()
    assert dict(counted).items() <= store.counts().items()
    assert {f"deployments.{status}": total for status, total in days if total} == dict(counted)


# ------------------------------------------------------------------------------------------------- leases


def test_a_lease_of_another_boot_has_ended(folder: Path, moving: MovableTime) -> None:
    before = open_in(folder, moving)
    publish(before)
    before.request(wish())
    old = claimed(before)
    before.close()
    moving.boot = "boot-2"
    after = open_in(folder, moving)
    assert claimed(after, "w2").deployment.id == old.deployment.id
    after.close()


def test_a_worker_that_died_is_followed_at_once(
    store: SqliteStore, folder: Path, moving: MovableTime
) -> None:
    dead = open_in(folder, moving)
    dead.register_worker("w1", info={})
    store.request(wish())
    old = claimed(dead)
    assert store.claim("w2", lease=LEASE, environments=(KEY,)) is None
    assert [row["id"] for row in store.live_workers()] == ["w1"]
    dead.close()  # gives up the lock without retiring, as the kernel does for a killed process
    assert claimed(store, "w2").token == old.token + 1
    assert store.live_workers() == []


def test_two_workers_cannot_have_one_name(store: SqliteStore, folder: Path) -> None:
    store.register_worker("w1", info={})
    other = open_in(folder)
    with pytest.raises(Conflict, match="another one of that name"):
        other.register_worker("w1", info={})
    other.close()


def test_files_of_workers_that_died_long_ago_are_swept_away(store: SqliteStore, folder: Path) -> None:
    dead = open_in(folder)
    dead.register_worker("dead", info={})
    store.register_worker("alive", info={})
    dead.close()
    long_ago = time.time() - 86400
    for name in ("dead", "alive"):
        os.utime(folder / "workers" / f"{name}.lock", (long_ago, long_ago))
    store.prune(retention=86400)
    assert [path.name for path in (folder / "workers").iterdir()] == ["alive.lock"]


def test_a_worker_that_has_just_died_is_known_to_be_dead_however_long_it_worked(
    store: SqliteStore, folder: Path, moving: MovableTime
) -> None:
    dying = open_in(folder, moving)
    dying.register_worker("w1", info={})
    long_ago = time.time() - 86400
    os.utime(folder / "workers" / "w1.lock", (long_ago, long_ago))
    dying.request(wish())
    claim = dying.claim("w1", lease=LEASE, environments=[KEY])
    assert claim is not None
    dying.renew("w1", [claim], lease=LEASE)
    dying.close()
    store.prune(retention=86400)
    assert store.claim("w2", lease=LEASE, environments=[KEY]) is not None  # long before the lease ends


# -------------------------------------------------------------------------------------------------- wakes


def test_a_request_in_another_store_wakes_the_subscriber(store: SqliteStore, folder: Path) -> None:
    woken = threading.Event()
    unsubscribe = store.subscribe(woken.set)
    other = open_in(folder)
    woken.clear()
    other.request(wish())
    assert woken.wait(PATIENCE)
    unsubscribe()
    other.close()


def test_a_request_in_the_same_store_wakes_the_subscriber(store: SqliteStore) -> None:
    woken = threading.Event()
    store.subscribe(woken.set)
    store.request(wish())
    assert woken.wait(PATIENCE)


def test_a_subscriber_that_fails_keeps_nobody_from_being_woken(store: SqliteStore) -> None:
    def fail() -> None:
        raise NotFound("cannot")

    woken = threading.Event()
    store.subscribe(fail)
    store.subscribe(woken.set)
    store.request(wish())
    assert woken.wait(PATIENCE)
    store.ping()


def test_a_socket_whose_process_is_gone_is_removed(store: SqliteStore, folder: Path) -> None:
    (folder / "wake").mkdir(mode=0o700, exist_ok=True)
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    cwd = os.open(folder / "wake", os.O_RDONLY)
    left.bind(f"/proc/self/fd/{cwd}/1-dead.sock")
    left.close()
    os.close(cwd)
    store.request(wish())
    store.close()  # the wake comes after the answer; closing waits for the writer
    assert not (folder / "wake" / "1-dead.sock").exists()


# ---------------------------------------------------------------------------------------------- event loops


def test_an_event_loop_is_answered_like_a_thread(store: SqliteStore) -> None:
    async def record_many() -> list[Received]:
        loop = asyncio.get_running_loop()
        futures = [store.record_async(delivery(f"d{n % 30}", wish(sha(n + 1))), loop) for n in range(60)]
        return list(await asyncio.gather(*futures))

    answers = asyncio.run(record_many())
    assert [each.status for each in answers] == ["accepted"] * 30 + ["duplicate"] * 30
    assert len(store.events(limit=100)) == 30


def test_a_caller_that_gave_up_does_not_disturb_the_others(store: SqliteStore) -> None:
    async def record_two() -> Received:
        loop = asyncio.get_running_loop()
        given_up = store.record_async(delivery("d1"), loop)
        kept = store.record_async(delivery("d2", wish(sha(2))), loop)
        given_up.cancel()
        return await kept

    assert asyncio.run(record_two()).status == "accepted"
    assert len(store.events()) == 2


def test_closing_finishes_what_was_handed_over(folder: Path) -> None:
    store = open_in(folder)
    publish(store)
    futures = [store.record(delivery(f"d{n}", wish(sha(n)))) for n in range(1, 300)]
    store.close()
    assert {future.result(0).status for future in futures} == {"accepted"}
    with pytest.raises(StoreUnavailable, match="closed"):
        store.ping()


# ----------------------------------------------------------------------------------- trouble with the file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the database's lock."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_a_lock_that_is_held_too_long_is_told_and_the_writer_goes_on(store: SqliteStore) -> None:
    with locked(store.path):
        began = time.monotonic()
        futures = [store.record(delivery(f"d{n}")) for n in range(10)]
        for future in futures:
            with pytest.raises(StoreUnavailable, match="locked"):
                future.result(PATIENCE)
        assert 2.5 < time.monotonic() - began < 6
    assert store.record(delivery("d1")).result(PATIENCE).status == "accepted"
    assert len(store.events()) == 1


def test_a_short_lock_is_only_waited_for(store: SqliteStore) -> None:
    with locked(store.path):
        future = store.record(delivery())
        with pytest.raises(TimeoutError):
            future.result(0.2)
    assert future.result(PATIENCE).status == "accepted"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    point = tmp_path / "small"
    point.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(point)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode()}")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def test_a_full_disk_is_told_nothing_is_half_written_and_the_writer_recovers(small_disk: Path) -> None:
    store = open_in(small_disk / "state")
    publish(store)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        _fill(ballast)
    outcomes: list[Future[Received]] = []
    for number in range(1, 400):
        large = os.urandom(20_000)
        outcomes.append(store.record(_with_payload(number, large)))
        if outcomes[-1].exception(PATIENCE):
            break
    with pytest.raises(StoreUnavailable, match="disk"):
        outcomes[-1].result(0)
    ballast.unlink()
    assert store.record(_with_payload(1000, b"{}")).result(PATIENCE).status == "accepted"
    kept = sum(1 for each in outcomes if not each.exception()) + 1
    assert len(store.events(limit=1000)) == kept
    assert store.counts()["events.accepted"] == kept
    store.close()


def _with_payload(number: int, payload: bytes) -> Delivery:
    return replace(delivery(f"d{number}", wish(sha(number))), payload=payload)


def test_environments_are_hidden_with_their_history_kept(store: SqliteStore) -> None:
    store.request(wish(environment=STAGING))
    store.publish([factories.fraise()], digest="digest-2", documents={})
    assert [row["environment"] for row in store.fraise_status()] == ["production"]
    assert [row["environment"] for row in store.history()] == ["staging"]
    publish(store)
    assert len(store.fraise_status()) == 2


def test_what_is_under_way_is_found_without_a_look_at_all_runs_that_ever_were(tmp_path: Path) -> None:
    lay_migrated(tmp_path / "f.db")
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {run_views._ACTIVE}", ("orders", "production"))
        assert ["ix_runs_active" in row[3] for row in plan] == [True]
