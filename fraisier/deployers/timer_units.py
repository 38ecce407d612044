"""The units by which systemd keeps the schedules of an environment: systemd.timer(5), systemd.exec(5).

Each job has a service, which runs it once, and a timer, which starts the service. What installs them,
`application/scripts/units.sh`, accepts nothing but what is made here: a line that is new here is new there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fraisier.deployers import timer_scripts as scripts
from fraisier.deployers.common import Candidate
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import Job, Keeper, Schedule, variables
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret
from fraisier.domain.timer_acts import Unit

STOP = 30.0  # seconds that a run has to end when it is told to
HOOKS = 300.0  # seconds for what follows it
HEAD = "# Written by Fraisier for"
_BY = ", by Fraisier"
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/_.@+,:=~-]*\Z")
_PLAIN_USER = re.compile(r"[A-Za-z0-9_.-]*\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def name_of(key: EnvironmentKey) -> str:
    """fraisier-FRAISE-ENVIRONMENT. A '-' in a name is '--' here.

    Names begin with a letter or digit, so the last '-' of an odd number of them stands between two names, and
    no two environments are called the same. (`systemd-escape` would make it a backslash, which every shell on
    the way takes for its own; and `systemd-analyze verify` takes ':' for the end of a file's name.)
    """
    return "-".join(("fraisier", _part(key.fraise), _part(key.environment)))


def service_of(key: EnvironmentKey, job: str) -> str:
    """The unit that runs a job: fraisier-FRAISE-ENVIRONMENT-JOB.service."""
    return f"{name_of(key)}-{_part(job)}.service"


def timer_of(key: EnvironmentKey, job: str) -> str:
    """The unit that starts it."""
    return service_of(key, job).removesuffix(".service") + ".timer"


def env_of(key: EnvironmentKey) -> str:
    """The file of an environment's variables that are in no unit; root's."""
    return f"/etc/fraisier/timers/{name_of(key)}.env"


def key_of(name: str) -> EnvironmentKey | None:
    """The environment of a unit's name, or of its own; None: it is none of Fraisier's."""
    parts = [part.replace(":", "-") for part in name.replace("--", ":").split("-")]
    if not 3 <= len(parts) <= 4 or parts[0] != "fraisier" or ":" in name:
        return None
    return EnvironmentKey(parts[1], parts[2])


def is_about(key: EnvironmentKey, description: str) -> bool:
    """Whether it is that of a service of the environment; somebody else's unit may be called like one."""
    return description.startswith(f"{key}: ") and description.endswith(_BY)


def _part(name: str) -> str:
    return name.replace("-", "--")


def kept_jobs(environment: Environment) -> list[Job]:
    """The jobs whose runs systemd starts."""
    return [job for job in environment.jobs.values() if job.keeper is Keeper.systemd]


def files_of(environment: Environment) -> list[str]:
    """The names of all its units."""
    key, jobs = environment.key, kept_jobs(environment)
    timers = [timer_of(key, job.name) for job in jobs if job.schedule is not None]
    return [*(service_of(key, job.name) for job in jobs), *timers]


def units_of(environment: Environment, release: Candidate) -> tuple[Unit, ...]:
    """All units of an environment, as they are while `release` is its current one.

    Raises:
        StepFailed: preflight, if something cannot stand in a unit.
    """
    made: list[Unit] = []
    for job in kept_jobs(environment):
        made.append(Unit(service_of(environment.key, job.name), _service(environment, job, release)))
        if job.schedule is not None:
            made.append(Unit(timer_of(environment.key, job.name), _timer(environment, job)))
    return tuple(made)


def hidden_of(environment: Environment) -> dict[str, str | Secret]:
    """The variables that are in no unit: secrets, for anybody can read that, and with an `env_file` all, for
    whatever a file says wins over a unit, and `env` is to win over the file.
    """
    env = environment.env
    return {n: value for n, value in env.items() if environment.env_file or isinstance(value, Secret)}


def problem_of(environment: Environment) -> StepFailed | None:
    """Why an environment's jobs cannot be written into units."""
    for what, text, pattern in (
        ("app_path", environment.app_path, _PLAIN_PATH),
        ("env_file", environment.env_file or "/", _PLAIN_PATH),
        ("log_file", environment.log_file or "/", _PLAIN_PATH),
        ("user", environment.user, _PLAIN_USER),
    ):
        if not pattern.match(text):
            message = f"cannot write units of {environment.key}: its {what} has characters that none has"
            hint = "Use letters, digits and '_.@+,:=~-' only, or say `keeper: worker`"
            return StepFailed(Cause.preflight, message, hint)
    return None


# ------------------------------------------------------------------------------------------- the service
def _service(environment: Environment, job: Job, release: Candidate) -> str:
    if problem := problem_of(environment):
        raise problem
    return _text(
        environment,
        ("Unit", _about(environment, job)),
        ("Service", (*_how(environment, job), *_variables(environment, job, release), *_commands(job))),
    )


def _about(environment: Environment, job: Job) -> Iterator[str]:
    yield f"Description={environment.key}: {job.name}{_BY}"
    yield "After=network.target"
    for other in kept_jobs(environment):
        if other.depends_on == job.name:
            yield f"OnSuccess={service_of(environment.key, other.name)}"


def _how(environment: Environment, job: Job) -> Iterator[str]:
    yield "Type=oneshot"
    if environment.user:
        yield f"User={environment.user}"
    yield f"WorkingDirectory={Layout(environment.app_path).current}"
    yield f"TimeoutStartSec={patience(job):.15g}"
    yield f"TimeoutStopSec={HOOKS if job.on_success or job.on_failure else STOP:.15g}"
    yield "Nice=10"  # as everything that Fraisier runs in the background
    yield "NoNewPrivileges=true"
    yield "PrivateTmp=true"
    yield "ProtectSystem=full"
    yield f"ReadWritePaths={environment.app_path}"
    if environment.log_file:
        yield f"StandardOutput=append:{environment.log_file}"
        yield "StandardError=inherit"


def patience(job: Job) -> float:
    """Seconds for all tries and the pauses between them; each try has a limit of its own besides."""
    spare = scripts.SPARE if job.retries else 0.0
    return (job.timeout + spare) * (job.retries + 1) + sum(_pauses(job))


def _pauses(job: Job) -> list[float]:
    """Seconds before each further try."""
    return [job.retry_delay * 2**n for n in range(job.retries)]


def _variables(environment: Environment, job: Job, release: Candidate) -> Iterator[str]:
    hidden = hidden_of(environment)
    told = {
        **{name: value for name, value in environment.env.items() if name not in hidden},
        **variables(job.parameters),
        "FRAISIER_COMMIT": release.commit,
        "FRAISIER_REF": release.ref,
        "FRAISIER_RELEASE": release.name,
        "FRAISIER_JOB": job.name,
        "FRAISIER_REPORTS": Layout(environment.app_path).reports,
    }
    for name, value in told.items():
        yield f"Environment={_setting(f'{name}={value}')}"
    if environment.env_file:
        yield f"EnvironmentFile={environment.env_file}"
    if hidden:
        yield f"EnvironmentFile={env_of(environment.key)}"


def _commands(job: Job) -> Iterator[str]:
    limit = job.timeout if job.retries else 0.0
    numbers = " ".join(f"{each:.15g}" for each in (limit, *_pauses(job)))
    yield f"ExecStart=/bin/sh -c {_word(scripts.RUN)} sh {_word(job.run.strip())} {numbers}"
    hooks = (*job.on_success, *job.on_failure)
    words = (f"{len(job.on_success)}", *map(_word, hooks))
    yield f"ExecStopPost=/bin/sh -c {_word(scripts.END)} sh {' '.join(words)}"


# ------------------------------------------------------------------------------------------- the timer
def _timer(environment: Environment, job: Job) -> str:
    schedule = job.schedule
    assert schedule is not None  # noqa: S101 - asked by units_of
    lines = [f"OnCalendar={each}" for each in _calendar_lines(schedule)]
    if schedule.jitter:
        lines.append(f"RandomizedDelaySec={schedule.jitter:.15g}")
    lines.append("AccuracySec=1")
    lines.append(f"Persistent={'true' if schedule.persistent else 'false'}")
    lines.append(f"Unit={service_of(environment.key, job.name)}")
    about = (f"Description=When {environment.key}: {job.name} is due, by Fraisier",)
    return _text(environment, ("Unit", about), ("Timer", lines), ("Install", ("WantedBy=timers.target",)))


def _calendar_lines(schedule: Schedule) -> tuple[str, ...]:
    """A schedule as values of OnCalendar=, see systemd.time(7)."""
    from fraisier.domain.schedule import calendar_lines  # slow to import, and needed for timers only

    try:
        return calendar_lines(schedule)
    except ValueError as error:
        message = f"cannot have systemd keep a schedule: {error}"
        raise StepFailed(Cause.preflight, message, "Mend `schedule:` in fraises.yaml") from None


# ------------------------------------------------------------------------------------------- texts
def _text(environment: Environment, *sections: tuple[str, Iterable[str]]) -> str:
    made = (f"[{title}]\n" + "".join(f"{line}\n" for line in lines) for title, lines in sections)
    return f"{HEAD} {environment.key}\n" + "\n".join(made)


def _setting(text: str) -> str:
    """One word of a setting: systemd.syntax(7). Environment= knows no '$'."""
    return _quoted(text).replace("$$", "$")


def _word(text: str) -> str:
    """One word of a command line, where '$' begins a variable: systemd.service(5)."""
    return _quoted(text)


def _quoted(text: str) -> str:
    if found := _CONTROL.search(text):
        message = f"cannot write a unit: there is the control character {found[0]!r} in {text[:40]!r}"
        raise StepFailed(Cause.preflight, message, "Mend the job's line in fraises.yaml")
    for character, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(character, escaped)
    return f'"{text}"'.replace("\n", "\\n").replace("\t", "\\t")
