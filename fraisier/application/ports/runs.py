"""State and history of runs, beside those of deployments: a part of every store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.job import JobKind
from fraisier.domain.run import (
    Alert,
    AlertKind,
    Reported,
    RunEnding,
    RunStatus,
    RunTrigger,
    RunWish,
)

if TYPE_CHECKING:
    from fraisier.application.ports.attempt import Claim
    from fraisier.application.ports.store import Row


LEFT = "left"  # see `Runs.claim_run`


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClaim:
    """The right to perform one run, until its worker is dead, or it has ended.

    `token` grows with every claim of a run of its environment, so that a host can tell the newer from the
    older. `slot` counts from 0: no two runs of one job that are under way have the same. `release` is the
    one that the environment runs now. `interrupted`: another worker began it and has died, so it is not
    performed but ended. `attempt` counts its tries from 1. `invocation`: it was a host's, see `Reported`.
    """

    id: str
    environment: EnvironmentKey
    job: str
    kind: JobKind
    trigger: RunTrigger
    worker: str
    token: int
    slot: int = 0
    release: str = ""
    commit: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    requested_by: str = ""
    due: float | None = None
    attempt: int = 1
    retry_of: str = ""
    concurrency: int = 1
    cancel_requested_by: str = ""
    started_at: float = 0.0
    interrupted: bool = False
    invocation: str = ""


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest runs of a job, by position; 0 where there is none.

    `waiting` is the oldest of those that wait. `retry` is a further try that waits or is under way.
    """

    success: int = 0
    failed: int = 0
    missed: int = 0
    waiting: int = 0
    retry: int = 0
    begun: int = 0


class Runs(Protocol):
    """As `Store`: each is one transaction, durable when it returns, and may raise StoreUnavailable.

    Methods that take a `RunClaim` raise TokenOutdated where the run is no longer its worker's.
    """

    # -- asking
    def request_run(self, wish: RunWish) -> Row | None:
        """Store a run that waits; returns its row of v_run_history. None: its `due` was used before.

        As many as `concurrency` may wait or be under way; one more is stored as `skipped` where its trigger
        is `scheduled` or `dependency`. Wakes the workers.

        Raises:
            NotFound: no such environment was published.
            Conflict: one too many, of another trigger.
        """
        ...

    def note_missed(self, wish: RunWish, *, why: str, status: RunStatus = RunStatus.missed) -> Row | None:
        """Store a run that was due and never began, as `missed`, or as `skipped` where nobody wanted it to.
        None: its `due` was used before.
        """
        ...

    def cancel_run(self, run: str, *, by: str) -> Row:
        """Cancel one that waits at once; ask the worker of one that is under way to stop it.

        Raises:
            NotFound: no such run.
            Conflict: it has ended, or a host performs it by itself.
        """
        ...

    # -- performing
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
        """The oldest run that may begin now, of one of these environments that a worker with these `labels`
        may take, and where no deployment holds runs back. Before those, ones that dead workers left under
        way. What was asked for in environments that are no longer published comes too, so that it ends.
        `only` this run, and those of its job that dead workers left; LEFT: only what they left. A pause, or
        a window, holds back deployments only. `performing` are the runs that this worker performs: what is
        its own besides, it has let go of (the store was away for too long), and it comes back to be ended.
        None for a worker that counts as dead, until it has given a sign of life (`renew`), and where another
        configuration than `digest` has been published ('' = whatever is).
        """
        ...

    def next_run_due(self) -> float | None:
        """Seconds until a run that waits may begin, or the worker of one that is under way is dead unless it
        gives a sign of life; None: neither is there.
        """
        ...

    def run_cancel_requests(self, worker: str) -> Mapping[str, str]:
        """Runs of this worker that someone asked to cancel: id -> who."""
        ...

    def lost_runs(self, claims: Sequence[RunClaim]) -> Collection[str]:
        """Ids of those that are under way no longer, or by somebody else."""
        ...

    def write_run_output(self, claim: RunClaim, text: str) -> None:
        """Append redacted output; of what exceeds a run's bound, the beginning and the end are kept."""
        ...

    def finish_run(self, claim: RunClaim, ending: RunEnding) -> Row:
        """End it and store the next try, if there is one (`ending.again`); returns its row. Wakes."""
        ...

    def report_run(self, reported: Reported) -> Row:
        """Store what a host performed by itself; what was stored of the same invocation is completed."""
        ...

    def raise_run_token(self, environment: EnvironmentKey, *, above: int) -> int:
        """Raise the token of the environment's runs over its own and `above`; returns it.

        Raises:
            NotFound: no such environment was published.
        """
        ...

    # -- deployments and runs
    def hold_runs(self, claim: Claim) -> None:
        """Let no run of the environment begin while the deployment is `running`."""
        ...

    def active_runs(self, environment: EnvironmentKey) -> Sequence[Row]:
        """Rows of v_run_history that are under way, oldest first."""
        ...

    # -- schedules
    def planned_until(self, environments: Collection[EnvironmentKey]) -> Mapping[tuple[str, str, str], float]:
        """Up to when each job was planned: (fraise, environment, job) -> Unix seconds."""
        ...

    def note_planned(self, until: Mapping[tuple[str, str, str], float]) -> None:
        """Remember it; a time that is earlier than what is known changes nothing."""
        ...

    # -- alerts
    def raise_alert(self, alert: Alert) -> bool:
        """Store it, unless one of its kind stands for the job already; whether it is new. Wakes."""
        ...

    def clear_alert(
        self, environment: EnvironmentKey, job: str, kinds: Collection[AlertKind], *, by: str
    ) -> Sequence[Row]:
        """End those that stand; returns their rows of v_alerts. Wakes."""
        ...

    # -- reading: rows of the views; filters that are '' do not filter
    def runs(
        self,
        fraise: str = "",
        environment: str = "",
        *,
        job: str = "",
        status: str = "",
        limit: int = 20,
        offset: int = 0,
    ) -> Sequence[Row]:
        """Rows of v_run_history, newest first."""
        ...

    def run(self, id_or_prefix: str) -> Row:
        """One row of v_run_history.

        Raises:
            NotFound: none, or more than one, begins with this.
        """
        ...

    def last_runs(self, environment: EnvironmentKey) -> Mapping[str, Row]:
        """The newest run of each job that has begun: job -> row of v_run_history."""
        ...

    def newest_runs(self) -> Mapping[tuple[str, str, str], Newest]:
        """Of each job that was planned once: (fraise, environment, job) -> its newest runs."""
        ...

    def runs_at(self, positions: Collection[int]) -> Mapping[int, Row]:
        """Rows of v_run_history by position."""
        ...

    def run_output(self, run: str, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, str]]:
        """Pieces of its output with a number above `after`, in order."""
        ...

    def alerts(self, fraise: str = "", environment: str = "", *, standing: bool = True) -> Sequence[Row]:
        """Rows of v_alerts, newest first; without `standing`, those that were cleared, too."""
        ...
