"""HAProxy, by its runtime API: https://docs.haproxy.org/2.6/management.html#9.3

Options: `socket` is the path of a `stats socket … level admin`, `backend` the backend's name. Its servers
are those of the configuration, one for each port of `listen`. What the runtime API changes is forgotten when
HAProxy restarts, so the servers' state is written to `state_file`, which HAProxy reads at its start
(`server-state-file` and `load-server-state-from-file global`).
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fraisier.application.ports import Problem
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment

_PATIENCE = 5.0  # seconds for an answer, and for a server to be in its new state
_NAME = re.compile(r"[A-Za-z0-9_.:-]+\Z")  # https://docs.haproxy.org/2.6/configuration.html#2
# The bits of srv_admin_state that the runtime API sets (maintenance, drain), and srv_op_state "running".
_FORCED, _RUNNING = 0x01 | 0x08, 2
_HINT = "See `fraisier init --proxy haproxy` for the lines that its configuration needs"


@dataclass(frozen=True, slots=True)
class _Server:
    name: str
    port: int
    running: bool
    out: bool


class HAProxy:
    """A backend whose servers are the places where releases listen."""

    kind = "haproxy"

    def point(self, environment: Environment, address: str) -> None:
        """Open the server with this address, then close the others: what they have begun, they finish.

        Without an address, what is no place of a release's instance is opened, and those are closed.
        """
        backend = _option(environment, "backend")
        servers = _servers(environment)
        opened = _chosen(servers, backend, address) if address else _foreign(servers, environment)
        for server in opened:
            if server.out or (address and not server.running):
                _tell(environment, f"set server {backend}/{server.name} state ready")
        if address:
            _wait_until_open(environment, backend, address)
        names = {server.name for server in opened}
        for server in _servers(environment):
            if server.name not in names and not server.out:
                # Maintenance, not drain: sticky clients have to come over as well.
                _tell(environment, f"set server {backend}/{server.name} state maint")
        _remember(environment)

    def points_to(self, environment: Environment) -> Sequence[str]:
        """The servers that are open."""
        places = {int(place.rpartition(":")[2]): place for place in environment.listen}
        return [
            places.get(server.port, f"{server.name}:{server.port}")
            for server in _servers(environment)
            if not server.out
        ]

    def problems(self, environment: Environment) -> Sequence[Problem]:
        """HAProxy has to answer and to know each place where a release may listen."""
        try:
            backend = _option(environment, "backend")
            known = {server.port for server in _servers(environment)}
        except StepFailed as failure:
            return (Problem(failure.message, failure.hint),)
        found = []
        missing = [each for each in environment.listen if int(each.rpartition(":")[2]) not in known]
        if missing:
            message = (
                f"cannot send traffic to {', '.join(missing)}: HAProxy's backend {backend} has no such server"
            )
            found.append(Problem(message, _HINT))
        if not _state_file(environment):
            message = "HAProxy forgets which release serves when it restarts: no `state_file` is set"
            found.append(Problem(message, _HINT, fatal=False))
        return tuple(found)


def _option(environment: Environment, name: str) -> str:
    options = environment.proxy.options if environment.proxy else {}
    value = options.get(name, "")
    if not value or (name == "backend" and not _NAME.match(value)):
        message = f"cannot use HAProxy for {environment.key}: `proxy:` has no usable `{name}`"
        raise StepFailed(Cause.preflight, message, _HINT)
    return value


def _state_file(environment: Environment) -> str:
    return environment.proxy.options.get("state_file", "") if environment.proxy else ""


def _servers(environment: Environment) -> list[_Server]:
    """The backend's servers: `show servers state`, whose columns are named in its second line."""
    backend = _option(environment, "backend")
    lines = _tell(environment, f"show servers state {backend}").splitlines()
    heads = [line for line in lines if line.startswith("#")]
    if not heads:
        message = f"cannot read what HAProxy says of {backend}: {' '.join(lines)[:200]}"
        raise StepFailed(Cause.preflight, message, _HINT)
    names = heads[0].lstrip("# ").split()
    rows = (line.split() for line in lines if len(line.split()) >= len(names) and not line.startswith("#"))
    return [_server(dict(zip(names, row, strict=False))) for row in rows]


def _server(row: dict[str, str]) -> _Server:
    return _Server(
        name=row["srv_name"],
        port=int(row["srv_port"]),
        running=int(row["srv_op_state"]) == _RUNNING,
        out=bool(int(row["srv_admin_state"]) & _FORCED),
    )


def _chosen(servers: Sequence[_Server], backend: str, address: str) -> list[_Server]:
    port = int(address.rpartition(":")[2])
    found = [server for server in servers if server.port == port]
    if not found:
        message = f"cannot send traffic to {address}: HAProxy's backend {backend} has no such server"
        raise StepFailed(Cause.preflight, message, _HINT)
    return found


def _foreign(servers: Sequence[_Server], environment: Environment) -> list[_Server]:
    ports = {int(place.rpartition(":")[2]) for place in environment.listen}
    return [server for server in servers if server.port not in ports]


def _wait_until_open(environment: Environment, backend: str, address: str) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        found = _chosen(_servers(environment), backend, address)
        if all(server.running and not server.out for server in found):
            return
        if time.monotonic() > until:
            message = f"cannot send traffic to {address}: HAProxy does not take {found[0].name} as running"
            raise StepFailed(Cause.host, message, "See what it says: show servers state")
        time.sleep(0.02)


def _remember(environment: Environment) -> None:
    """Write the servers' state where HAProxy finds it at its next start; whole, or not at all."""
    path = _state_file(environment)
    if not path:
        return
    state = _tell(environment, "show servers state")
    temporary = Path(f"{path}.new")
    try:
        with temporary.open("w") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        message = f"cannot write HAProxy's state file {path}: {error.strerror}"
        raise StepFailed(Cause.host, message, "Let Fraisier write there") from error


def _tell(environment: Environment, command: str) -> str:
    """One command; what HAProxy answers. It answers with an empty line where all is well."""
    path = _option(environment, "socket")
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(path)
            connection.sendall(command.encode() + b"\n")
            with suppress(TimeoutError):
                while data := connection.recv(1 << 16):
                    answer += data
    except OSError as error:
        message = f"cannot reach HAProxy at {path}: {error.strerror or error}"
        raise StepFailed(Cause.host, message, "Is it running, and has it a `stats socket` there?") from error
    said = answer.decode("utf-8", "replace").strip()
    if command.startswith("set ") and said:
        raise StepFailed(Cause.host, f"cannot `{command}`: HAProxy says {said[:200]!r}", _HINT)
    return said + "\n"
