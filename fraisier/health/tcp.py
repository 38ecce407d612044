"""Asks whether a port accepts connections."""

from __future__ import annotations

import errno
import socket

from fraisier.application.ports import Health, Runner
from fraisier.domain.fraise import Environment, HealthCheck

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection closed",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "network unreachable",
}


class TcpProber:
    """One connection, closed at once."""

    def probe(
        self,
        check: HealthCheck,
        environment: Environment,  # noqa: ARG002 other brands need it
        release_folder: str,  # noqa: ARG002
        run: Runner,  # noqa: ARG002
    ) -> Health:
        """Look once."""
        host, _, port = check.tcp.rpartition(":")
        try:
            address = (host.strip("[]") or "127.0.0.1", int(port))
            socket.create_connection(address, check.request_timeout).close()
        except TimeoutError:
            return Health(
                passed=False, detail=f"no answer from {check.tcp} within {check.request_timeout:g} s"
            )
        except OSError as error:
            return Health(passed=False, detail=f"{reason(error)} on {check.tcp}")
        except (ValueError, OverflowError):
            return Health(passed=False, detail=f"{check.tcp!r} is no host:port")
        return Health(passed=True, detail=f"{check.tcp} accepts connections")


def reason(error: OSError) -> str:
    """What went wrong with a connection, in a person's words."""
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved"
    return _WORDS.get(error.errno or 0) or error.strerror or str(error) or "connection closed"
