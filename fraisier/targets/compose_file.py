"""What the compose files of a release say, as `docker compose config` resolves them: images, and refusals.

The text of the files is never read here: only compose knows what its anchors, includes and variables come to.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fraisier.domain.release import Layout
from fraisier.targets.compose_record import Image, tag_of

Document = Mapping[str, Any]
_RESTARTING = {"always", "unless-stopped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a release needs that runs beside the one before: a project of its own, and where it listens.

    `port` is what ${PORT} was while the files were resolved, `socket` what ${FRAISIER_SOCKET} was; one is ''.
    """

    project: str
    port: str = ""
    socket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What paths are judged by. `shared` as in the configuration."""

    layout: Layout
    release: str
    project: str
    shared: Sequence[str] = ()
    beside: Beside | None = None


@dataclass(slots=True)
class Reading:
    """What was found. `refusals` keep the release from being used, `remarks` do not.

    `local` are the folders and files on the host that a build reads. `clashes` keep the release from running
    beside another one; `port` is where it listens in its container, if it listens on one.
    """

    images: list[Image] = field(default_factory=list)
    mounts: dict[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    local: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    port: int = 0


def read(document: Document, where: Where) -> Reading:
    """Judge the resolved files of one release."""
    found = Reading()
    services: Document = document.get("services") or {}
    found.images = list(_images(services, where))
    for name, service in services.items():
        _read_mounts(name, service, where, found)
        found.local += _read_by_build(service.get("build") or {})
        restart = str(service.get("restart") or "no").partition(":")[0]
        if restart not in _RESTARTING and name not in _jobs(services):
            found.remarks.append(f"service {name} has no `restart:`: it does not come back after a reboot")
    for kind in ("configs", "secrets"):
        _read_files(kind, document.get(kind) or {}, where, found)
    for name, volume in (document.get("volumes") or {}).items():
        device = str(((volume or {}).get("driver_opts") or {}).get("device") or "")
        if _is_in_a_release(device, where):
            found.refusals.append(f"volume {name} is {device}, in the release")
    if where.beside is not None:
        _read_beside(document, where.beside, found)
    return found


def _images(services: Document, where: Where) -> Iterator[Image]:
    """A service without `build:` may use the image that another one builds."""
    built = {
        name: str(service.get("image") or f"{where.project}-{name}")
        for name, service in services.items()
        if service.get("build")
    }
    builder_of = {image: name for name, image in built.items()}
    for name, service in services.items():
        source = built.get(name) or str(service.get("image") or "")
        builder = name if name in built else builder_of.get(source, "")
        yield Image(
            service=name,
            source=source,
            tag=tag_of(where.project, builder or name, where.release),
            built=bool(builder),
        )


def _jobs(services: Document) -> set[str]:
    """Services that others wait for the end of."""
    return {
        name
        for service in services.values()
        for name, how in (service.get("depends_on") or {}).items()
        if isinstance(how, Mapping) and how.get("condition") == "service_completed_successfully"
    }


# -- what leads into the release


def _read_mounts(name: str, service: Document, where: Where, found: Reading) -> None:
    moved = []
    for volume in service.get("volumes") or ():
        source = str(volume.get("source") or "")
        if volume.get("type") != "bind":
            continue
        if shared := _shared(source, where):
            moved.append({**volume, "source": shared})
        elif _is_in_a_release(source, where):
            inside = _inside(source, where)
            found.refusals.append(f"service {name} mounts {inside or source} from the release")
        elif _below(source, where.layout.own):
            found.refusals.append(f"service {name} mounts {source}, which is Fraisier's own")
    if moved:
        found.mounts[name] = tuple(moved)


def _read_files(kind: str, entries: Document, where: Where, found: Reading) -> None:
    for name, entry in entries.items():
        path = str((entry or {}).get("file") or "")
        if _is_in_a_release(path, where):
            inside = _inside(path, where)
            found.refusals.append(f"{kind} entry {name} is the file {inside or path} of the release")
        elif _below(path, where.layout.own):
            found.refusals.append(f"{kind} entry {name} is {path}, which is Fraisier's own")


def _is_in_a_release(path: str, where: Where) -> bool:
    return _below(path, where.layout.releases) or _below(path, where.layout.current)


def _inside(path: str, where: Where) -> str:
    """'./data' for a path in this release, or in what `current` is."""
    for top in (where.layout.release(where.release), where.layout.current):
        if _below(path, top):
            return "./" + posixpath.relpath(path, top)
    return ""


def _shared(path: str, where: Where) -> str:
    """Where a path of the release really is, if it is one that all releases share."""
    inside = _inside(path, where).removeprefix("./")
    for name in where.shared:
        if inside and _below("/" + inside, "/" + name.rstrip("/")):
            return posixpath.join(where.layout.shared, inside)
    return ""


def _below(path: str, folder: str) -> bool:
    path = posixpath.normpath(path) if path.startswith("/") else ""
    return path == folder or path.startswith(folder + "/")


# -- what a build reads


def _read_by_build(build: Document) -> Iterator[str]:
    """The local folders and files that are sent to the builder; URLs and images are not ours to judge."""
    context = str(build.get("context") or "")
    if context.startswith("/"):
        yield context
        if build.get("dockerfile") and not build.get("dockerfile_inline"):
            yield posixpath.join(context, str(build["dockerfile"]))
    for extra in (build.get("additional_contexts") or {}).values():
        if str(extra).startswith("/"):
            yield str(extra)


# -- two releases at a time


def _read_beside(document: Document, beside: Beside, found: Reading) -> None:
    own = {
        name
        for name, volume in (document.get("volumes") or {}).items()
        if (volume or {}).get("name") == f"{beside.project}_{name}"
    }
    offered = False
    for name, service in (document.get("services") or {}).items():
        if service.get("container_name"):
            found.clashes.append(f"service {name} has a container_name, which two releases cannot both have")
        for port in service.get("ports") or ():
            published = str(port.get("published") or "")
            if beside.port and published == beside.port:
                offered, found.port = True, int(port.get("target") or 0)
            elif published:
                found.clashes.append(f"service {name} publishes port {published}, which the old release has")
        for volume in service.get("volumes") or ():
            if volume.get("type") == "volume" and volume.get("source") in own:
                which = volume["source"]
                found.clashes.append(f"service {name} has volume {which}, of which each release gets its own")
            folder = posixpath.dirname(beside.socket)
            offered |= bool(folder) and volume.get("source") == volume.get("target") == folder
    if not offered:
        both = "${FRAISIER_SOCKET_FOLDER}:${FRAISIER_SOCKET_FOLDER}"
        wanted = "publishes ${PORT}" if beside.port else f"mounts {both}"
        found.clashes.append(f"no service {wanted}, where the traffic would come to the release")
