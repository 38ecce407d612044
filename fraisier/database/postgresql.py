"""The store on PostgreSQL 14 or newer: any number of processes, on any number of machines.

A verb is one transaction on a session that is lent to it (`postgresql_transaction`); deliveries are
written a batch at a time by one thread (`postgresql_writer`). The verbs are those of every store (`store`),
but for claims (`postgresql_queue`). Times are the server's.

When a connection breaks, a transaction that was not committed is performed again, and one whose COMMIT was
not answered is asked after by its receipt. So each verb is done once, and its caller does not notice. Only
where the server cannot be asked within 3 seconds is StoreUnavailable raised though the verb may have been
done. Then:

* `record`: the forge sends the delivery again, and it is answered as a duplicate of itself;
* `request`: a push or a sweep that asks again for the same commit asks for nothing; a person sees two;
* `cancel`: asked again it is refused (Conflict) if the deployment ended by it;
* `claim`: the lease ends without a renewal, and the deployment is taken over as after a crash;
* `renew`, `pin`, `set_release`, `publish`, `register_worker`, `retire_worker`, `prune`, `raise_token`,
  `hand_back`: done twice they are as done once (a token or a release number may be left out);
* `begin_attempt`, `begin_step`, `begin_with_step`: the next attempt marks what was begun as interrupted;
* `end_step`: raises Conflict if it is said again; the worker gives the attempt up, and it is resumed;
* `write_output`: a piece of output may be there twice;
* `request_run`, `report_run`, `raise_alert`: as `request`; one with a `due`, or an invocation, is there once;
* `claim_run`: the run is its worker's, who does not know it, until that worker ends: then it is taken over;
* `finish_run`: the run has ended; said again it is refused (TokenOutdated);
* `finish`, `retry_later`: the deployment has ended or waits, the lease is released; said again by the same
  claim they are refused (ForbiddenTransition), and nothing is done twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psycopg

from fraisier.application.ports import Claim, Row, RunClaim
from fraisier.application.ports.news import News
from fraisier.application.settings import Settings
from fraisier.database import house, journal, postgresql_queue, postgresql_runs, views
from fraisier.database.clocks import iso
from fraisier.database.jobs import Job, Work
from fraisier.database.migration_files import load_migrations, migrations_folder, newest_number
from fraisier.database.postgresql_connection import (
    PATIENCE,
    Connections,
    DatabaseUrl,
    Reading,
)
from fraisier.database.postgresql_migrate import is_current, migrate
from fraisier.database.postgresql_statements import POSTGRESQL
from fraisier.database.postgresql_transaction import Transactions
from fraisier.database.postgresql_wake import Listener
from fraisier.database.postgresql_writer import DeliveryWriter
from fraisier.database.private_folder import private_folder
from fraisier.database.store import SqlStore
from fraisier.database.transaction import Connection, Transaction
from fraisier.database.uuids import random_uuid
from fraisier.domain.errors import StoreUnavailable
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.secret import Secret

_NOW = "SELECT extract(epoch FROM clock_timestamp())::double precision"
_FORGET_RECEIPTS = "DELETE FROM tb_receipts WHERE at < clock_timestamp() - interval '1 day'"
_PRUNE_CHANGE_LOG = "SELECT fn_prune_change_log(CAST(? AS timestamptz), ?) AS dropped"


def open_store(settings: Settings, *, readonly: bool) -> PostgresqlStore:
    """The store that the configuration names; raises what `open_postgresql` raises.

    Makes the state folder, which has the mirrors: what is not there yet shall be closed to others.
    """
    if not readonly:
        _make_private(Path(settings.state_folder))
    return open_postgresql(settings.database_url, password=settings.database_password, readonly=readonly)


def _make_private(folder: Path) -> None:
    try:
        private_folder(folder)
    except OSError as error:
        message = f"cannot create the state folder {folder}: {error.strerror}"
        raise StoreUnavailable(message, "Create it for this user, or change state_folder") from error


def open_postgresql(url: str, *, password: Secret | None = None, readonly: bool = False) -> PostgresqlStore:
    """The store at `postgresql://…`, migrated to what this Fraisier knows.

    `readonly` says that nothing will be written: migrations are looked at only if the database does not have
    as many as we. `password` is used instead of one in the URL.

    Raises:
        UsageError: the URL is none of PostgreSQL's.
        StoreUnavailable: the server cannot be reached within 3 seconds, or refuses us.
        StoreTooNew: a newer Fraisier has migrated the database.
    """
    connections = Connections(DatabaseUrl(url, password))
    try:
        bring_up_to_date(connections, thorough=not readonly)
        return PostgresqlStore(connections)
    except BaseException:
        connections.close()
        raise


def bring_up_to_date(connections: Connections, *, thorough: bool) -> list[int]:
    """Apply the pending migrations; returns their numbers. Unless `thorough`, a look tells that none are.

    Raises:
        StoreUnavailable: the server cannot be used.
        StoreTooNew: a newer Fraisier has migrated the database.
    """
    folder = migrations_folder("postgresql")
    connection = connections.take(_latest(), bounded=False)  # a migration may take its time
    try:
        if thorough or not is_current(connection, newest_number(folder)):
            return migrate(connection, load_migrations(folder))
        return []
    except psycopg.Error as error:
        raise connections.url.unavailable(error) from error
    finally:
        connections.give_back(connection)


def _latest() -> float:
    return time.monotonic() + PATIENCE


class PostgresqlStore(SqlStore):
    """`Store` on one PostgreSQL database. See the module's docstring for what lost connections lead to."""

    _sql = POSTGRESQL

    def __init__(self, connections: Connections) -> None:
        super().__init__()
        self._connections = connections
        self._reader = Reading(connections)
        name = random_uuid()
        self._transactions = Transactions(connections, name)
        self._writer = DeliveryWriter(self._transactions)
        self._listener = Listener(connections.url, name)
        self.installation = house.installation(self._reader)

    def close(self) -> None:
        """Finish what was handed over, then let go of everything."""
        self._writer.close()
        self._listener.close()
        self._connections.close()

    def _put(self, jobs: list[Job]) -> None:
        self._writer.put(jobs)

    def _write(self, work: Work) -> Any:
        return self._transactions.perform(work)

    def _reading(self) -> AbstractContextManager[Connection]:
        return nullcontext(self._reader)

    def _now(self) -> float:
        return float(self._reader.execute(_NOW).fetchall()[0][0])

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
        look = postgresql_queue.Look(environments, labels, closed, digest)
        found: Claim | None = self._write(lambda tx: postgresql_queue.claim(tx, worker, lease, look))
        return found

    def interrupt_left(self) -> int:
        """End what dead workers left under way as `interrupted`; returns how many attempts."""
        if not postgresql_queue.is_anything_left(self._reader):
            return 0
        ended: int = self._write(lambda tx: journal.interrupt_left(tx, postgresql_queue.left(tx)))
        return ended

    def raise_token(self, environment: EnvironmentKey, *, above: int, by: str) -> int:
        """A token over the environment's own and `above`; raises Conflict, NotFound."""
        token: int = self._write(lambda tx: postgresql_queue.raise_token(tx, environment, above, by))
        return token

    def next_due(self) -> float | None:
        """Seconds until a waiting retry is due or a lease ends on which something waits."""
        return postgresql_queue.next_due(self._reader)

    def renew(self, worker: str, claims: Sequence[Claim], *, lease: float) -> Collection[EnvironmentKey]:
        """Prolong the leases; returns those that are still ours."""
        kept: Collection[EnvironmentKey] = self._write(
            lambda tx: postgresql_queue.renew(tx, worker, claims, lease)
        )
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
        look = postgresql_runs.RunLook(worker, environments, labels, only, performing, digest)
        if not postgresql_runs.is_any_run_due(self._reader, look):
            return None
        found: RunClaim | None = self._write(lambda tx: postgresql_runs.claim_run(tx, look))
        return found

    def next_run_due(self) -> float | None:
        """Seconds until a run that waits may begin, or one may turn out to be left."""
        return postgresql_runs.next_run_due(self._reader)

    # -- workers
    def register_worker(self, worker: str, *, info: Row) -> None:
        """A worker begins; raises Conflict where one of that name lives in another process."""
        self._write(lambda tx: house.register_worker(tx, worker, info))

    def retire_worker(self, worker: str) -> None:
        """A worker ends."""
        self._write(lambda tx: house.retire_worker(tx, worker))

    def live_workers(self) -> Sequence[Row]:
        """Workers that gave a sign of life within their lease."""
        return [views.as_json_types(row) for row in postgresql_queue.live_workers(self._reader)]

    def subscribe(self, wake: Callable[[], None], *, least: News = News.step) -> Callable[[], None]:
        """Call `wake` when something has changed, by any process; see `Store.subscribe`."""
        return self._listener.subscribe(wake, least=least)

    # -- keeping house
    def prune(self, *, retention: float) -> Mapping[str, int]:
        """Drop payloads and output older than `retention` seconds; returns how many of each.

        What fraiseql-server's subscriptions were fed from goes with them.
        """
        self._write(lambda tx: tx.execute(_FORGET_RECEIPTS))
        self._prune(_prune_change_log, iso(self._now() - retention))
        return super().prune(retention=retention)


def _prune_change_log(tx: Transaction, before: str) -> tuple[int, bool]:
    (row,) = tx.execute(_PRUNE_CHANGE_LOG, (before, house.PRUNE_CHUNK)).fetchall()
    return row["dropped"], row["dropped"] == house.PRUNE_CHUNK
