"""State and history: all that outlives a process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fraisier.application.ports.attempt import Claim, Ending, Holder, Output
from fraisier.application.ports.backup_notes import BackupNotes
from fraisier.application.ports.news import News
from fraisier.application.ports.receiving import Delivery, Received, Requested
from fraisier.application.ports.runs import Runs
from fraisier.domain.deployment import Deployment, Wish
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import EnvironmentKey, Fraise
from fraisier.domain.migration import DatabaseChange
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.rollout import Standing

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from asyncio import Future as AsyncFuture
    from concurrent.futures import Future  # imports logging: 5 ms of every command's start

Row = Mapping[str, Any]  # a row of a view: JSON types only, keys as in the view


class Store(Runs, BackupNotes, Protocol):
    """State and history. Every method but `prune` is one transaction, durable when it returns.

    Methods that take a `Claim` raise TokenOutdated when the environment has a higher token. Every method
    raises StoreUnavailable when the database does not answer in time.
    """

    installation: str

    def close(self) -> None:
        """Finish what was handed over, then let go of everything."""
        ...

    # -- receiving and requesting
    def record(self, delivery: Delivery) -> Future[Received]:
        """Store the event and the deployments it asks for; resolves after the commit."""
        ...

    def record_async(self, delivery: Delivery, loop: AbstractEventLoop) -> AsyncFuture[Received]:
        """`record` for an event loop, called in its thread: all of one commit are answered together."""
        ...

    def request(self, wish: Wish) -> Requested:
        """Decide on one wish (`domain.deployment.decide`) and store what follows. Wakes the workers.

        Raises:
            NotFound: no such environment was published.
        """
        ...

    def cancel(self, deployment: str, *, by: str) -> Deployment:
        """Cancel a pending deployment at once; ask the worker of a running one to stop it.

        Raises:
            NotFound: no such deployment.
            Conflict: it has ended.
        """
        ...

    def pause(self, environment: EnvironmentKey, *, by: str, reason: str) -> None:
        """Let nothing begin in the environment but what `domain.deployment.goes_through`; ends with `resume`.

        What is asked for is stored and waits, what runs goes on to its end. Who, when and why are replaced
        where it is paused already.

        Raises:
            NotFound: no such environment was published.
        """
        ...

    def resume(self, environment: EnvironmentKey, *, by: str) -> bool:
        """End a pause and wake the workers: the newest that waits begins. Whether it was paused.

        Raises:
            NotFound: no such environment was published.
        """
        ...

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
        """The next deployment that may be performed: of a free environment, rollbacks first, then oldest.

        Raises the environment's token by one. A running deployment whose lease has ended is claimed
        again (takeover), before pending ones. What was asked for in environments that are no longer
        published comes too, so that it ends. Only what a worker with these `labels` may take
        (`domain.labels`) is claimed: of a pending one by what is published, of a running one by what was
        published when it was begun, if that names labels. Where it is paused, or `closed` (outside of its
        windows), nothing is begun but what `domain.deployment.goes_through`; what was begun goes on.
        Where another configuration than `digest` has been published ('' = whatever is), nothing is claimed.
        None: nothing to do now.
        """
        ...

    def raise_token(self, environment: EnvironmentKey, *, above: int, by: str) -> int:
        """Raise the environment's token over its own and `above` (`fraisier adopt`); returns it.

        Raises:
            Conflict: a worker holds the environment.
            NotFound: no such environment was published.
        """
        ...

    def token(self, environment: EnvironmentKey) -> int:
        """The environment's newest fencing token; 0 for one that was never published."""
        ...

    def next_due(self) -> float | None:
        """Seconds until a retry is due or a lease ends on which something waits; None: nothing waits."""
        ...

    def renew(self, worker: str, claims: Sequence[Claim], *, lease: float) -> Collection[EnvironmentKey]:
        """Prolong the leases; returns those that are still ours. Also the worker's sign of life."""
        ...

    def cancel_requests(self, worker: str) -> Mapping[str, str]:
        """Running deployments of this worker that someone asked to cancel: id -> who."""
        ...

    # -- the journal of one attempt
    def begin_attempt(self, claim: Claim, *, resolved: str) -> int:
        """A new attempt with its resolved environment; steps left running become `interrupted`."""
        ...

    def begin_with_step(
        self, claim: Claim, *, resolved: str, phase: Phase, name: StepName, release: str, host: str = ""
    ) -> tuple[int, int]:
        """`begin_attempt` and `begin_step`, both or neither; returns the attempt and the step's id."""
        ...

    def next_release_number(self, claim: Claim) -> int:
        """A number that no release of the environment had."""
        ...

    def pin(self, claim: Claim, *, commit: str, seen_tip: str = "") -> None:
        """Fix the deployment's commit, for good, and remember the tip that was decided on.

        Raises:
            Conflict: another one is pinned.
        """
        ...

    def set_release(self, claim: Claim, *, release: str, previous: str) -> None:
        """Which release the deployment brings in, and which it would go back to."""
        ...

    def begin_step(
        self, claim: Claim, attempt: int, *, phase: Phase, name: StepName, release: str, host: str = ""
    ) -> int:
        """Journal that a step begins, on one `host` of several; returns its id. Durable before it returns."""
        ...

    def standings(self, environment: EnvironmentKey) -> Sequence[Standing]:
        """Where the hosts of an environment stand that has, or had, several."""
        ...

    def note_hosts(self, claim: Claim, standings: Sequence[Standing]) -> None:
        """Where these hosts of the environment stand from now on. Durable when it returns."""
        ...

    def end_step(
        self, claim: Claim, step: int, *, state: StepState, tail: str, failure: StepFailed | None = None
    ) -> None:
        """Journal how it ended, with the end of its output, and why, if it failed: all of it or nothing.

        Raises:
            Conflict: it has ended already, or is none of this deployment.
        """
        ...

    def write_output(self, claim: Claim, step: int, text: str) -> None:
        """Append redacted output; what exceeds the step's bound is counted, not kept."""
        ...

    # -- databases of environments
    def note_database(self, claim: Claim, change: DatabaseChange) -> None:
        """Note what became of the environment's database; `at` is the store's. Durable before it returns."""
        ...

    def lock_database(self, claim: Claim, name: str) -> Holder | None:
        """Take a database for this deployment, again if it has it; returns who has it instead.

        It stays taken until it is unlocked, or the deployment does not run any more. Of a deployment whose
        worker has died it does: its command may run on until somebody takes the deployment over and ends it.
        """
        ...

    def unlock_databases(self, claim: Claim) -> None:
        """Let go of whatever databases this deployment has taken. Wakes who waits."""
        ...

    def database_changes(self, environment: EnvironmentKey, *, deployment: str = "") -> Sequence[Row]:
        """Rows of v_database_change, oldest first: what was noted of an environment's database.

        With the id of a `deployment`, only what that one has noted.
        """
        ...

    def finish(self, claim: Claim, attempt: int, ending: Ending) -> Deployment:
        """End attempt and deployment, note what runs, release the lease: one transaction."""
        ...

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
        """End the attempt; the deployment waits `delay` seconds as pending. A newer wish may supersede it.

        `hosts` is where those of several stand from now on.
        """
        ...

    def hand_back(self, claim: Claim) -> None:
        """Give up the lease and leave the deployment as it is (shutdown): the next worker resumes it."""
        ...

    def interrupt_left(self) -> int:
        """End what dead workers left under way as `interrupted`, with a new token; returns how many attempts.

        The deployments stay as they are, to be claimed.
        """
        ...

    # -- configuration and workers
    def publish(
        self, fraises: Sequence[Fraise], *, digest: str, documents: Mapping[EnvironmentKey, Row]
    ) -> None:
        """Replace what is published: names, types and the checked configuration without secrets."""
        ...

    def published_digest(self) -> str:
        """The digest of what is published; '' before the first time."""
        ...

    def register_worker(self, worker: str, *, info: Row) -> None:
        """A worker begins."""
        ...

    def retire_worker(self, worker: str) -> None:
        """A worker ends."""
        ...

    def live_workers(self) -> Sequence[Row]:
        """Workers that gave a sign of life within their lease.

        id, host, pid, version, started_at, and `info` as it was registered, with their `labels`.
        """
        ...

    def unfinished(self) -> Sequence[Row]:
        """Rows of v_unfinished_deployment, oldest first: what waits or runs, and what it needs to begin."""
        ...

    def subscribe(self, wake: Callable[[], None], *, least: News = News.step) -> Callable[[], None]:
        """Call `wake` (from any thread) when something has changed, by any process.

        That is: a deployment (requested, claimed, cancelled, ended), one of its steps, a worker that comes or
        goes, what is published. Not output. Only what is `least` or more: whoever looks for deployments asks
        for `News.claim`, and is not told of what was claimed through this very store.

        Returns what ends the subscription.
        """
        ...

    # -- reading: rows of the views; filters that are '' or None do not filter
    def fraises(self, fraise: str = "") -> Sequence[Row]: ...
    def fraise_status(self, fraise: str = "", environment: str = "") -> Sequence[Row]: ...
    def hosts(self, fraise: str = "", environment: str = "") -> Sequence[Row]:
        """Rows of v_environment_hosts: what each host of each environment runs."""
        ...

    def history(
        self, fraise: str = "", environment: str = "", *, status: str = "", limit: int = 20, offset: int = 0
    ) -> Sequence[Row]: ...
    def stats(self, fraise: str = "", environment: str = "", *, days: int = 30) -> Sequence[Row]: ...
    def events(self, *, limit: int = 20, verdict: str = "") -> Sequence[Row]: ...
    def deployment(self, id_or_prefix: str) -> Row:
        """One row of v_deployment_history.

        Raises:
            NotFound: none, or more than one, begins with this.
        """
        ...

    def resolved(self, deployment: str) -> str:
        """What `begin_attempt` was given in the deployment's last attempt; '' where there was none."""
        ...

    def resolved_since(self, position: int) -> Sequence[Row]:
        """What attempts behind `position` were given, each once, oldest first: `attempt_pk`, `fraise_id`,
        `environment`, `resolved`.
        """
        ...

    def steps(self, deployment: str) -> Sequence[Row]: ...
    def output(self, deployment: str, *, after: int = 0, limit: int = 1000) -> Sequence[Output]: ...
    def counts(self) -> Mapping[str, int]:
        """Deployments per status and events per verdict, for metrics: 'deployments.success' -> n."""
        ...

    # -- keeping house
    def audit(self, *, actor: str, action: str, subject: str, detail: Row) -> None: ...
    def prune(self, *, retention: float) -> Mapping[str, int]:
        """Drop payloads and output older than `retention` seconds, bit by bit; returns how many of each."""
        ...

    def ping(self) -> None:
        """Return if the database can be written."""
        ...
