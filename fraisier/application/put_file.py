"""Puts a file of a release in its place on the host.

It is read as the environment's user: a link in the release must not make root read anything else.
"""

from __future__ import annotations

from fraisier.application.ports import Host, Job
from fraisier.application.stage import Scene, Stage
from fraisier.domain.acts import Command, InstallFile
from fraisier.domain.errors import Cause, StepFailed

_LARGEST = 1 << 20  # bytes of a unit file


class PutFile:
    """Puts files of one stage's release where they belong."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __call__(self, act: InstallFile, scene: Scene) -> None:
        """Put the file in its place, unless it is there as it is.

        Raises:
            StepFailed: the release does not have it, or it is not what can be put there.
            TokenOutdated: the environment belongs to another worker now.
        """
        stage, found = self._stage, bytearray()
        if act.once and stage.host.kind(act.destination) == "file":
            return
        reader = Job(stop=scene.job.stop, output=found.extend)
        argv = ("head", "-c", str(_LARGEST + 1), "--", act.source)  # a link may lead to /dev/zero
        command = Command(argv=argv, cwd="/", user=stage.environment.user, timeout=10.0)
        if stage.host.run(stage.ground, command, reader) != 0:
            message = f"cannot install {act.source}: the release does not have it"
            raise StepFailed(Cause.restart, message, "Mend `unit_file:` in fraises.yaml, or commit the file")
        if len(found) > _LARGEST:
            message = f"cannot install {act.source}: it is larger than {_LARGEST >> 10} KiB"
            raise StepFailed(Cause.restart, message, "Mend `unit_file:` in fraises.yaml, or the file")
        if act.needs.encode() not in found:
            message = f"cannot install {act.source}: {act.needs}, the release, is not in it"
            hint = "Run it from releases/%i: see docs/zero-downtime.md. Or use `cutover: restart`"
            raise StepFailed(Cause.restart, message, hint)
        with stage.host.guard(stage.ground):
            if stage.host.read(act.destination) != bytes(found):
                write_there(stage.host, act.destination, bytes(found))
                scene.output.line(f"installed {act.destination}")


def write_there(host: Host, path: str, data: bytes) -> None:
    """Write a file whose folder may be missing yet, as that of a user's units is where they never had one."""
    folder = path.rpartition("/")[0]
    if host.kind(folder) == "missing":
        host.make_folder(folder)
    host.write(path, data)
