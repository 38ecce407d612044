"""What keeps systemd from keeping an environment's schedules, and units that are not as they should be."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Sequence

from fraisier.application import units_program
from fraisier.application.ports import Host, Problem
from fraisier.application.release_marker import read_marker
from fraisier.deployers.common import candidate
from fraisier.deployers.scheduled import install, may_have_units, write
from fraisier.deployers.timer_units import (
    HEAD,
    env_of,
    files_of,
    kept_jobs,
    key_of,
    name_of,
    problem_of,
    timer_of,
)
from fraisier.domain.errors import StepFailed
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.release import Layout

FOLDER = "/etc/systemd/system"
CHAINS = 249  # the version since which a unit is started after another's success: systemd.unit(5), OnSuccess=
_OTHERWISE = "say `keeper: worker`, then Fraisier's own worker keeps the schedule"
# $1: how a unit of ours begins; then where ours are to be.
FOREIGN = """\
head=$1
shift
for place; do
  { [ -e "$place" ] || [ -L "$place" ]; } || continue
  [ -f "$place" ] && [ ! -L "$place" ] && [ "$(head -n 1 -- "$place")" = "$head" ] || printf '%s\\n' "$place"
done"""
WRITTEN = "cd {folder} 2>/dev/null && grep -lsm 1 '^{head} ' fraisier-*-*-*.service fraisier-*-*-*.timer || :"


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
    yield from _taken(environment, host)
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


def _taken(environment: Environment, host: Host) -> Iterator[Problem]:
    """Names that units of somebody else have: one of ours would replace theirs, or be waited for in vain."""
    names = files_of(environment)
    places = [posixpath.join(FOLDER, name) for name in names]
    told = zip(places, _shown(host, ("Id", "FragmentPath"), names), strict=False)
    taken = {path for place, each in told if (path := each.get("FragmentPath", "")) not in ("", place)}
    head = f"{HEAD} {environment.key}"
    found = host.inspect(("sh", "-c", FOREIGN, "sh", head, *places), timeout=20.0).stdout
    for path in sorted(taken | set(found.decode(errors="replace").splitlines())):
        name = posixpath.basename(path)
        message = f"cannot write {name} on {host.name}: there is {path}, which Fraisier did not write"
        hint = f"Rename the job in fraises.yaml, or remove that unit: sudo systemctl disable --now {name}"
        yield Problem(message, f"{hint} && sudo rm {path} && sudo systemctl daemon-reload")


def left_units(host: Host, wanted: Collection[EnvironmentKey]) -> Iterator[Problem]:
    """Units that Fraisier wrote for environments that are not among those that may have some on the host."""
    found = host.inspect(("sh", "-c", WRITTEN.format(folder=FOLDER, head=HEAD)))
    units: dict[EnvironmentKey, list[str]] = {}
    for name in sorted(found.stdout.decode(errors="replace").split()):
        if (key := key_of(name.rpartition(".")[0])) is not None and key not in wanted:
            units.setdefault(key, []).append(name)
    for key, names in sorted(units.items()):
        message = (
            f"systemd on {host.name} still runs jobs of {key}, which the configuration has there no more"
        )
        yield Problem(message, f"If no other Fraisier deploys them: {removal(key, names)}", fatal=False)


def units_written(key: EnvironmentKey, host: Host) -> list[str]:
    """Names of the units that Fraisier wrote for an environment, of those that are there."""
    head = f"{HEAD} {key}\n".encode()
    names = sorted(units_of_before(key, host))
    return [name for name in names if (host.read(posixpath.join(FOLDER, name)) or b"").startswith(head)]


def removal(key: EnvironmentKey, units: Sequence[str]) -> str:
    """The command by which root removes them, and no other that is called alike. What runs ends by itself."""
    timers = " ".join(name for name in units if name.endswith(".timer"))
    disable = f"sudo systemctl disable --now {timers} && " if timers else ""
    more = (env_of(key), f"/etc/logrotate.d/{name_of(key)}")
    files = " ".join((*(posixpath.join(FOLDER, name) for name in units), *more))
    return f"{disable}sudo rm -f {files} && sudo systemctl daemon-reload"


def changed_units(environment: Environment, host: Host, release: str) -> Iterator[str]:
    """Files that a deployment of `release` would write, remove or fill otherwise by now: nothing else does,
    whatever changes in the configuration.

    What only root can read, the variables that are in no unit, is known by what was written down beside it.
    """
    layout = Layout(environment.app_path)
    marker = read_marker(host, layout, release) if may_have_units(environment) else None
    if marker is None or problem_of(environment) is not None:
        return
    act = write(environment, candidate(environment, release, marker.commit, marker.ref))
    wanted = {unit.name: unit.text for unit in act.units}
    for name in [*wanted, *(each for each in units_of_before(environment.key, host) if each not in wanted)]:
        path = posixpath.join(FOLDER, name)
        found = (host.read(path) or b"").decode(errors="replace")
        if found != wanted.get(name, "") and (name in wanted or found.startswith(f"{HEAD} ")):
            yield path
    written = host.read(layout.units(release)) if wanted else None
    if written is not None and _hidden(written) != _hidden(units_program.bundle(act)):
        yield env_of(environment.key)


def stopped_timers(environment: Environment, host: Host) -> Iterator[str]:
    """Timers that are there and start nothing: while a deployment switches, after a person has stopped them,
    and for good where whatever deployed was stopped in between. The machine's next boot starts them.
    """
    key = environment.key
    timers = [timer_of(key, job.name) for job in kept_jobs(environment) if job.schedule is not None]
    if not timers:
        return
    for told in _shown(host, ("Id", "LoadState", "ActiveState"), timers):
        if told.get("LoadState", "not-found") != "not-found" and told.get("ActiveState") != "active":
            yield told.get("Id", "")


def _shown(host: Host, properties: Sequence[str], units: Sequence[str]) -> Iterator[dict[str, str]]:
    """What systemd says of each, in their order; nothing where it does not answer."""
    words = ("systemctl", "show", f"--property={','.join(properties)}", "--", *units)
    for part in host.inspect(words, timeout=20.0).stdout.decode(errors="replace").split("\n\n"):
        yield dict(line.split("=", 1) for line in part.splitlines() if "=" in line)


def units_of_before(key: EnvironmentKey, host: Host) -> Iterator[str]:
    """Files of units on the host that are called as the environment's are, whoever wrote them."""
    for name in host.list(FOLDER):
        base, _, kind = name.rpartition(".")
        if kind in ("service", "timer") and key_of(base) == key and base != name_of(key):
            yield name


def _hidden(bundle: bytes) -> list[bytes]:
    return [line for line in bundle.splitlines() if line.startswith(b"env ")]
