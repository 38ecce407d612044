"""The unit files that Fraisier writes by itself, from a `run:` line: systemd.exec(5), systemd.socket(5)."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator

from fraisier.domain.fraise import Cutover, Environment, TargetSpec
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret

PLAIN = "current"  # what stands for an instance's name where there are no instances
BACKLOG = 4096  # clients that may wait while a service is restarted
_TARGETS = {"system": "multi-user.target", "user": "default.target"}


def manager_of(spec: TargetSpec) -> str:
    """Whose manager has the unit: system or user."""
    return spec.options.get("manager", "system")


def prefix_of(spec: TargetSpec) -> str:
    """orders.service, or orders@.service -> orders."""
    return spec.unit.removesuffix(".service").removesuffix("@")


def listen_of(environment: Environment, spec: TargetSpec) -> tuple[str, ...]:
    """Where releases listen; '%i' is the instance. A folder of the unit's own, unless told otherwise."""
    return environment.listen or (f"{_runtime_of(spec)}/{prefix_of(spec)}/%i/service.sock",)


def plain_listen(environment: Environment) -> tuple[str, ...]:
    """The same for the plain unit, which is told only what the configuration says."""
    return tuple(place.replace("%i", PLAIN) for place in environment.listen)


def _runtime_of(spec: TargetSpec) -> str:
    return "/run" if manager_of(spec) == "system" else f"/run/user/{os.geteuid()}"


def service(environment: Environment, spec: TargetSpec) -> str:
    """The unit of the service, which runs from `current`, or of an instance, which runs from its release."""
    instance = environment.is_blue_green
    layout = Layout(environment.app_path)
    folder = f"{_plain(layout.releases)}/%i" if instance else _plain(layout.current)
    sections = (
        ("Unit", _unit_lines(environment, spec)),
        (
            "Service",
            (*_place(environment, spec, folder), *_variables(environment), *_command(environment)),
        ),
        ("Install", (f"WantedBy={_TARGETS[manager_of(spec)]}",)),
    )
    return _HEAD + "\n".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections)


def socket(environment: Environment) -> str:
    """The unit that listens while the service is restarted."""
    lines = (f"ListenStream={_plain(place)}" for place in plain_listen(environment))
    about = f"Description=The socket of {environment.key}, by Fraisier"
    socket_lines = (*lines, f"Backlog={BACKLOG}")
    return (
        f"{_HEAD}[Unit]\n{about}\n\n[Socket]\n"
        + "\n".join(socket_lines)
        + "\n\n[Install]\nWantedBy=sockets.target\n"
    )


def bound_to_socket(spec: TargetSpec) -> str:
    """What a user's own service needs beside its socket."""
    return f"{_HEAD}[Unit]\n" + "\n".join(_needs_socket(spec)) + "\nStartLimitIntervalSec=0\n"


_HEAD = "# Written by Fraisier from fraises.yaml: changes are lost with the next deployment.\n"


def _unit_lines(environment: Environment, spec: TargetSpec) -> Iterator[str]:
    yield f"Description={environment.key}, by Fraisier"
    yield "After=network.target"
    yield "StartLimitIntervalSec=0"  # quick deployments are no crash loop
    if environment.cutover is Cutover.socket:
        yield from _needs_socket(spec)


def _needs_socket(spec: TargetSpec) -> tuple[str, ...]:
    name = f"{prefix_of(spec)}.socket"
    return (f"Requires={name}", f"After={name}")


def _place(environment: Environment, spec: TargetSpec, folder: str) -> Iterator[str]:
    if environment.user and manager_of(spec) == "system":
        yield f"User={environment.user}"
    yield f"WorkingDirectory={folder}"
    if own := _own_folder(environment, spec):
        yield f"RuntimeDirectory={own}"


def _own_folder(environment: Environment, spec: TargetSpec) -> str:
    """The folder of the socket, where it is the instance's alone: systemd makes it, and removes it."""
    place = (*listen_of(environment, spec), "")[0] if environment.is_blue_green or environment.listen else ""
    folder, runtime = posixpath.dirname(place), _runtime_of(spec) + "/"
    if environment.cutover is Cutover.socket or "%i" not in folder or not folder.startswith(runtime):
        return ""
    own = folder.removeprefix(runtime)
    return own if environment.is_blue_green else own.replace("%i", PLAIN)


def _variables(environment: Environment) -> Iterator[str]:
    for name, value in environment.env.items():
        if not isinstance(value, Secret):
            yield f"Environment={_quoted(f'{name}={value}')}"
    if environment.env_file:
        yield f"EnvironmentFile={_plain(environment.env_file)}"
    if environment.is_blue_green:
        yield f"EnvironmentFile={_plain(Layout(environment.app_path).instances)}/%i.env"
        return
    if not environment.listen:
        return
    address = plain_listen(environment)[0]
    name = "FRAISIER_SOCKET" if address.startswith("/") else "PORT"
    value = address if address.startswith("/") else address.rpartition(":")[2]
    yield f"Environment={_quoted(f'FRAISIER_ADDRESS={address}')}"
    yield f"Environment={_quoted(f'{name}={value}')}"


def _command(environment: Environment) -> Iterator[str]:
    # A shell, so that the line means what it means elsewhere; exec, so that signals reach the program.
    yield f"ExecStart=/bin/sh -c {_quoted('exec ' + environment.run.strip()).replace('$', '$$')}"
    yield "Restart=always"
    # Where the socket is held somebody waits for each start.
    yield "RestartSec=300ms" if environment.cutover is Cutover.socket else "RestartSec=1"
    yield f"TimeoutStopSec={max(1, round(environment.drain_timeout))}"


def _plain(text: str) -> str:
    """A path in a setting that is one word to the end of the line."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One word of a setting that is split into words: systemd.syntax(7)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'
