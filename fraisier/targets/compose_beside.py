"""Releases that run side by side (`cutover: blue_green`): a project each, and an address that is its own.

A release is told where to listen: ${PORT} is what a service publishes, or ${FRAISIER_SOCKET} the unix
socket that it makes in ${FRAISIER_SOCKET_FOLDER}. It mounts that at the same path, for the kernel's table of
connections has the path that a socket was bound to.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace

from fraisier.application import instances
from fraisier.application.ports import Host, Workplace
from fraisier.domain.fraise import Environment, TargetSpec
from fraisier.domain.release import Layout
from fraisier.targets.compose_commands import Commands
from fraisier.targets.compose_file import Beside
from fraisier.targets.compose_record import Record
from fraisier.targets.compose_state import containers

FOLDER = "FRAISIER_SOCKET_FOLDER"
_NO_PORT = "1"  # stands for ${PORT} while nothing listens yet; nobody publishes it
_LOOK = 0.1  # seconds between two looks at connections
_QUIET_LOOKS = 3


def instance(spec: TargetSpec, release: str) -> TargetSpec:
    """orders-production -> orders-production-12-0123456789."""
    return replace(spec, unit=f"{spec.unit}-{release}")


def listen_of(environment: Environment) -> tuple[str, ...]:
    """Where releases listen: as configured, or a socket in a folder of its own for each."""
    return environment.listen or (Layout(environment.app_path).socket("%i"),)


def beside(environment: Environment, release: str) -> Beside | None:
    """What the files of a release are judged by; None where it replaces the one before."""
    if not environment.is_blue_green or environment.target is None:
        return None
    project, place = instance(environment.target, release).unit, listen_of(environment)[0]
    if place.startswith("/"):
        return Beside(project=project, socket=place.replace("%i", release))
    return Beside(project=project, port=_NO_PORT)


def placeholders(found: Beside | None) -> dict[str, str]:
    """What the files are resolved with before a place was chosen."""
    if found is None:
        return {}
    if found.port:
        return {instances.PORT: found.port}
    return {instances.SOCKET: found.socket, FOLDER: posixpath.dirname(found.socket)}


def variables(host: Host, layout: Layout, release: str) -> Mapping[str, str]:
    """What a release is told that has got its place."""
    told = dict(instances.variables_of(host, layout, release))
    if socket := told.get(instances.SOCKET):
        told[FOLDER] = posixpath.dirname(socket)
    return told


def make_folder(place: Workplace, told: Mapping[str, str]) -> None:
    """The folder of the socket belongs to the environment's user: nobody else may put another one there."""
    if folder := told.get(FOLDER):
        with place.guard():
            place.host.make_folder(folder, user=place.environment.user)


def remove_folder(place: Workplace, release: str) -> None:
    """After the release was stopped."""
    if folder := variables(place.host, place.layout, release).get(FOLDER):
        with place.guard():
            place.host.remove(folder)


# -- the end of connections


def drain(commands: Commands, place: Workplace, record: Record) -> None:
    """Wait until nobody is connected to the port of a release's containers, or `drain_timeout` is over.

    The host's own table does not have what is connected inside of a container's network. Connections to unix
    sockets it has, so those have ended by now.

    Raises:
        StepFailed: cancelled, or host.
    """
    left, quiet, said = place.environment.drain_timeout * bool(record.port), 0, 0
    while left > 0 and quiet < _QUIET_LOOKS:
        found = _connections(commands, place.host, record.port)
        quiet = 0 if found else quiet + 1
        if found and not said:
            place.say(f"release {record.release} has {found} connections: waiting for their end")
            said = found
        place.wait(_LOOK)
        left -= _LOOK
    if quiet < _QUIET_LOOKS and said:
        place.say(f"release {record.release} still had connections: they are cut")


def _connections(commands: Commands, host: Host, port: int) -> int:
    pids = [each.pid for each in containers(commands, host) or () if each.pid]
    return sum(instances.tcp_connections(host, port, of=str(pid)) for pid in pids)
