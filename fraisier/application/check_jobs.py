"""Who keeps the schedules of an environment's jobs, when they are due next, and what stands against them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fraisier.application.find_workers import FindWorkers
from fraisier.application.ports import Problem, Store
from fraisier.domain.fraise import Environment
from fraisier.domain.job import Job, Keeper
from fraisier.domain.schedule import times_of

if TYPE_CHECKING:
    from fraisier.application.findings import Checker, Finding


def check_jobs(check: Checker, environment: Environment, store: Store, now: float) -> Iterator[Finding]:
    """Schedules that nobody keeps, and alerts that stand; else when jobs are due next, and by whom."""
    problems = list(_problems(environment, store))
    for problem in problems:
        yield check.problem(problem.message, problem.hint, fatal=problem.fatal)
    if not problems and (told := next_times(environment, now)):
        yield check.ok(told)


def _problems(environment: Environment, store: Store) -> Iterator[Problem]:
    kept = sorted(job.name for job in _scheduled(environment) if job.keeper is Keeper.worker)
    lack = FindWorkers(store).lack(environment.labels) if kept else None
    if lack is not None:
        yield Problem(f"nobody keeps the schedule of {', '.join(kept)}: {lack.reason}", lack.hint)
    for row in store.alerts(environment.fraise, environment.name):
        yield Problem(f"{row['job']}: {row['message']}", row["hint"])


def next_times(environment: Environment, now: float) -> str:
    """When each job with a schedule is due next, and who sees to it; '' where none has one."""
    return "; ".join(
        f"{job.name} {_next(job, now)}, kept by {'systemd' if job.keeper is Keeper.systemd else 'the worker'}"
        for job in _scheduled(environment)
    )


def _scheduled(environment: Environment) -> list[Job]:
    return [job for job in environment.jobs.values() if job.schedule is not None]


def _next(job: Job, now: float) -> str:
    at = times_of(job.schedule, job.keeper).after(now) if job.schedule else None
    return (
        "is never due again"
        if at is None
        else f"is due at {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )
