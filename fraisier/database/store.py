"""What the stores have in common: each verb is one transaction, whatever the database.

Commands are handed to `_write` as functions of a transaction, which may be called more than once until one
of them is committed; everything that reads has connections of its own (`_reading`). The verbs themselves
stand, with their SQL, in `receiving` (deliveries, wishes) and `deciding` (what follows from them), `claims`,
`journal` (attempts, steps, output, endings), `house` (publishing, workers, pruning) and `views` (reading).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from fraisier.application.ports import Claim, Delivery, Ending, Holder, Output, Received, Requested, Row
from fraisier.database import claims, databases, hosts, house, journal, pauses, receiving, runs, views
from fraisier.database.backups import BackupVerbs
from fraisier.database.clocks import iso
from fraisier.database.jobs import Job, Work
from fraisier.database.prepared_delivery import prepared_early
from fraisier.database.run_store import SqlRuns
from fraisier.database.transaction import Connection, Statements, Transaction
from fraisier.domain.deployment import Deployment, Wish
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import EnvironmentKey, Fraise
from fraisier.domain.migration import DatabaseChange
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.rollout import Standing

if TYPE_CHECKING:
    import asyncio


class SqlStore(SqlRuns, BackupVerbs):
    """`Store` on SQL. Safe to use from any thread; see `application.ports.Store`."""

    installation: str
    _sql: Statements

    def __init__(self) -> None:
        self._waiting: dict[asyncio.AbstractEventLoop, list[Job]] = {}

    @abstractmethod
    def _put(self, jobs: list[Job]) -> None:
        """Hand deliveries to the thread that writes them.

        Raises:
            StoreUnavailable: the store was closed.
        """

    @abstractmethod
    def _write(self, work: Work) -> Any:
        """Perform `work` in a transaction, and return what it returned when that was committed."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]:
        """A connection to read from."""

    @abstractmethod
    def _now(self) -> float:
        """Unix time, as events and output have it."""

    # -- receiving and requesting
    def record(self, delivery: Delivery) -> Future[Received]:
        """Store the event and the deployments it asks for; resolves after the commit."""
        job = Job(None, delivery, len(delivery.payload))
        future: Future[Received] = Future()
        job.future = future
        self._put([job])
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
            self._put(jobs)
        except Exception as error:  # noqa: BLE001 - whoever awaits is told, not the loop
            for job in jobs:
                job.error = error
                job.settle()

    def request(self, wish: Wish) -> Requested:
        """Decide on one wish and store what follows; raises NotFound."""
        return self._write(lambda tx: receiving.request(tx, wish))  # type: ignore[no-any-return]

    def cancel(self, deployment: str, *, by: str) -> Deployment:
        """Cancel a pending deployment, ask the worker of a running one; raises NotFound, Conflict."""
        return self._write(lambda tx: claims.cancel(tx, deployment, by))  # type: ignore[no-any-return]

    def pause(self, environment: EnvironmentKey, *, by: str, reason: str) -> None:
        """Let nothing begin by itself; raises NotFound."""
        self._write(lambda tx: pauses.pause(tx, environment, by, reason))

    def resume(self, environment: EnvironmentKey, *, by: str) -> bool:
        """Let what waits begin; whether it was paused; raises NotFound."""
        was_paused: bool = self._write(lambda tx: pauses.resume(tx, environment, by))
        return was_paused

    # -- claims
    def cancel_requests(self, worker: str) -> Mapping[str, str]:
        """Running deployments of this worker that someone asked to cancel: id -> who."""
        with self._reading() as connection:
            return claims.cancel_requests(connection, worker)

    # -- the journal of one attempt
    def _held(self, claim: Claim, work: Work) -> Any:
        """Write under the claim's token, checked in the same transaction."""

        def checked(tx: Transaction) -> Any:
            claims.hold(tx, claim)
            return work(tx)

        return self._write(checked)

    def begin_attempt(self, claim: Claim, *, resolved: str) -> int:
        """A new attempt; steps left running become `interrupted`."""
        number: int = self._held(claim, lambda tx: journal.begin_attempt(tx, claim, resolved))
        return number

    def begin_with_step(
        self, claim: Claim, *, resolved: str, phase: Phase, name: StepName, release: str, host: str = ""
    ) -> tuple[int, int]:
        """A new attempt and its first step; returns the attempt's number and the step's id."""
        begin = partial(journal.begin_with_step, phase=phase, name=name, release=release, host=host)
        begun: tuple[int, int] = self._held(claim, lambda tx: begin(tx, claim, resolved))
        return begun

    def next_release_number(self, claim: Claim) -> int:
        """A number that no release of the environment had."""
        number: int = self._held(claim, lambda tx: journal.next_release_number(tx, claim))
        return number

    def pin(self, claim: Claim, *, commit: str, seen_tip: str = "") -> None:
        """Fix the deployment's commit, for good, and remember the tip."""
        self._held(claim, lambda tx: journal.pin(tx, claim, commit, seen_tip))

    def set_release(self, claim: Claim, *, release: str, previous: str) -> None:
        """Which release the deployment brings in, and which it would go back to."""
        self._held(claim, lambda tx: journal.set_release(tx, claim, release, previous))

    def begin_step(
        self, claim: Claim, attempt: int, *, phase: Phase, name: StepName, release: str, host: str = ""
    ) -> int:
        """Journal that a step begins; returns its id."""
        begin = partial(journal.begin_step, phase=phase, name=name, release=release, host=host)
        step: int = self._held(claim, lambda tx: begin(tx, claim, attempt))
        return step

    def standings(self, environment: EnvironmentKey) -> Sequence[Standing]:
        """Where the hosts of an environment with several stand."""
        with self._reading() as connection:
            return hosts.standings(connection, environment)

    def note_hosts(self, claim: Claim, standings: Sequence[Standing]) -> None:
        """Where these hosts stand from now on."""
        self._held(claim, lambda tx: hosts.note(tx, claim, standings))

    def end_step(
        self, claim: Claim, step: int, *, state: StepState, tail: str, failure: StepFailed | None = None
    ) -> None:
        """Journal how it ended, with the end of its output."""
        end = partial(journal.end_step, state=state, tail=tail, failure=failure)
        self._held(claim, lambda tx: end(tx, claim, step))

    def write_output(self, claim: Claim, step: int, text: str) -> None:
        """Append redacted output, bounded per step."""
        self._held(claim, lambda tx: journal.write_output(tx, claim, step, text))

    # -- databases of environments
    def note_database(self, claim: Claim, change: DatabaseChange) -> None:
        """Note what became of the environment's database."""
        self._held(claim, lambda tx: databases.note(tx, claim, change))

    def lock_database(self, claim: Claim, name: str) -> Holder | None:
        """Take a database for this deployment; returns who has it instead."""
        holder: Holder | None = self._held(claim, lambda tx: databases.lock(tx, claim, name))
        return holder

    def unlock_databases(self, claim: Claim) -> None:
        """Let go of whatever databases this deployment has taken."""
        self._held(claim, lambda tx: databases.unlock(tx, claim))

    def database_changes(self, environment: EnvironmentKey, *, deployment: str = "") -> Sequence[Row]:
        """Rows of v_database_change, oldest first; of one deployment, where that is given."""
        with self._reading() as connection:
            return databases.changes(connection, environment, deployment)

    def finish(self, claim: Claim, attempt: int, ending: Ending) -> Deployment:
        """End attempt and deployment, note what runs, release the lease."""
        ended: Deployment = self._held(claim, lambda tx: journal.finish(tx, claim, attempt, ending))
        return ended

    def retry_later(
        self,
        claim: Claim,
        attempt: int,
        *,
        delay: float,
        cause: Cause,
        error: str,
        hint: str = "",
        hosts: Sequence[Standing] = (),
    ) -> Deployment:
        """End the attempt; the deployment waits `delay` seconds as pending."""
        later = partial(journal.retry_later, delay=delay, cause=cause, error=error, hint=hint, hosts=hosts)
        waiting: Deployment = self._held(claim, lambda tx: later(tx, claim, attempt))
        return waiting

    def hand_back(self, claim: Claim) -> None:
        """Give up the lease and leave the deployment as it is."""
        self._held(claim, lambda tx: claims.let_go(tx, claim))

    @abstractmethod
    def interrupt_left(self) -> int:
        """End what dead workers left under way as `interrupted`; returns how many attempts."""

    # -- configuration and workers
    def publish(
        self, fraises: Sequence[Fraise], *, digest: str, documents: Mapping[EnvironmentKey, Row]
    ) -> None:
        """Replace what is published."""
        self._write(lambda tx: house.publish(tx, fraises, digest, documents))

    def published_digest(self) -> str:
        """The digest of what is published; '' before the first time."""
        with self._reading() as connection:
            return house.published_digest(connection)

    # -- reading
    def fraises(self, fraise: str = "") -> Sequence[Row]:
        """Rows of v_fraise."""
        with self._reading() as connection:
            return views.fraises(connection, fraise=fraise)

    def unfinished(self) -> Sequence[Row]:
        """What waits or runs, with the labels that a worker needs for it."""
        with self._reading() as connection:
            return views.unfinished(connection)

    def fraise_status(self, fraise: str = "", environment: str = "") -> Sequence[Row]:
        """Rows of v_fraise_status."""
        with self._reading() as connection:
            return views.fraise_status(connection, fraise=fraise, environment=environment)

    def hosts(self, fraise: str = "", environment: str = "") -> Sequence[Row]:
        """Rows of v_environment_hosts."""
        with self._reading() as connection:
            return views.hosts(connection, fraise=fraise, environment=environment)

    def history(
        self, fraise: str = "", environment: str = "", *, status: str = "", limit: int = 20, offset: int = 0
    ) -> Sequence[Row]:
        """Rows of v_deployment_history, newest first."""
        filters = {"fraise": fraise, "environment": environment, "status": status}
        with self._reading() as connection:
            return views.history(connection, self._sql, {**filters, "limit": limit, "offset": offset})

    def stats(self, fraise: str = "", environment: str = "", *, days: int = 30) -> Sequence[Row]:
        """Rows of v_deployment_stats, of requests of the last `days` days (UTC, today included)."""
        since = iso(self._now() - (days - 1) * 86400)[:10] if days > 0 else ""
        with self._reading() as connection:
            return views.stats(connection, fraise=fraise, environment=environment, since=since)

    def events(self, *, limit: int = 20, verdict: str = "") -> Sequence[Row]:
        """Rows of v_webhook_events, newest first."""
        with self._reading() as connection:
            return views.events(connection, limit=limit, verdict=verdict)

    def deployment(self, id_or_prefix: str) -> Row:
        """One row of v_deployment_history; raises NotFound."""
        with self._reading() as connection:
            return views.deployment(connection, id_or_prefix)

    def steps(self, deployment: str) -> Sequence[Row]:
        """The journal of a deployment, oldest first."""
        with self._reading() as connection:
            return views.steps(connection, deployment)

    def output(self, deployment: str, *, after: int = 0, limit: int = 1000) -> Sequence[Output]:
        """Pieces of output with a `seq` above `after`, in order."""
        with self._reading() as connection:
            return views.output(connection, deployment, after=after, limit=limit)

    def counts(self) -> Mapping[str, int]:
        """Deployments per status and events per verdict: 'deployments.success' -> n."""
        with self._reading() as connection:
            return views.counts(connection)

    # -- keeping house
    def audit(self, *, actor: str, action: str, subject: str, detail: Row) -> None:
        """Write an audit row."""
        self._write(lambda tx: tx.audit(actor=actor, action=action, subject=subject, detail=detail))

    def prune(self, *, retention: float) -> Mapping[str, int]:
        """Drop payloads and output older than `retention` seconds; returns how many of each."""
        before = iso(self._now() - retention)
        self._write(lambda tx: house.forget_workers(tx, before))
        return {
            "payloads": self._prune(house.prune_payloads, before),
            "output": self._prune(house.prune_output, before) + self._prune(runs.prune_output, before),
        }

    def _prune(self, prune: Callable[[Transaction, str], tuple[int, bool]], before: str) -> int:
        total, more = 0, True
        while more:
            dropped, more = self._write(lambda tx: prune(tx, before))
            total += dropped
        return total

    def token(self, environment: EnvironmentKey) -> int:
        """The environment's newest token; 0 for one that was never published."""
        with self._reading() as connection:
            return views.token(connection, environment)

    def resolved(self, deployment: str) -> str:
        """The environment as the deployment's last attempt resolved it; '' where there was none."""
        with self._reading() as connection:
            return views.resolved(connection, deployment)

    def resolved_since(self, position: int) -> Sequence[Row]:
        """What attempts behind `position` were given, each once, oldest first."""
        with self._reading() as connection:
            return views.resolved_since(connection, position=position)

    def ping(self) -> None:
        """Return if the database can be written; raises StoreUnavailable."""
        self._write(lambda tx: tx.execute("UPDATE tb_installation SET pk = 1 WHERE pk = 1"))
