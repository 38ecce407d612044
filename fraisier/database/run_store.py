"""The part of every store that is about runs; see `application.ports.Runs`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from fraisier.application.ports import Claim, Newest, Row, RunClaim
from fraisier.database import run_views, runs, watch
from fraisier.database.jobs import Work
from fraisier.database.transaction import Connection
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.run import Alert, AlertKind, Reported, RunEnding, RunStatus, RunWish


class SqlRuns(ABC):
    """`Runs` on SQL."""

    @abstractmethod
    def _write(self, work: Work) -> Any: ...
    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def claim_run(
        self,
        worker: str,
        *,
        environments: Collection[EnvironmentKey],
        labels: Collection[str] = (),
        only: str = "",
        performing: Collection[str] | None = None,
    ) -> RunClaim | None:
        """The oldest run that may begin now, or that a dead worker left."""

    @abstractmethod
    def next_run_due(self) -> float | None:
        """Seconds until a run that waits may begin, or one may turn out to be left."""

    # -- asking
    def request_run(self, wish: RunWish) -> Row | None:
        """Store a run that waits; raises NotFound, Conflict."""
        row: Row | None = self._write(lambda tx: runs.request(tx, wish))
        return row

    def note_missed(self, wish: RunWish, *, why: str, status: RunStatus = RunStatus.missed) -> Row | None:
        """Store a run that was due and never began; raises NotFound."""
        row: Row | None = self._write(lambda tx: runs.note_missed(tx, wish, why, status))
        return row

    def cancel_run(self, run: str, *, by: str) -> Row:
        """Cancel one that waits, ask the worker of one that is under way; raises NotFound, Conflict."""
        row: Row = self._write(lambda tx: runs.cancel(tx, run, by))
        return row

    # -- performing
    def run_cancel_requests(self, worker: str) -> Mapping[str, str]:
        """Runs of this worker that someone asked to cancel: id -> who."""
        with self._reading() as connection:
            return runs.cancel_requests(connection, worker)

    def lost_runs(self, claims: Sequence[RunClaim]) -> Collection[str]:
        """Ids of those that are under way no longer, or by somebody else."""
        with self._reading() as connection:
            return runs.lost(connection, claims)

    def write_run_output(self, claim: RunClaim, text: str) -> None:
        """Append redacted output, bounded per run."""
        self._write(lambda tx: runs.write_output(tx, claim, text))

    def finish_run(self, claim: RunClaim, ending: RunEnding) -> Row:
        """End it, and store what follows."""
        row: Row = self._write(lambda tx: runs.finish(tx, claim, ending))
        return row

    def report_run(self, reported: Reported) -> Row:
        """Store what a host performed by itself."""
        row: Row = self._write(lambda tx: runs.report(tx, reported))
        return row

    def raise_run_token(self, environment: EnvironmentKey, *, above: int) -> int:
        """A token over that of the environment's runs and `above`; raises NotFound."""
        token: int = self._write(lambda tx: runs.raise_token(tx, environment, above))
        return token

    # -- deployments and runs
    def hold_runs(self, claim: Claim) -> None:
        """Let no run of the environment begin while the deployment is `running`."""
        self._write(lambda tx: runs.hold_back(tx, claim))

    def active_runs(self, environment: EnvironmentKey) -> Sequence[Row]:
        """Those that are under way, oldest first."""
        with self._reading() as connection:
            return run_views.active(connection, environment)

    # -- schedules and alerts
    def planned_until(self, environments: Collection[EnvironmentKey]) -> Mapping[tuple[str, str, str], float]:
        """Up to when each job was planned."""
        with self._reading() as connection:
            return watch.planned_until(connection, environments)

    def note_planned(self, until: Mapping[tuple[str, str, str], float]) -> None:
        """Remember it, unless more is known."""
        if until:
            self._write(lambda tx: watch.note_planned(tx, until))

    def raise_alert(self, alert: Alert) -> bool:
        """Store it; whether it is new; raises NotFound."""
        is_new: bool = self._write(lambda tx: watch.raise_alert(tx, alert))
        return is_new

    def clear_alert(
        self, environment: EnvironmentKey, job: str, kinds: Collection[AlertKind], *, by: str
    ) -> Sequence[Row]:
        """End those that stand; returns them."""
        rows: Sequence[Row] = self._write(lambda tx: watch.clear_alert(tx, environment, job, kinds, by))
        return rows

    # -- reading
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
        filters = {"fraise": fraise, "environment": environment, "job": job, "status": status}
        with self._reading() as connection:
            return run_views.runs(connection, {**filters, "limit": limit, "offset": offset})

    def run(self, id_or_prefix: str) -> Row:
        """One row of v_run_history; raises NotFound."""
        with self._reading() as connection:
            return run_views.run(connection, id_or_prefix)

    def last_runs(self, environment: EnvironmentKey) -> Mapping[str, Row]:
        """The newest run of each job that has begun."""
        with self._reading() as connection:
            return run_views.last(connection, environment)

    def newest_runs(self) -> Mapping[tuple[str, str, str], Newest]:
        """The newest runs of each job that was planned once."""
        with self._reading() as connection:
            return run_views.newest(connection)

    def runs_at(self, positions: Collection[int]) -> Mapping[int, Row]:
        """Rows of v_run_history by position."""
        with self._reading() as connection:
            return run_views.at(connection, positions)

    def run_output(self, run: str, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, str]]:
        """Pieces of its output with a number above `after`, in order."""
        with self._reading() as connection:
            return run_views.output(connection, run, after=after, limit=limit)

    def alerts(self, fraise: str = "", environment: str = "", *, standing: bool = True) -> Sequence[Row]:
        """Rows of v_alerts, newest first."""
        with self._reading() as connection:
            return watch.alerts(connection, fraise=fraise, environment=environment, standing=standing)
