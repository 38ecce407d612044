"""What must hold in an environment that has jobs, and between its jobs."""

from __future__ import annotations

from fraisier.config.document import Node
from fraisier.config.hosts import hosts_of
from fraisier.config.job_keys import FLAT, WHAT, WHEN
from fraisier.config.jobs import JobKeys, keeper_of, keys_of
from fraisier.config.reading import Reader, did_you_mean
from fraisier.config.sections import Parsed
from fraisier.domain.job import Keeper, Schedule

# Keys of what serves: none of the types with jobs has anything that does.
_SERVING = (
    *("systemd_service", "systemd_manager", "supervisord_program", "supervisord_config", "compose_file"),
    *("compose_project", "target", "unit_file", "run", "listen", "cutover", "drain_timeout", "bake", "proxy"),
    "health_check",
)
_INSTEAD = {
    "run": "; a job's line is called command",
    "health_check": "; smoke tries a release before it is switched to",
    "systemd_service": "; Fraisier writes the units of jobs that have a schedule",
    "systemd_manager": "; timers that Fraisier writes are the system manager's and run their jobs as `user`;"
    " without those, say keeper: worker. A timer of a user's own is named by systemd_timer",
}
_NO_BACKUP = (
    *(key for key in WHAT if key != "script_path"),
    "jobs",
    "dry_run",
    "run_on_deploy",
    "keeper",
    "log_file",
)
_TYPES = {
    "api": (),
    "etl": tuple(key for key in FLAT if key != "verify"),
    "scheduled": tuple(key for key in FLAT if key not in ("verify", "run_on_deploy")),
    "backup": tuple(key for key in FLAT if key not in _NO_BACKUP),
}
# What a job of `jobs` has for itself; the others stand flat, too, as defaults of all of them.
_OWN = ("command", "script_path", "systemd_timer", "schedule", "depends_on", "parameters", "artefacts")
_ONLY_WITH_SCHEDULE = tuple(key for key in WHEN if key != "schedule")


def check(reader: Reader, kind: str, environment: Parsed) -> None:
    """Report what does not go together, or not with the fraise's type."""
    for key in (key for key in FLAT if environment.given(key) and key not in _TYPES[kind]):
        whose = [name for name, keys in _TYPES.items() if key in keys]
        message = f"belongs to fraises of type {' or '.join(whose)}; this one is of type {kind}"
        reader.refuse(environment.at(key), message, at_key=True)
    if kind == "api":
        return
    _refuse_serving(reader, kind, environment)
    if kind == "backup":
        _check_tries(reader, environment, environment)
        for each in (environment, environment["verify"]):
            if each is not None and each.values.get("schedule"):
                _check_expression(reader, each, each, each["schedule"])
        return
    _check_lines(reader, kind, environment)
    jobs = keys_of(environment)
    for name, keys in jobs.items():
        _check_job(reader, name, keys, jobs)
    _check_timers(reader, environment, jobs)
    _check_hosts(reader, kind, environment, jobs)
    _check_smoke(reader, environment, jobs)


def _refuse_serving(reader: Reader, kind: str, environment: Parsed) -> None:
    timers = [keys.timer for keys in keys_of(environment).values()]
    has_timer = environment.given("systemd_timer") or (bool(timers) and all(timers))
    for key in _SERVING:
        if environment.given(key) and not (has_timer and key in ("systemd_service", "systemd_manager")):
            message = f"is about something that serves, and a fraise of type {kind} does not"
            reader.refuse(environment.at(key), message + _INSTEAD.get(key, ""), at_key=True)


def _check_lines(reader: Reader, kind: str, environment: Parsed) -> None:
    if not environment.given("jobs"):
        if not any(environment.given(key) for key in ("command", "script_path", "systemd_timer")):
            more = "command: LINE" if kind == "etl" else "jobs: {NAME: {schedule: …, run: LINE}}"
            reader.refuse(environment.node, f"has nothing to run; expected {more}", at_key=True)
        return
    for key in _OWN:
        if environment.given(key):
            message = "stands beside jobs; it belongs into one of them"
            reader.refuse(environment.at(key), message, at_key=True)
    if kind == "etl" and len(environment["jobs"] or {}) > 1:
        message = "has several; an etl fraise has one, its pipeline (type: scheduled has as many as you like)"
        reader.refuse(environment.at("jobs"), message, at_key=True)


def _check_job(reader: Reader, name: str, keys: JobKeys, jobs: dict[str, JobKeys]) -> None:
    own = keys.parsed if keys.parsed is not None else keys.environment
    lines = [
        key
        for key in ("run", "command", "script_path")
        if own.given(key) and not (key == "run" and keys.parsed is None)
    ]
    for extra in lines[1:]:
        reader.refuse(own.at(extra), f"stands beside {lines[0]}; a job has one line, keep one", at_key=True)
    if not lines and not own.given("systemd_timer"):
        reader.refuse(own.node, "has nothing to run; expected run: LINE", at_key=True)
    if own.given("systemd_timer") and own.given("schedule"):
        message = "stands beside systemd_timer, a timer of your own that has its schedule; keep one of them"
        reader.refuse(own.at("schedule"), message, at_key=True)
    _check_schedule(reader, keys, own)
    _check_tries(reader, own, keys)
    _check_depends_on(reader, name, own, jobs)
    _check_parameters(reader, keys, own)


def _check_schedule(reader: Reader, keys: JobKeys, own: Parsed) -> None:
    if not own.given("schedule"):
        for key in _ONLY_WITH_SCHEDULE:
            if own.given(key):
                reader.refuse(own.at(key), "has no meaning without schedule", at_key=True)
        return
    expression = own.values.get("schedule")
    if expression:
        _check_expression(reader, keys, own, expression)
    if keys["keeper"] != "systemd":
        return
    for key, wrong in (
        ("depends_on", own.given("depends_on")),
        ("concurrency", keys["concurrency"] > 1),
    ):
        if wrong:
            at = next((each.at(key) for each in (own, keys.environment) if each.given(key)), own.node)
            message = f"is more than a timer of systemd can keep; with {key}, say keeper: worker"
            reader.refuse(at, message, at_key=True)


def _check_expression(reader: Reader, keys: JobKeys | Parsed, own: Parsed, expression: str) -> None:
    from fraisier.domain.schedule import calendar_lines, zone_in  # slow to import: see `kinds`

    if zone_in(expression) and own.given("timezone"):
        message = f"stands beside a schedule that names {zone_in(expression)}; keep one of them"
        reader.refuse(own.at("timezone"), message, at_key=True)
    if isinstance(keys, JobKeys) and keys["keeper"] == "systemd":
        try:
            calendar_lines(Schedule(expression=expression))
        except ValueError as error:
            reader.refuse(own.at("schedule"), str(error))


def _check_tries(reader: Reader, own: Parsed, keys: JobKeys | Parsed) -> None:
    if own.given("retry_delay") and not keys["retries"]:
        reader.refuse(own.at("retry_delay"), "has no meaning without retries", at_key=True)


def _check_depends_on(reader: Reader, name: str, own: Parsed, jobs: dict[str, JobKeys]) -> None:
    other, seen = own["depends_on"], [name]
    if other is None or own.node.kind != "mapping":
        return
    if other not in jobs:
        known = [each for each in jobs if each != name]
        message = f"there is no job {other!r} here; there is: {', '.join(known) or 'no other one'}"
        reader.refuse(own.at("depends_on"), message + did_you_mean(other, known))
        return
    while other in jobs and other not in seen:
        seen.append(other)
        following = jobs[other].parsed
        other = following["depends_on"] if following is not None else None
    if other == name:
        message = f"never begins: {' waits for '.join([*seen, name])}"
        reader.refuse(own.at("depends_on"), message)


def _check_parameters(reader: Reader, keys: JobKeys, own: Parsed) -> None:
    taken: dict[str, str] = {}
    for name, default in own["parameters"].items():
        at = own.at("parameters").entries.get(name, own.node)
        if name.upper() in taken:
            message = f"is FRAISIER_PARAM_{name.upper()} for the job, as {taken[name.upper()]} is"
            reader.refuse(at, f"{message}; choose another name", at_key=True)
        taken.setdefault(name.upper(), name)
        if default is None and (own.given("schedule") or own.given("depends_on")):
            message = "has to be given, and nobody gives it to a run that begins by itself; give it a default"
            reader.refuse(at, message, at_key=True)
    if keys.environment["run_on_deploy"] and None in own["parameters"].values():
        message = "is given no parameters, and one of them has to be; give it a default"
        reader.refuse(keys.environment.at("run_on_deploy"), message, at_key=True)


def _check_timers(reader: Reader, environment: Parsed, jobs: dict[str, JobKeys]) -> None:
    timers = {keys.timer: keys for keys in jobs.values() if keys.timer}
    for keys in list(timers.values())[1:]:
        message = "is another timer than before; a deployment starts one. Give the jobs a schedule and run"
        at: Node = (keys.parsed or environment).at("systemd_timer")
        reader.refuse(at, f"{message} instead, then Fraisier writes their timers", at_key=True)


def _check_hosts(reader: Reader, kind: str, environment: Parsed, jobs: dict[str, JobKeys]) -> None:
    """Each host would have the timers, and run the job."""
    if len(hosts_of(environment)) < 2 or not environment.given("hosts"):
        return
    for name, keys in jobs.items():
        if keeper_of(keys, keeps=kind == "scheduled") is Keeper.systemd:
            message = f"has several, and timers of systemd on each of them would run {name} as often"
            more = "; name one, or say keeper: worker, then runs are on the first one"
            reader.refuse(environment.at("hosts"), message + more, at_key=True)
            return


def _check_smoke(reader: Reader, environment: Parsed, jobs: dict[str, JobKeys]) -> None:
    if not environment["dry_run"]:
        return
    lines = [keys.line for keys in jobs.values() if keys.line]
    if environment.given("smoke"):
        message = "stands beside smoke; one of them tries a release, keep one"
    elif len(lines) != 1:
        message = f"needs one job with a line, and there are {len(lines) or 'none'}; say smoke: LINE instead"
    elif "\n" in lines[0].strip():
        message = "is put behind the job's line, which has several; say smoke: LINE instead"
    else:
        return
    reader.refuse(environment.at("dry_run"), message, at_key=True)
