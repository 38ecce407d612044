"""Starts a release exactly as it was when it was built, and ends a project."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from fraisier.application.ports import Said, Workplace
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.targets import compose_beside, compose_images, docker_says
from fraisier.targets.compose_commands import Commands
from fraisier.targets.compose_record import Record, decode, override_path, record_path

_LEEWAY = 180.0  # seconds besides waiting: old containers have their `stop_grace_period:`
_ENDING = 300.0
SHOWN = 40  # lines of each container's log when they do not start: the way back removes them


class Run:
    """The works of the step `restart`."""

    def __init__(self, commands: Commands, place: Workplace) -> None:
        self._commands = commands
        self._place = place

    def up(self, release: str, *, instance: bool = False) -> None:
        """Make the project's containers those of a release; what the release runs already is left running.

        As an `instance` it is told where to listen.

        Raises:
            StepFailed: restart or unhealthy.
        """
        place, commands = self._place, self._commands
        record = kept(place, release)
        compose_images.require(commands, place, record)
        keep(place, record)
        lost = [name for name in record.secrets if name not in place.environment.env]
        if lost:
            place.say(f"release {release} had {', '.join(lost)}, which `env:` has no more")
        folder = place.layout.release(release)
        files = [posixpath.join(folder, name) for name in record.files]
        wait = place.environment.restart_timeout
        told = compose_beside.variables(place.host, place.layout, release) if instance else {}
        compose_beside.make_folder(place, told)
        command = Command(
            argv=commands.up((*files, override_path(place.layout, release)), wait),
            cwd=folder,
            env={**record.environment(place.environment.env), **told, **commands.env},
            env_file=record.env_file,
            timeout=wait + _LEEWAY,
        )
        place.say(f"$ {command.describe().partition('    # in ')[0]}")
        said = place.run(command)
        if said.code != 0:
            logs = self.show_logs()
            if logs.code != 0:  # docker itself has gone: the commit is not to blame
                raise docker_says.cannot_ask(logs.code, logs.output, place.host.name)
            raise docker_says.cannot_start(said.output)

    def show_logs(self) -> Said:
        """The end of what each container printed, as part of the step's output."""
        self._place.say(f"-- the last {SHOWN} lines of each container")
        argv = self._commands.logs(SHOWN)
        return self._place.run(Command(argv=argv, cwd="/", env=self._commands.env, timeout=60.0))

    def explain(self) -> None:
        """Why the release is not healthy, as far as its containers tell."""
        self.show_logs()

    def retire(self, release: str, *, instance: bool) -> None:
        """End the project; a release that ran beside others, when its connections have ended.

        Raises:
            StepFailed: host, or cancelled.
        """
        place = self._place
        data = place.host.read(record_path(place.layout, release))
        record = decode(data) if data is not None else None
        if record is not None and instance:
            compose_beside.drain(self._commands, place, record)
        self.down()
        if instance:
            compose_beside.remove_folder(place, release)

    def down(self) -> None:
        """Remove the project's containers and networks; its volumes stay.

        Raises:
            StepFailed: host.
        """
        argv = self._commands.down()
        command = Command(argv=argv, cwd="/", env=self._commands.env, timeout=_ENDING)
        self._place.say(f"$ {command.describe().partition('    # in ')[0]}")
        said = self._place.run(command)
        if said.code != 0:
            raise _of_the_host(docker_says.cannot_start(said.output))


def _of_the_host(failure: StepFailed) -> StepFailed:
    """Ending what does not end is the host's matter."""
    return StepFailed(
        failure.cause if failure.cause.is_retried else Cause.host, failure.message, failure.hint
    )


def kept(place: Workplace, release: str) -> Record:
    """What was noted of a release.

    Raises:
        StepFailed: restart, if it was not made for Docker Compose.
    """
    data = place.host.read(record_path(place.layout, release))
    record = decode(data) if data is not None else None
    if record is None:
        message = f"cannot start release {release or 'none'} with Docker Compose: no images were kept for it"
        raise StepFailed(Cause.restart, message, "It was deployed in another way; deploy its commit again")
    spec = place.environment.target
    return replace(record, project=spec.unit if spec else record.project)


def keep(place: Workplace, record: Record) -> None:
    """Note a release, and write the file that pins it; both are on disk when this returns."""
    pairs = (
        (record_path(place.layout, record.release), record.encode()),
        (override_path(place.layout, record.release), record.override()),
    )
    with place.guard():
        for path, data in pairs:
            if place.host.read(path) != data:
                place.host.write(path, data, mode=0o600)
