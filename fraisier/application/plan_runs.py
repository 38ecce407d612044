"""Asks for runs when their jobs are due: the schedules that Fraisier's own worker keeps.

Each time is asked for once, whoever asks: a run's `due` is used once per job. What was due while nobody
looked is caught up by one run, or noted as missed; up to when each job was planned is in the database.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass

from fraisier.application.ports import Clock, Configuration, Listener, Row, Store
from fraisier.domain.errors import NotFound
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import Job, JobKind, Keeper, Schedule
from fraisier.domain.run import RunStatus, RunTrigger, RunWish
from fraisier.domain.schedule import Times, delay_of, last_until, newest_until, times_of

NOTE_EVERY = 60.0  # seconds between two notes of up to when all was planned
FAR_AHEAD = 300.0  # seconds: a note that is further in the future was made by a clock that was wrong
ON_TIME = 60.0  # seconds: so much later is no reason to call a time missed, however small the grace

JobKey = tuple[str, str, str]  # fraise, environment, job


@dataclass(frozen=True, slots=True)
class _Planned:
    """A job with a schedule that the worker keeps."""

    environment: Environment
    job: Job
    schedule: Schedule
    times: Times

    @property
    def key(self) -> JobKey:
        return key_of(self.environment.key, self.job.name)


def key_of(environment: EnvironmentKey, job: str) -> JobKey:
    """What a job is called among all of them."""
    return environment.fraise, environment.environment, job


class PlanRuns:
    """Call it again and again; it remembers what is due when. For one thread, of one worker of all.

    A time is skipped without a trace where an environment has no release yet: there is nothing to run.
    """

    def __init__(self, store: Store, clock: Clock, listener: Listener) -> None:
        self._store, self._clock, self._listener = store, clock, listener
        self._configuration: Configuration | None = None
        self._heap: list[tuple[float, int, _Planned]] = []
        self._looked_at = self._noted_at = 0.0

    def __call__(self, configuration: Configuration) -> None:
        """Ask for everything that is due.

        Raises:
            StoreUnavailable: what was due stays so.
        """
        now = self._clock.now()
        if configuration is not self._configuration or now < self._looked_at - FAR_AHEAD:
            self._begin(configuration, now)
        has_asked = False
        if self._heap and self._heap[0][0] <= now:
            serving = self._serving()
            while self._heap and self._heap[0][0] <= now:
                self._ask_for_next(now, serving)
                has_asked = True
        self._looked_at = now
        if has_asked or not 0 <= now - self._noted_at < NOTE_EVERY:
            self._note(now)

    def forget(self) -> None:
        """Somebody else plans: what is known here grows old."""
        self._configuration, self._heap = None, []

    @property
    def due_in(self) -> float:
        """Seconds until something is due; for ever if nothing is."""
        return max(0.0, self._heap[0][0] - self._clock.now()) if self._heap else math.inf

    # ------------------------------------------------------------------------------------- what is due
    def _begin(self, configuration: Configuration, now: float) -> None:
        if self._configuration is not None and 0 < self._looked_at <= now:
            self._note(self._looked_at)  # by a new schedule nothing was missed before it was known
        known = self._store.planned_until(list(configuration.environments))
        self._configuration, self._heap = configuration, []
        for number, planned in enumerate(_kept_by_worker(configuration)):
            until = known.get(planned.key, now)
            # Where the clock was set back, times that it shows again were used: nobody runs twice.
            following = planned.times.after(now if until > now + FAR_AHEAD else until)
            if following is not None:
                heapq.heappush(self._heap, (following, number, planned))

    def _serving(self) -> frozenset[tuple[str, str]]:
        """Environments with a release."""
        rows = self._store.fraise_status()
        return frozenset((row["fraise_id"], row["environment"]) for row in rows if row["current_release"])

    def _ask_for_next(self, now: float, serving: frozenset[tuple[str, str]]) -> None:
        first, number, planned = self._heap[0]
        newest, passed_over = newest_until(planned.times, first, now)
        if planned.key[:2] in serving or _needs_no_release(planned):
            try:
                self._ask(planned, newest, passed_over, now)
            except NotFound:  # published no more, or not yet
                self._tell("run_not_requested", planned, {"reason": "the environment is not published"})
        following = planned.times.after(newest)
        if following is None:
            heapq.heappop(self._heap)
        else:
            heapq.heapreplace(self._heap, (following, number, planned))

    def _note(self, until: float) -> None:
        if self._configuration is None:
            return
        environments = self._configuration.environments.values()
        jobs = ((each.key, job) for each in environments for job in each.jobs.values())
        self._store.note_planned(
            {key_of(key, job.name): until for key, job in jobs if not is_kept_by_systemd(job)}
        )
        self._noted_at = until

    # ------------------------------------------------------------------------------------- asking
    def _ask(self, planned: _Planned, newest: float, passed_over: int, now: float) -> None:
        schedule, wish = planned.schedule, _wish(planned, newest)
        if not schedule.persistent and now - newest > max(schedule.grace, ON_TIME):
            self._miss(planned, wish, passed_over)
            return
        if passed_over and not schedule.persistent:
            before = last_until(planned.times, newest - 1) or newest
            self._miss(planned, _wish(planned, before), passed_over - 1)
        if why := self._unfit(planned):
            row = self._store.note_missed(wish, why=why, status=RunStatus.skipped)
        else:
            row = self._store.request_run(wish)
        if row is not None:
            told = {"run": row["id"], "due": row["due"], "passed_over": passed_over}
            event = "run_requested" if row["status"] == RunStatus.pending else "run_skipped"
            self._tell(event, planned, {**told, "reason": row["error_message"]})

    def _miss(self, planned: _Planned, wish: RunWish, before: int) -> None:
        why = "no worker was there when it was due"
        if before:
            why += f", nor the {'time' if before == 1 else f'{before} times'} before"
        row = self._store.note_missed(wish, why=why)
        if row is not None:
            self._tell("run_missed", planned, {"run": row["id"], "due": row["due"], "reason": why})

    def _unfit(self, planned: _Planned) -> str:
        """Why a job that depends on another one is not run now."""
        other = planned.job.depends_on
        if not other:
            return ""
        last: Row = self._store.last_runs(planned.environment.key).get(other, {})
        if last.get("status") == RunStatus.success:
            return ""
        return f"the last run of {other} " + (f"is {last['status']}" if last else "is still to come")

    def _tell(self, event: str, planned: _Planned, fields: Row) -> None:
        where = {"environment": str(planned.environment.key), "job": planned.job.name}
        self._listener(event, {**where, **fields})


def is_kept_by_systemd(job: Job) -> bool:
    """Whether timers begin its runs; up to when those were seen to is for `watch_runs` to say."""
    return job.schedule is not None and job.keeper is Keeper.systemd


def _kept_by_worker(configuration: Configuration) -> Iterator[_Planned]:
    for environment in configuration.environments.values():
        for job in environment.jobs.values():
            if job.schedule is not None and job.keeper is Keeper.worker:
                yield _Planned(environment, job, job.schedule, times_of(job.schedule, job.keeper))


def _needs_no_release(planned: _Planned) -> bool:
    return planned.job.kind is not JobKind.command and not planned.environment.deploys


def _wish(planned: _Planned, due: float) -> RunWish:
    job, key = planned.job, planned.environment.key
    delay = delay_of(job, f"{key}/{job.name}", due)
    return RunWish(
        environment=key,
        job=job.name,
        kind=job.kind,
        trigger=RunTrigger.scheduled,
        concurrency=job.concurrency,
        parameters={name: default or "" for name, default in job.parameters.items()},
        due=due,
        not_before=due + delay if delay else 0.0,
    )
