"""The store on SQLite: one file on a local disk, any number of processes on that machine.

Commands go through the one writer thread (`sqlite_writer`), everything that reads has connections of its
own. The verbs are those of every store (`store`), but for claims (`sqlite_queue`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fraisier.application.ports import Claim, Row, RunClaim
from fraisier.application.ports.news import News
from fraisier.application.settings import Settings
from fraisier.database import (
    house,
    journal,
    migration_files,
    receiving,
    sqlite_migrate,
    sqlite_queue,
    sqlite_runs,
    views,
)
from fraisier.database.clocks import Clocks, system_clocks
from fraisier.database.jobs import Job, Work
from fraisier.database.prepared_delivery import prepared
from fraisier.database.sqlite_connection import Readers, connect, path_of, prepare_file, unavailable
from fraisier.database.sqlite_statements import SQLITE
from fraisier.database.sqlite_write_lock import PATIENCE
from fraisier.database.sqlite_writer import Writer
from fraisier.database.store import SqlStore
from fraisier.database.wake import Wake
from fraisier.database.worker_locks import WorkerLocks
from fraisier.domain.fraise import EnvironmentKey

DEAD_LOCKS_KEPT = 3600.0  # seconds since the last sign of life; the longest lease has ended by then


def open_sqlite(
    url: str, *, state_folder: str, create: bool = True, readonly: bool = False, clocks: Clocks | None = None
) -> SqliteStore:
    """The store at `sqlite:///path`, migrated to what this Fraisier knows.

    `state_folder` holds the sockets and locks by which processes find each other. `readonly` says that
    nothing will be written: migrations are looked at only if the database is not as we know it.

    Raises:
        UsageError: the URL is none of SQLite's.
        StoreUnavailable: the file cannot be opened or created, or lies on a network file system.
        StoreTooNew: a newer Fraisier has migrated it.
    """
    path = path_of(url)
    prepare_file(path, create=create)
    bring_up_to_date(path, thorough=not readonly)
    return SqliteStore(path, state_folder=Path(state_folder), clocks=clocks or system_clocks())


def open_store(settings: Settings, *, readonly: bool) -> SqliteStore:
    """The store that the configuration names; raises what `open_sqlite` raises.

    Who only reads makes no database: made as root, before Fraisier's own user is there, it would be root's.
    """
    if readonly and _is_missing(path_of(settings.database_url)):
        from fraisier.database.nothing_yet import NothingYet  # rare, and slow to import

        return NothingYet()
    return open_sqlite(settings.database_url, state_folder=settings.state_folder, readonly=readonly)


def _is_missing(path: Path) -> bool:
    """Whether there surely is no such file; one that is out of reach is for whoever opens it to report."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def bring_up_to_date(path: Path, *, thorough: bool) -> list[int]:
    """Apply the pending migrations; returns their numbers. Unless `thorough`, a look tells that none are.

    Raises:
        StoreUnavailable: the file cannot be used.
        StoreTooNew: a newer Fraisier has migrated it.
    """
    folder = migration_files.migrations_folder("sqlite")
    connection = connect(path, patience=PATIENCE, write=thorough)
    try:
        if not thorough and sqlite_migrate.is_current(connection, folder):
            return []
        if not thorough:
            connection.close()
            connection = connect(path, patience=PATIENCE, write=True)
        return sqlite_migrate.migrate(connection, path, migration_files.load_migrations(folder))
    except sqlite3.Error as error:
        raise unavailable(path, error) from error
    finally:
        connection.close()


class SqliteStore(SqlStore):
    """`Store` on one SQLite file."""

    _sql = SQLITE

    def __init__(self, path: Path, *, state_folder: Path, clocks: Clocks) -> None:
        super().__init__()
        self.path = path
        self._clocks = clocks
        self._readers = Readers(path)
        self._wake = Wake(state_folder / "wake")
        self._locks = WorkerLocks(state_folder / "workers")
        self._writer = Writer(
            path,
            clocks,
            prepare=prepared,
            group=receiving.record_all,
            woken=self._wake.ring,
        )
        with self._readers.lend() as connection:
            self.installation = house.installation(connection)

    def close(self) -> None:
        """Finish what was handed over, then let go of everything."""
        self._writer.close()
        self._wake.close()
        self._locks.close()
        self._readers.close()

    def _write(self, work: Work) -> Any:
        return self._writer.perform(work)

    def _put(self, jobs: list[Job]) -> None:
        self._writer.put(jobs)

    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._readers.lend()

    def _now(self) -> float:
        return self._clocks.now()

    # -- claims
    def claim(
        self,
        worker: str,
        *,
        lease: float,
        environments: Collection[EnvironmentKey],
        labels: Collection[str] = (),
        closed: Collection[EnvironmentKey] = (),
        digest: str = "",
    ) -> Claim | None:
        """The next deployment that may be performed, or None."""
        look = sqlite_queue.Look(environments, labels, closed, digest, self._locks.is_dead)
        with self._readers.lend() as connection:
            if not sqlite_queue.is_anything_due(connection, self._clocks, look):
                return None
        found: Claim | None = self._write(lambda tx: sqlite_queue.claim(tx, worker, lease, look))
        return found

    def interrupt_left(self) -> int:
        """End what dead workers left under way as `interrupted`; returns how many attempts."""
        clocks, is_dead = self._clocks, self._locks.is_dead
        with self._readers.lend() as connection:
            if not sqlite_queue.left(connection, clocks, is_dead):
                return 0
        ended: int = self._write(
            lambda tx: journal.interrupt_left(tx, sqlite_queue.left(tx, clocks, is_dead))
        )
        return ended

    def raise_token(self, environment: EnvironmentKey, *, above: int, by: str) -> int:
        """A token over the environment's own and `above`; raises Conflict, NotFound."""
        is_dead = self._locks.is_dead
        token: int = self._write(lambda tx: sqlite_queue.raise_token(tx, environment, above, by, is_dead))
        return token

    def next_due(self) -> float | None:
        """Seconds until a waiting retry is due or a lease ends on which something waits."""
        with self._readers.lend() as connection:
            return sqlite_queue.next_due(connection, self._clocks)

    def renew(self, worker: str, claims: Sequence[Claim], *, lease: float) -> Collection[EnvironmentKey]:
        """Prolong the leases; returns those that are still ours."""
        kept: Collection[EnvironmentKey] = self._write(
            lambda tx: sqlite_queue.renew(tx, worker, claims, lease)
        )
        self._locks.renew(worker)
        return kept

    # -- runs
    def claim_run(
        self,
        worker: str,
        *,
        environments: Collection[EnvironmentKey],
        labels: Collection[str] = (),
        only: str = "",
        performing: Collection[str] | None = None,
        digest: str = "",
    ) -> RunClaim | None:
        """The oldest run that may begin now, or that a dead worker left."""
        is_dead = self._locks.is_dead
        look = sqlite_runs.RunLook(worker, environments, labels, only, performing, digest, is_dead)
        with self._readers.lend() as connection:
            if not sqlite_runs.is_any_run_due(connection, self._clocks, look):
                return None
        found: RunClaim | None = self._write(lambda tx: sqlite_runs.claim_run(tx, look))
        return found

    def next_run_due(self) -> float | None:
        """Seconds until a run that waits may begin, or one may turn out to be left."""
        with self._readers.lend() as connection:
            return sqlite_runs.next_run_due(connection, self._clocks)

    # -- workers
    def register_worker(self, worker: str, *, info: Row) -> None:
        """A worker begins; it holds a lock until it retires or its process dies."""
        self._locks.hold(worker)
        self._write(lambda tx: house.register_worker(tx, worker, info))

    def retire_worker(self, worker: str) -> None:
        """A worker ends."""
        self._write(lambda tx: house.retire_worker(tx, worker))
        self._locks.release(worker)

    def live_workers(self) -> Sequence[Row]:
        """Workers that gave a sign of life within their lease and whose process lives."""
        with self._readers.lend() as connection:
            rows = sqlite_queue.live_workers(connection, self._clocks)
        return [views.as_json_types(row) for row in rows if not self._locks.is_dead(row["id"])]

    def subscribe(self, wake: Callable[[], None], *, least: News = News.step) -> Callable[[], None]:
        """Call `wake` when something has changed, by any process; see `Store.subscribe`."""
        return self._wake.subscribe(wake, least=least)

    # -- keeping house
    def prune(self, *, retention: float) -> Mapping[str, int]:
        """Drop payloads and output older than `retention` seconds; returns how many of each."""
        self._locks.sweep(older_than=DEAD_LOCKS_KEPT)
        return super().prune(retention=retention)
