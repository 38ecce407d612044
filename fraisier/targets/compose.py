"""Docker Compose as a target: https://docs.docker.com/reference/cli/docker/compose/

`unit` is the project's name. Options: `files` (relative to the release, separated by ':', as in
COMPOSE_FILE) and `docker_host`. Docker is used as the user that Fraisier is on the host, as systemctl is:
whoever may talk to its daemon may do anything there, so the user of builds should not.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Sequence

from fraisier.application.ports import Host, Problem, UnitState, Workplace
from fraisier.domain.acts import TargetWork, UnitCommand
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Cutover, Environment, TargetSpec
from fraisier.domain.plan import TargetActs
from fraisier.domain.release import Layout
from fraisier.targets import compose_images, compose_state, docker_says
from fraisier.targets.compose_beside import instance, listen_of
from fraisier.targets.compose_build import Build
from fraisier.targets.compose_commands import Commands
from fraisier.targets.compose_record import files_of, override_path
from fraisier.targets.compose_run import SHOWN, Run

OLDEST = (2, 17)  # the first with `up --wait-timeout`
# https://docs.docker.com/compose/how-tos/project-name/
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,100}\Z")
_QUICK = 10.0  # seconds for a look
_PATIENT = 30.0
_LOGS = """
projects=$1 lines=$2; shift 2
"$@" compose ls --all --quiet | grep -E "$projects" | while read -r project; do
    "$@" compose --project-name "$project" logs --no-color --timestamps --tail "$lines" </dev/null
done
"""


class Compose:
    """A project of Docker Compose."""

    kind = "compose"
    cutovers = frozenset({Cutover.restart, Cutover.blue_green})

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        """The commands for this environment's project; none where none is configured.

        Raises:
            StepFailed: preflight, if compose would not accept the project's name.
        """
        spec = environment.target
        if spec is None:
            return TargetActs()
        release = posixpath.basename(release_folder)
        own = self.instance(spec, release) if environment.is_blue_green else spec
        commands, layout = _commands(own), Layout(environment.app_path)
        files = tuple(posixpath.join(release_folder, name) for name in files_of(environment))
        pinned = (*files, override_path(layout, release))

        def work(name: str, argv: Sequence[str], remark: str = "") -> TargetWork:
            shown = shlex.join(argv) + (f"    # {remark}" if remark else "")
            return TargetWork(
                work=name,
                release=release,
                shown=shown,
                brings_in=name == "up",
                instance=environment.is_blue_green,
            )

        up = work("up", commands.up(pinned, environment.restart_timeout), "with the images that were kept")
        return TargetActs(
            build=(
                work("read", commands.config(files), "refuse mounts from the release"),
                work("pull", commands.pull(files, ("SERVICE...",)), "those without build:; keep their ids"),
                work("build", commands.build(pinned), f"as {spec.unit}-SERVICE:{release}; keep the ids"),
            ),
            restart=(up,),
            start=(up,),
            stop=(work("down", commands.down()),),
            retire=(work("retire", commands.down(), "when nobody is connected any more"),),
            explain=(work("logs", commands.logs(SHOWN)),),
            discard=(work("discard", commands.remove_image(f"{spec.unit}-SERVICE:{release}")),),
            listen=listen_of(environment) if environment.is_blue_green else (),
        )

    def instance(self, spec: TargetSpec, release: str) -> TargetSpec:
        """The project of a release that runs beside others."""
        return instance(spec, release)

    def group(self, spec: TargetSpec) -> str:
        """docker, where the daemon is the system's: https://docs.docker.com/engine/install/linux-postinstall/"""
        return "" if spec.options.get("docker_host") else "docker"

    def perform(self, work: TargetWork, place: Workplace) -> None:
        """Do one of the works that `acts` names.

        Raises:
            StepFailed: it did not work.
            TokenOutdated: another worker has taken over.
        """
        spec = place.environment.target
        if spec is None:
            raise StepFailed(Cause.internal, "cannot use docker: the environment has no target")
        commands = _commands(self.instance(spec, work.release) if work.instance else spec)
        build, run = Build(commands, place, work.release), Run(commands, place)
        table: dict[str, Callable[[], None]] = {
            "read": build.read,
            "pull": build.pull,
            "build": build.build,
            "up": lambda: run.up(work.release, instance=work.instance),
            "down": run.down,
            "retire": lambda: run.retire(work.release, instance=work.instance),
            "logs": run.explain,
            "discard": lambda: compose_images.discard(commands, place, work.release),
        }
        table[work.work]()

    def state(self, spec: TargetSpec, host: Host) -> UnitState:
        """What docker says of the project's containers now.

        Raises:
            StepFailed: host, when it does not answer.
        """
        return compose_state.look(_commands(spec), host)

    def problems(self, environment: Environment, host: Host) -> Sequence[Problem]:
        """What would keep a deployment from working."""
        if environment.target is None:
            return ()
        try:
            return tuple(_problems(_commands(environment.target), host))
        except StepFailed as error:
            return (Problem(error.message, error.hint),)

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        """The command that shows the end of what the containers printed."""
        commands = _commands(spec)
        # Each release that runs beside others is a project of its own.
        projects = f"^{re.escape(spec.unit)}(-[0-9]+-[0-9a-f]+)?$"
        argv = ("/bin/sh", "-c", _LOGS, "logs", projects, str(lines), *commands.docker)
        return UnitCommand(argv=argv, timeout=_PATIENT)


def _commands(spec: TargetSpec) -> Commands:
    if not _PROJECT.match(spec.unit):
        message = f"cannot use {spec.unit!r} as a project of Docker Compose: it cannot be a name there"
        raise StepFailed(Cause.preflight, message, "Use small letters, digits, '-' and '_'")
    return Commands(spec.unit, spec.options.get("docker_host", ""))


def _problems(commands: Commands, host: Host) -> Iterator[Problem]:
    answered = host.inspect((*commands.docker, "version", "--format", "{{.Server.Version}}"), timeout=_QUICK)
    if answered.code != 0:
        failed = docker_says.cannot_ask(answered.code, answered.stdout + answered.stderr, host.name)
        yield Problem(failed.message, failed.hint)
        return
    shown = host.inspect((*commands.docker, "compose", "version", "--short"), timeout=_QUICK)
    version = re.search(rb"(\d+)\.(\d+)[\d.]*", shown.stdout)
    wanted = ".".join(map(str, OLDEST))
    if shown.code != 0 or version is None:
        message = f"cannot find Docker Compose {wanted} or newer on {host.name}: docker has no compose plugin"
        hint = "sudo apt-get install docker-compose-plugin, from docker's own repository"
        yield Problem(message, f"{hint}; docker-compose 1.x is not used")
    elif (int(version[1]), int(version[2])) < OLDEST:
        message = f"cannot use Docker Compose {version[0].decode()} on {host.name}: it is too old"
        yield Problem(message, f"Install the compose plugin {wanted} or newer")
