"""Releases that run as instances of their own: which there are, where each listens, who is connected to it.

Every instance has a file in `.fraisier/instances/`, written before it is started and removed after it was
stopped, so that none is ever forgotten. Its unit reads its variables from that file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from fraisier.application.ports import Host
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.release import Layout, is_release_name

ADDRESS, SOCKET, PORT = "FRAISIER_ADDRESS", "FRAISIER_SOCKET", "PORT"
_SUFFIX = ".env"
_TABLE = 32 << 20  # bytes of the kernel's tables that are read
# proc(5): of /proc/net/unix, the flag of a listening socket and the states that a connection goes through.
_LISTENING, _CONNECTED = 0x10000, {"02", "03"}
# of /proc/net/tcp: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
_TCP_OPEN, _TCP_LISTENS = {"01", "03"}, {"0A"}


def recorded(host: Host, layout: Layout) -> list[str]:
    """The releases that may run as an instance, or start as one at boot."""
    names = (name.removesuffix(_SUFFIX) for name in host.list(layout.instances) if name.endswith(_SUFFIX))
    return [name for name in names if is_release_name(name)]


def variables_of(host: Host, layout: Layout, release: str) -> Mapping[str, str]:
    """What an instance is told; empty where there is none."""
    text = (host.read(layout.instance(release)) or b"").decode("utf-8", "replace")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def address_of(host: Host, layout: Layout, release: str) -> str:
    """Where an instance listens: the path of a unix socket, or host:port; '' where there is none."""
    return variables_of(host, layout, release).get(ADDRESS, "")


def variables_for(address: str, release: str, commit: str) -> dict[str, str]:
    """What an instance that listens on `address` is told."""
    place = {SOCKET: address} if address.startswith("/") else {PORT: address.rpartition(":")[2]}
    return {ADDRESS: address, **place, "FRAISIER_RELEASE": release, "FRAISIER_COMMIT": commit}


def choose_address(host: Host, layout: Layout, release: str, listen: tuple[str, ...]) -> str:
    """A socket of the release's own, or a port that nobody listens on.

    Raises:
        StepFailed: preflight, where all ports are taken.
    """
    sockets = [place for place in listen if place.startswith("/")]
    if sockets:
        return sockets[0].replace("%i", release)
    others = {address_of(host, layout, name): name for name in recorded(host, layout) if name != release}
    busy = _listening_ports(host)
    for place in listen:
        if place not in others and int(place.rpartition(":")[2]) not in busy:
            return place
    taken = ", ".join(f"{each} by {others.get(each, 'somebody else')}" for each in listen)
    message = f"cannot start release {release} beside the old one: every port of `listen` is taken ({taken})"
    raise StepFailed(Cause.preflight, message, "See who listens there: ss -ltnp. Or name one more port")


def connections(host: Host, address: str) -> int:
    """How many clients are connected to whatever listens on `address`, or wait to be accepted."""
    if address.startswith("/"):
        lines = _lines(host, "/proc/net/unix")
        return sum(_is_connection(line, address) for line in lines)
    return tcp_connections(host, int(address.rpartition(":")[2]))


def tcp_connections(host: Host, port: int, *, of: str = "") -> int:
    """How many are connected to a port of this machine, or of the network that the process `of` is in."""
    return sum(local == port and state in _TCP_OPEN for local, state in _tcp(host, of))


def _is_connection(line: str, path: str) -> bool:
    fields = line.split(None, 7)
    if len(fields) < 8 or fields[7] != path:
        return False
    return not int(fields[3], 16) & _LISTENING and fields[5] in _CONNECTED


def _listening_ports(host: Host) -> set[int]:
    return {port for port, state in _tcp(host) if state in _TCP_LISTENS}


def _tcp(host: Host, process: str = "") -> list[tuple[int, str]]:
    """Local port and state of each socket."""
    folder = posixpath.join("/proc", process, "net")
    rows = (line.split() for name in ("tcp", "tcp6") for line in _lines(host, f"{folder}/{name}"))
    return [(int(row[1].rpartition(":")[2], 16), row[3]) for row in rows if len(row) > 3]


def _lines(host: Host, path: str) -> list[str]:
    data = host.read(path, limit=_TABLE) or b""
    return data.decode("utf-8", "replace").splitlines()[1:]
