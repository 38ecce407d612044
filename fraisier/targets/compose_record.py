"""What a release runs with Docker Compose, pinned: kept beside its marker, where no build can write.

From the record comes the file that compose is given after the release's own ones. It names each service's
image so that it cannot change its meaning: by a tag that belongs to this release alone, or by its id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fraisier.domain.fraise import Environment
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret

# https://github.com/distribution/reference: one part of a repository's name.
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One service's image. `source` is what the compose file calls it, `tag` is ours for this release alone.

    `id` is '' until it is known. `digest` is repository@sha256:… where it came from a registry. `fetched`: it
    was not on the host before.
    """

    service: str
    source: str
    tag: str
    built: bool
    id: str = ""
    digest: str = ""
    fetched: bool = False

    @property
    def pin(self) -> str:
        """What compose is told to run. An id stays the same over releases, so nothing is started anew."""
        return self.tag if self.built else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that starting a release again needs besides its folder. `env` has no secrets, only their names.

    `mounts` are the volumes of each service that lead to what all releases share. `port` is where a release
    that runs beside others listens in its container.
    """

    release: str
    commit: str
    ref: str
    project: str
    files: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    env_file: str = ""
    images: tuple[Image, ...] = ()
    mounts: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    port: int = 0

    def with_images(self, found: Mapping[str, Image]) -> Record:
        """The same, with what has become known of some services' images."""
        return replace(self, images=tuple(found.get(image.service, image) for image in self.images))

    def encode(self) -> bytes:
        """For the disk."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode() + b"\n"

    def override(self) -> bytes:
        """The compose file that pins the release; '$' would be a variable there."""
        services: dict[str, dict[str, Any]] = {
            image.service: {"image": image.pin, "pull_policy": "never"} for image in self.images if image.pin
        }
        for service, volumes in self.mounts.items():
            services.setdefault(service, {})["volumes"] = list(volumes)
        return (
            json.dumps({"services": services}, indent=1, sort_keys=True).replace("$", "$$").encode() + b"\n"
        )

    def environment(self, present: Mapping[str, str | Secret]) -> dict[str, str | Secret]:
        """What the release's commands see: its own values; of secrets those that are configured now."""
        told = {"FRAISIER_COMMIT": self.commit, "FRAISIER_REF": self.ref, "FRAISIER_RELEASE": self.release}
        return {**self.env, **{name: present[name] for name in self.secrets if name in present}, **told}


def decode(data: bytes) -> Record | None:
    """What `encode` wrote; None if it is none. Fields that this version does not know are left aside."""
    try:
        found = json.loads(data)
        images = tuple(Image(**_known(Image, each)) for each in found.pop("images"))
        for name in ("files", "secrets"):
            found[name] = tuple(found[name])
        return Record(**{**_known(Record, found), "images": images})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _known(cls: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name in cls.__dataclass_fields__}


def record_path(layout: Layout, release: str) -> str:
    """Where a release's record lies."""
    return layout.marker(release).removesuffix(".json") + ".images.json"


def override_path(layout: Layout, release: str) -> str:
    """Where the file lies that compose is given."""
    return layout.marker(release).removesuffix(".json") + ".compose.json"


def tag_of(project: str, service: str, release: str) -> str:
    """The tag that a service's image has for one release; a name that docker would refuse is spelt anew."""
    name = f"{project}-{service}"
    if not _PART.match(name) or len(name) > 200:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:180]
        name = f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{name}:{release}"


def begin(environment: Environment, release: str, commit: str, ref: str) -> dict[str, Any]:
    """The part of a new record that comes from the configuration."""
    spec = environment.target
    env = environment.env
    return {
        "release": release,
        "commit": commit,
        "ref": ref,
        "project": spec.unit if spec else "",
        "files": files_of(environment),
        "env": {name: value for name, value in env.items() if not isinstance(value, Secret)},
        "secrets": tuple(name for name, value in env.items() if isinstance(value, Secret)),
        "env_file": environment.env_file,
    }


def files_of(environment: Environment) -> tuple[str, ...]:
    """The compose files, relative to the release."""
    options = environment.target.options if environment.target else {}
    return tuple(options.get("files", "compose.yaml").split(":"))
