"""A person, or a schedule, asks for a run of a job."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.application.ports import Row, Store
from fraisier.application.request_deployment import find_environment
from fraisier.domain.errors import Conflict, NotFound, UsageError
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import MAIN, Job
from fraisier.domain.run import RunTrigger, RunWish


class RequestRun:
    """Turns what somebody wants into a stored run."""

    def __init__(self, environments: Mapping[EnvironmentKey, Environment], store: Store) -> None:
        self._environments = environments
        self._store = store

    def __call__(
        self,
        key: EnvironmentKey,
        job: str = "",
        *,
        parameters: Mapping[str, str] | None = None,
        by: str,
        trigger: RunTrigger = RunTrigger.manual,
    ) -> Row:
        """Ask for a run of `job`, or of the only one that the environment has; its row of v_run_history.

        Raises:
            NotFound: no such environment or job.
            UsageError: several jobs and none named; parameters that the job does not have, or lacks.
            Conflict: as many as there may be wait or are under way.
        """
        wanted = find_job(find_environment(self._environments, key), job)
        wish = RunWish(
            environment=key,
            job=wanted.name,
            kind=wanted.kind,
            trigger=trigger,
            concurrency=wanted.concurrency,
            parameters=complete(wanted, parameters or {}),
            requested_by=by,
        )
        row = self._store.request_run(wish)
        if row is None:  # only a wish with a `due` may have been used before
            raise Conflict(
                f"cannot run {wanted.name!r} of {key}: it was asked for before", "See `fraisier runs`"
            )
        return row


def find_job(environment: Environment, name: str) -> Job:
    """The job of that name, or the only one; of a backup the one that makes it.

    Raises:
        NotFound: no such job.
        UsageError: several, and none is named.
    """
    key, jobs = environment.key, environment.jobs
    if name in jobs:
        return jobs[name]
    if not jobs:
        hint = f"It is of type {environment.type}; `etl`, `scheduled` and `backup` fraises have jobs"
        raise NotFound(f"cannot run {key}: it has no jobs", hint)
    there = ", ".join(sorted(jobs))
    if name:
        raise NotFound(f"cannot find a job {name!r} of {key}", f"It has: {there}")
    if environment.backup is not None and MAIN in jobs:
        return jobs[MAIN]  # the others are what is done to the backups that it makes
    if len(jobs) > 1:
        raise UsageError(
            f"cannot tell which job of {key} to run: it has {len(jobs)}", f"Name one of: {there}"
        )
    return next(iter(jobs.values()))


def complete(job: Job, given: Mapping[str, str]) -> dict[str, str]:
    """What a run is given, with the job's defaults.

    Raises:
        UsageError: one that the job does not have, one that it needs, or text that no process can be given.
    """
    unknown = sorted(set(given) - set(job.parameters))
    if unknown:
        there = ", ".join(sorted(job.parameters)) or "none"
        message = f"cannot give {job.name!r} the parameter {unknown[0]!r}: it has no such one"
        raise UsageError(message, f"It has: {there}. Name it under `parameters:` of the job")
    found = {name: given.get(name, default) for name, default in job.parameters.items()}
    missing = sorted(name for name, value in found.items() if value is None)
    if missing:
        message = f"cannot run {job.name!r} without the parameter {missing[0]!r}"
        raise UsageError(message, f"Give it: --param {missing[0]}=…")
    for name, value in found.items():
        if wrong := _wrong_with(str(value)):
            message = f"cannot give {job.name!r} the parameter {name!r}: it {wrong}"
            raise UsageError(message, "Put it into a file, and give the file's path")
    return {name: str(value) for name, value in found.items()}


def _wrong_with(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is no text in UTF-8"
    return "has a NUL" if "\0" in value else f"has over {MOST_BYTES} bytes" if size > MOST_BYTES else ""


MOST_BYTES = 32 * 1024
