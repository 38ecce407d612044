"""What would keep systemd from keeping an environment's schedules, and units that nobody wants any more."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from fraisier.application import units_program
from fraisier.application.ports import Host, Problem
from fraisier.deployers.scheduled import install
from fraisier.deployers.timer_units import HEAD, kept_jobs, key_of, name_of, problem_of
from fraisier.domain.errors import StepFailed
from fraisier.domain.fraise import Environment, EnvironmentKey

FOLDER = "/etc/systemd/system"
CHAINS = 249  # the version since which a unit is started after another's success: systemd.unit(5), OnSuccess=
_OTHERWISE = "say `keeper: worker`, then Fraisier's own worker keeps the schedule"
_WRITTEN = "cd {folder} 2>/dev/null && grep -lsm 1 '^{head} ' fraisier-*-*-*.service || :"


def timer_problems(environment: Environment, host: Host) -> Iterator[Problem]:
    """For environments with jobs that systemd starts; nothing is changed."""
    jobs = kept_jobs(environment)
    if not jobs:
        return
    if problem := problem_of(environment):
        yield Problem(problem.message, problem.hint)
        return
    version = _version(host)
    if version is None:
        message = f"cannot have systemd keep schedules on {host.name}: it does not run there"
        yield Problem(message, _OTHERWISE[0].upper() + _OTHERWISE[1:])
        return
    if version < CHAINS and any(job.depends_on for job in jobs):
        message = f"cannot start a job after another one: systemd {version} of {host.name} does not know how"
        yield Problem(message, f"It takes version {CHAINS}; or {_OTHERWISE}")
    yield from _program(environment, host)
    if environment.log_file and host.inspect(("sh", "-c", "command -v logrotate")).code != 0:
        message = f"{environment.log_file} will grow without end: there is no logrotate on {host.name}"
        yield Problem(message, "sudo apt-get install logrotate", fatal=False)


def _version(host: Host) -> int | None:
    found = host.inspect(("systemctl", "show", "--property=Version", "--value"))
    match = re.match(rb"\d+", found.stdout)
    return int(match[0]) if found.code == 0 and match else None


def _program(environment: Environment, host: Host) -> Iterator[Problem]:
    try:
        done = host.inspect(units_program.call("check", install(environment, "")), timeout=20.0)
    except StepFailed as failed:
        yield Problem(failed.message, failed.hint)
        return
    if done.code != 0:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.code}"])[-1]
        message = f"cannot write units on {host.name}: {said.removeprefix('cannot ')}"
        yield Problem(message, f"{units_program.hint(name_of(environment.key))}. Or {_OTHERWISE}")


def left_units(host: Host, wanted: Collection[EnvironmentKey]) -> Iterator[Problem]:
    """Units that Fraisier wrote for environments that are not among those with jobs for systemd."""
    found = host.inspect(("sh", "-c", _WRITTEN.format(folder=FOLDER, head=HEAD)))
    keys = {key_of(name.rpartition(".")[0]) for name in found.stdout.decode(errors="replace").split()}
    for key in sorted(key for key in keys if key is not None and key not in wanted):
        name = name_of(key)
        message = f"systemd on {host.name} still runs jobs of {key}, which the configuration has no more"
        hint = (
            f"If no other Fraisier deploys them: sudo systemctl disable --now '{name}-*.timer'"
            f" && sudo rm {FOLDER}/{name}-* && sudo systemctl daemon-reload"
        )
        yield Problem(message, hint, fatal=False)
