"""The command lines of docker and compose for one project. None depends on the folder that it is run in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Argv = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commands:
    """Docker's client, pointed at one project of one daemon. `host` '' is where docker itself looks."""

    project: str
    host: str = ""

    @property
    def docker(self) -> Argv:
        """The client alone."""
        return ("docker", *(("--host", self.host) if self.host else ()))

    @property
    def env(self) -> dict[str, str]:
        """What an env_file must not change: acts go where looks go."""
        return {"DOCKER_HOST": self.host, "DOCKER_CONTEXT": "", "COMPOSE_PROJECT_NAME": self.project}

    def _compose(self, files: Sequence[str] = ()) -> Argv:
        named = (word for name in files for word in ("--file", name))
        return (*self.docker, "compose", "--project-name", self.project, *named)

    def config(self, files: Sequence[str]) -> Argv:
        """Show the files as compose understands them, secrets included."""
        return (*self._compose(files), "config", "--format", "json")

    def pull(self, files: Sequence[str], services: Sequence[str]) -> Argv:
        """Pull what the services' `pull_policy:` says."""
        return (*self._compose(files), "pull", *services)

    def build(self, files: Sequence[str]) -> Argv:
        """Build every service that says how."""
        return (*self._compose(files), "build")

    def up(self, files: Sequence[str], wait: float) -> Argv:
        """Make the containers what the files say, and wait until they are healthy. `wait` in seconds."""
        how = ("--detach", "--no-build", "--remove-orphans", "--wait", "--wait-timeout", str(math.ceil(wait)))
        return (*self._compose(files), "up", *how)

    def down(self) -> Argv:
        """Remove the containers and networks; volumes stay."""
        return (*self._compose(), "down", "--remove-orphans")

    def logs(self, lines: int) -> Argv:
        """The end of what each container printed."""
        return (*self._compose(), "logs", "--no-color", "--timestamps", "--tail", str(lines))

    def containers(self) -> Argv:
        """The project's containers, also those that ended; not those of `compose run`."""
        label = "label=com.docker.compose"
        only = ("--filter", f"{label}.project={self.project}", "--filter", f"{label}.oneoff=False")
        return (*self.docker, "ps", "--all", "--quiet", "--no-trunc", *only)

    def inspect_containers(self, template: str, containers: Sequence[str]) -> Argv:
        """One line for each."""
        return (*self.docker, "container", "inspect", "--format", template, *containers)

    def inspect_images(self, template: str, images: Sequence[str]) -> Argv:
        """One line for each, in their order."""
        return (*self.docker, "image", "inspect", "--format", template, *images)

    def all_images(self) -> Argv:
        """The ids of all that are on the host."""
        return (*self.docker, "image", "ls", "--all", "--quiet", "--no-trunc")

    def tag_image(self, image: str, tag: str) -> Argv:
        """Give an image one more name."""
        return (*self.docker, "image", "tag", image, tag)

    def remove_image(self, name: str) -> Argv:
        """Remove a name, and the image with its last one; docker refuses while a container uses that."""
        return (*self.docker, "image", "rm", name)

    def pull_image(self, digest: str) -> Argv:
        """Pull exactly this one."""
        return (*self.docker, "pull", digest)
