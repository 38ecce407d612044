"""The jobs of an environment: what is due when, and how it is run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fraisier.config import hosts, texts
from fraisier.config.job_keys import JOB, VERIFY
from fraisier.config.sections import Parsed
from fraisier.domain.fraise import BuildCommand, FraiseType
from fraisier.domain.job import MAIN, Job, JobKind, Keeper, Schedule

VERIFICATION = "verify"  # the job of a `backup` fraise that tries what was made
RESTORING, PRUNING = "restore", "prune"  # those that only a person asks for


class JobKeys:
    """A job's own keys before those of its environment, which are defaults where it has `jobs`."""

    def __init__(self, environment: Parsed, parsed: Parsed | None) -> None:
        self.environment, self.parsed = environment, parsed

    def __getitem__(self, key: str) -> Any:
        found = next((each for each in self._places() if key in each.values), None)
        return found.values[key] if found else JOB.keys[key].default

    def given(self, key: str) -> bool:
        """Whether the file has it, good or bad."""
        return any(each.given(key) for each in self._places())

    def _places(self) -> Iterator[Parsed]:
        if self.parsed is not None:
            yield self.parsed
        yield self.environment

    @property
    def line(self) -> str:
        """What is run; '' where there is nothing: a timer of the user's own knows it."""
        own = self.parsed if self.parsed is not None else self.environment
        line = (own["run"] if self.parsed is not None else None) or own["command"]
        return str(line or (own["script_path"] and _by_its_ending(own["script_path"])) or "")

    @property
    def timer(self) -> str:
        """The user's own timer, complete."""
        own = self.parsed if self.parsed is not None else self.environment
        return complete_timer(own["systemd_timer"]) if own["systemd_timer"] else ""


def complete_timer(name: str) -> str:
    """report, report.service or report.timer -> report.timer."""
    return texts.complete_unit(name).removesuffix(".service").removesuffix(".timer") + ".timer"


def _by_its_ending(path: str) -> str:
    program = {"py": "python3 ", "sh": "sh "}.get(path.rpartition(".")[2], "./")
    return program + shlex.quote(path)


def keys_of(environment: Parsed) -> dict[str, JobKeys]:
    """Every job of an `etl` or `scheduled` environment: those of `jobs`, or the one that stands flat."""
    named: dict[str, Parsed] | None = environment["jobs"]
    if named is not None:
        return {name: JobKeys(environment, each) for name, each in named.items()}
    alone = JobKeys(environment, None)
    return {MAIN: alone} if alone.line or alone.timer else {}


def timer_of(environment: Parsed) -> str:
    """The user's own timer that a deployment starts; '' where there is none."""
    return next((each.timer for each in keys_of(environment).values() if each.timer), "")


def jobs_of(kind: FraiseType, environment: Parsed, *, systemd: bool | None) -> dict[str, Job]:
    """The jobs by name. `systemd` None: it is looked whether this machine runs it."""
    if kind is FraiseType.backup:
        return _of_backup(environment)
    if kind is FraiseType.api:
        return {}
    keeps = kind is FraiseType.scheduled and _has_systemd(environment, systemd=systemd)
    jobs = {name: _job(name, keys, keeps=keeps) for name, keys in keys_of(environment).items()}
    return _chained({name: job for name, job in jobs.items() if job.run})


def _chained(jobs: dict[str, Job]) -> dict[str, Job]:
    """What follows a run that systemd starts is started by systemd, too, without a worker between them."""
    follow = [
        job for job in jobs.values() if job.depends_on and job.schedule is None and job.concurrency == 1
    ]
    for job in follow * len(follow):  # a chain may stand in any order
        if job.depends_on in jobs and jobs[job.depends_on].keeper is Keeper.systemd:
            jobs[job.name] = replace(job, keeper=Keeper.systemd)
    return jobs


def _has_systemd(environment: Parsed, *, systemd: bool | None) -> bool:
    if hosts.hosts_of(environment)[0] != hosts.LOCALHOST:
        return True
    # https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html
    return os.path.isdir("/run/systemd/system") if systemd is None else systemd  # noqa: PTH112


def _job(name: str, keys: JobKeys, *, keeps: bool) -> Job:
    told = keys["notifications"]
    return Job(
        name=name,
        run=keys.line,
        schedule=_schedule(keys),
        keeper=keeper_of(keys, keeps=keeps),
        depends_on=keys["depends_on"] or "",
        concurrency=keys["concurrency"],
        parameters=dict(keys["parameters"]),
        artefacts=keys["artefacts"],
        on_success=keys["on_success"] + _scripts(told, "on_success"),
        on_failure=keys["on_failure"] + _scripts(told, "on_failure"),
        **{key: keys[key] for key in ("timeout", "retries", "retry_delay")},
    )


def _scripts(told: Parsed | None, key: str) -> tuple[str, ...]:
    return tuple(each["command"] or each["script"] for each in (told[key] or ())) if told else ()


def _schedule(keys: JobKeys | Parsed) -> Schedule | None:
    if keys["schedule"] is None:
        return None
    return Schedule(
        expression=" ".join(keys["schedule"].split()),
        timezone=keys["timezone"] or "",
        **{key: keys[key] for key in ("jitter", "persistent", "grace")},
    )


def keeper_of(keys: JobKeys, *, keeps: bool) -> Keeper:
    """A timer starts a unit once at a time, and whatever became of other jobs."""
    if keys["schedule"] is None or keys["depends_on"] or keys["concurrency"] > 1:
        return Keeper.worker
    if keys["keeper"]:
        return Keeper(keys["keeper"])
    return Keeper.systemd if keeps and _timer_can(keys["schedule"]) else Keeper.worker


def _timer_can(expression: str) -> bool:
    from fraisier.domain.schedule import calendar_lines  # slow to import, and needed for schedules only

    try:
        calendar_lines(Schedule(expression=expression))
    except ValueError:
        return False
    return True


def _of_backup(environment: Parsed) -> dict[str, Job]:
    keys = JobKeys(environment, None)
    told = keys["notifications"]
    tries = ("timeout", "retries", "retry_delay")
    made = Job(
        name=MAIN,
        kind=JobKind.backup,
        schedule=_schedule(keys),
        on_success=keys["on_success"] + _scripts(told, "on_success"),
        on_failure=keys["on_failure"] + _scripts(told, "on_failure"),
        **{key: keys[key] for key in tries},
    )
    verify = environment["verify"] or Parsed(VERIFY, environment.node, {})
    zone = {} if verify["timezone"] else {"timezone": environment["timezone"]}
    tried = Job(
        name=VERIFICATION,
        kind=JobKind.verify,
        schedule=_schedule(Parsed(VERIFY, verify.node, verify.values | zone)),
        on_failure=made.on_failure,
        **{key: verify[key] for key in tries},
    )
    by_hand = replace(made, schedule=None, retries=0, on_success=(), on_failure=())
    asked = dict.fromkeys(("backup", "source", "to", "destination", "force"), "")
    restored = replace(by_hand, name=RESTORING, kind=JobKind.restore, parameters=asked)
    pruned = replace(by_hand, name=PRUNING, kind=JobKind.prune, parameters={"damaged": "", "safety": ""})
    return {MAIN: made, VERIFICATION: tried, RESTORING: restored, PRUNING: pruned}


def smoke_of(kind: FraiseType, environment: Parsed) -> BuildCommand | None:
    """What tries a new release before it is switched to."""
    if environment["smoke"] is not None:
        return BuildCommand(run=environment["smoke"]["run"], timeout=environment["smoke"]["timeout"])
    if kind is FraiseType.api or not environment["dry_run"]:
        return None
    keys = next(iter(keys_of(environment).values()))
    return BuildCommand(run=f"{keys.line.rstrip()} --dry-run", timeout=keys["timeout"])
