"""The store on SQLite: one file on a local disk, any number of processes on that machine.

Commands go through the one writer thread (`sqlite_writer`), everything that reads has connections of its
own. The verbs themselves stand, with their SQL, in `sqlite_receive` (deliveries, wishes) and
`sqlite_deciding` (what follows from them), `sqlite_queue` (claims), `sqlite_journal` (attempts, steps,
output, endings), `sqlite_house` (publishing, workers, pruning) and `sqlite_views` (reading).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraisier.application.ports import Claim, Delivery, Ending, Output, Received, Requested, Row
from fraisier.database import (
    migrate,
    sqlite_house,
    sqlite_journal,
    sqlite_queue,
    sqlite_receive,
    sqlite_views,
)
from fraisier.database.clocks import Clocks, iso, system_clocks
from fraisier.database.prepared_delivery import prepared, prepared_early
from fraisier.database.sqlite_connection import Readers, connect, path_of, prepare_file, unavailable
from fraisier.database.sqlite_jobs import Job, Work
from fraisier.database.sqlite_transaction import Transaction
from fraisier.database.sqlite_write_lock import PATIENCE
from fraisier.database.sqlite_writer import Writer
from fraisier.database.wake import Wake
from fraisier.database.worker_locks import WorkerLocks
from fraisier.domain.deployment import Deployment, Wish
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import EnvironmentKey, Fraise
from fraisier.domain.plan import Phase, StepName, StepState

if TYPE_CHECKING:
    import asyncio

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
    _bring_up_to_date(path, thorough=not readonly)
    return SqliteStore(path, state_folder=Path(state_folder), clocks=clocks or system_clocks())


def _bring_up_to_date(path: Path, *, thorough: bool) -> None:
    folder = migrate.migrations_folder("sqlite")
    connection = connect(path, patience=PATIENCE, write=thorough)
    try:
        if not thorough and migrate.is_current(connection, folder):
            return
        if not thorough:
            connection.close()
            connection = connect(path, patience=PATIENCE, write=True)
        migrate.migrate(connection, path, migrate.load_migrations(folder))
    except sqlite3.Error as error:
        raise unavailable(path, error) from error
    finally:
        connection.close()


class SqliteStore:
    """`Store` on one SQLite file. Safe to use from any thread; see `application.ports.Store`."""

    def __init__(self, path: Path, *, state_folder: Path, clocks: Clocks) -> None:
        self.path = path
        self._clocks = clocks
        self._readers = Readers(path)
        self._wake = Wake(state_folder / "wake")
        self._locks = WorkerLocks(state_folder / "workers")
        self._writer = Writer(
            path,
            clocks,
            prepare=prepared,
            group=sqlite_receive.record_all,
            woken=self._wake.ring,
        )
        self._waiting: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        with self._readers.lend() as connection:
            self.installation = sqlite_house.installation(connection)

    def close(self) -> None:
        """Finish what was handed over, then let go of everything."""
        self._writer.close()
        self._wake.close()
        self._locks.close()
        self._readers.close()

    def _write(self, work: Work) -> Any:
        return self._writer.perform(work)

    # -- receiving and requesting
    def record(self, delivery: Delivery) -> Future[Received]:
        """Store the event and the deployments it asks for; resolves after the commit."""
        job = Job(None, delivery, len(delivery.payload))
        future: Future[Received] = Future()
        job.future = future
        self._writer.put([job])
        return future

    def record_async(self, delivery: Delivery, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Received]:
        """`record` for an event loop; call it in the loop's thread.

        All deliveries of one turn of the loop are handed over together, and all of one commit are
        answered together: two hand-overs between threads per batch, not per delivery.
        """
        job = Job(None, prepared_early(delivery), len(delivery.payload))
        future: asyncio.Future[Received] = loop.create_future()
        job.loop, job.future = loop, future
        waiting = self._waiting.get(loop)
        if waiting is None:
            self._waiting[loop] = [job]
            loop.call_soon(self._hand_over, loop)
        else:
            waiting.append(job)
        return future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        jobs = self._waiting.pop(loop)
        try:
            self._writer.put(jobs)
        except Exception as error:  # noqa: BLE001 - whoever awaits is told, not the loop
            for job in jobs:
                job.error = error
                job.settle()

    def request(self, wish: Wish) -> Requested:
        """Decide on one wish and store what follows; raises NotFound."""
        return self._write(lambda tx: sqlite_receive.request(tx, wish))  # type: ignore[no-any-return]

    def cancel(self, deployment: str, *, by: str) -> Deployment:
        """Cancel a pending deployment, ask the worker of a running one; raises NotFound, Conflict."""
        return self._write(lambda tx: sqlite_queue.cancel(tx, deployment, by))  # type: ignore[no-any-return]

    # -- claims
    def claim(self, worker: str, *, lease: float, environments: Collection[EnvironmentKey]) -> Claim | None:
        """The next deployment that may be performed, or None."""
        is_dead = self._locks.is_dead
        with self._readers.lend() as connection:
            if not sqlite_queue.is_anything_due(connection, self._clocks, environments, is_dead):
                return None
        found: Claim | None = self._write(
            lambda tx: sqlite_queue.claim(tx, worker, lease, environments, is_dead)
        )
        return found

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

    def cancel_requests(self, worker: str) -> Mapping[str, str]:
        """Running deployments of this worker that someone asked to cancel: id -> who."""
        with self._readers.lend() as connection:
            return sqlite_queue.cancel_requests(connection, worker)

    # -- the journal of one attempt
    def _held(self, claim: Claim, work: Work) -> Any:
        """Write under the claim's token, checked in the same transaction."""

        def checked(tx: Transaction) -> Any:
            sqlite_queue.hold(tx, claim)
            return work(tx)

        return self._write(checked)

    def begin_attempt(self, claim: Claim, *, resolved: str) -> int:
        """A new attempt; steps left running become `interrupted`."""
        number: int = self._held(claim, lambda tx: sqlite_journal.begin_attempt(tx, claim, resolved))
        return number

    def next_release_number(self, claim: Claim) -> int:
        """A number that no release of the environment had."""
        number: int = self._held(claim, lambda tx: sqlite_journal.next_release_number(tx, claim))
        return number

    def pin(self, claim: Claim, *, commit: str, seen_tip: str = "") -> None:
        """Fix the deployment's commit, for good, and remember the tip."""
        self._held(claim, lambda tx: sqlite_journal.pin(tx, claim, commit, seen_tip))

    def set_release(self, claim: Claim, *, release: str, previous: str) -> None:
        """Which release the deployment brings in, and which it would go back to."""
        self._held(claim, lambda tx: sqlite_journal.set_release(tx, claim, release, previous))

    def begin_step(self, claim: Claim, attempt: int, *, phase: Phase, name: StepName, release: str) -> int:
        """Journal that a step begins; returns its id."""
        begin = partial(sqlite_journal.begin_step, phase=phase, name=name, release=release)
        step: int = self._held(claim, lambda tx: begin(tx, claim, attempt))
        return step

    def end_step(self, claim: Claim, step: int, *, state: StepState, tail: str, error: str = "") -> None:
        """Journal how it ended, with the end of its output."""
        end = partial(sqlite_journal.end_step, state=state, tail=tail, error=error)
        self._held(claim, lambda tx: end(tx, claim, step))

    def write_output(self, claim: Claim, step: int, text: str) -> None:
        """Append redacted output, bounded per step."""
        self._held(claim, lambda tx: sqlite_journal.write_output(tx, claim, step, text))

    def finish(self, claim: Claim, attempt: int, ending: Ending) -> Deployment:
        """End attempt and deployment, note what runs, release the lease."""
        ended: Deployment = self._held(claim, lambda tx: sqlite_journal.finish(tx, claim, attempt, ending))
        return ended

    def retry_later(
        self, claim: Claim, attempt: int, *, delay: float, cause: Cause, error: str, hint: str = ""
    ) -> Deployment:
        """End the attempt; the deployment waits `delay` seconds as pending."""
        later = partial(sqlite_journal.retry_later, delay=delay, cause=cause, error=error, hint=hint)
        waiting: Deployment = self._held(claim, lambda tx: later(tx, claim, attempt))
        return waiting

    def hand_back(self, claim: Claim) -> None:
        """Give up the lease and leave the deployment as it is."""
        self._held(claim, lambda tx: sqlite_queue.let_go(tx, claim))

    # -- configuration and workers
    def publish(
        self, fraises: Sequence[Fraise], *, digest: str, documents: Mapping[EnvironmentKey, Row]
    ) -> None:
        """Replace what is published."""
        self._write(lambda tx: sqlite_house.publish(tx, fraises, digest, documents))

    def published_digest(self) -> str:
        """The digest of what is published; '' before the first time."""
        with self._readers.lend() as connection:
            return sqlite_house.published_digest(connection)

    def register_worker(self, worker: str, *, info: Row) -> None:
        """A worker begins; it holds a lock until it retires or its process dies."""
        self._locks.hold(worker)
        self._write(lambda tx: sqlite_house.register_worker(tx, worker, info))

    def retire_worker(self, worker: str) -> None:
        """A worker ends."""
        self._write(lambda tx: sqlite_house.retire_worker(tx, worker))
        self._locks.release(worker)

    def live_workers(self) -> Sequence[Row]:
        """Workers that gave a sign of life within their lease and whose process lives."""
        with self._readers.lend() as connection:
            rows = sqlite_house.live_workers(
                connection, boot=self._clocks.boot_id, boottime=self._clocks.boottime()
            )
        return [sqlite_views.as_json_types(row) for row in rows if not self._locks.is_dead(row["id"])]

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when something has changed, by any process; see `Store.subscribe`."""
        return self._wake.subscribe(wake)

    # -- reading
    def fraises(self, fraise: str = "") -> Sequence[Row]:
        """Rows of v_fraise."""
        with self._readers.lend() as connection:
            return sqlite_views.fraises(connection, fraise=fraise)

    def fraise_status(self, fraise: str = "", environment: str = "") -> Sequence[Row]:
        """Rows of v_fraise_status."""
        with self._readers.lend() as connection:
            return sqlite_views.fraise_status(connection, fraise=fraise, environment=environment)

    def history(
        self, fraise: str = "", environment: str = "", *, status: str = "", limit: int = 20, offset: int = 0
    ) -> Sequence[Row]:
        """Rows of v_deployment_history, newest first."""
        filters = {"fraise": fraise, "environment": environment, "status": status}
        with self._readers.lend() as connection:
            return sqlite_views.history(connection, {**filters, "limit": limit, "offset": offset})

    def stats(self, fraise: str = "", environment: str = "", *, days: int = 30) -> Sequence[Row]:
        """Rows of v_deployment_stats, of requests of the last `days` days (UTC, today included)."""
        since = iso(self._clocks.now() - (days - 1) * 86400)[:10] if days > 0 else ""
        with self._readers.lend() as connection:
            return sqlite_views.stats(connection, fraise=fraise, environment=environment, since=since)

    def events(self, *, limit: int = 20, verdict: str = "") -> Sequence[Row]:
        """Rows of v_webhook_events, newest first."""
        with self._readers.lend() as connection:
            return sqlite_views.events(connection, limit=limit, verdict=verdict)

    def deployment(self, id_or_prefix: str) -> Row:
        """One row of v_deployment_history; raises NotFound."""
        with self._readers.lend() as connection:
            return sqlite_views.deployment(connection, id_or_prefix)

    def steps(self, deployment: str) -> Sequence[Row]:
        """The journal of a deployment, oldest first."""
        with self._readers.lend() as connection:
            return sqlite_views.steps(connection, deployment)

    def output(self, deployment: str, *, after: int = 0, limit: int = 1000) -> Sequence[Output]:
        """Pieces of output with a `seq` above `after`, in order."""
        with self._readers.lend() as connection:
            return sqlite_views.output(connection, deployment, after=after, limit=limit)

    def counts(self) -> Mapping[str, int]:
        """Deployments per status and events per verdict: 'deployments.success' -> n."""
        with self._readers.lend() as connection:
            return sqlite_views.counts(connection)

    # -- keeping house
    def audit(self, *, actor: str, action: str, subject: str, detail: Row) -> None:
        """Write an audit row."""
        self._write(lambda tx: tx.audit(actor=actor, action=action, subject=subject, detail=detail))

    def prune(self, *, retention: float) -> Mapping[str, int]:
        """Drop payloads and output older than `retention` seconds; returns how many of each."""
        before = iso(self._clocks.now() - retention)
        self._write(lambda tx: sqlite_house.forget_workers(tx, before))
        self._locks.sweep(older_than=DEAD_LOCKS_KEPT)
        return {
            "payloads": self._prune(sqlite_house.prune_payloads, before),
            "output": self._prune(sqlite_house.prune_output, before),
        }

    def _prune(self, prune: Callable[[Transaction, str], tuple[int, bool]], before: str) -> int:
        total, more = 0, True
        while more:
            dropped, more = self._write(lambda tx: prune(tx, before))
            total += dropped
        return total

    def ping(self) -> None:
        """Return if the database can be written; raises StoreUnavailable."""
        self._write(lambda tx: tx.execute("UPDATE tb_installation SET pk = 1 WHERE pk = 1"))
