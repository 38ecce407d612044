"""Asks whether a port accepts connections."""

from __future__ import annotations

import errno
import socket

from fraisier.application.ports import Dial, Health, Runner
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
        dial: Dial,
    ) -> Health:
        """Look once."""
        place = check.at or check.tcp
        try:
            dial(place, timeout=check.request_timeout).close()
        except TimeoutError:
            return Health(passed=False, detail=f"no answer from {place} within {check.request_timeout:g} s")
        except OSError as error:
            return Health(passed=False, detail=f"{reason(error)} on {place}")
        except (ValueError, OverflowError):
            return Health(passed=False, detail=f"{place!r} is no host:port")
        return Health(passed=True, detail=f"{place} accepts connections")


def reason(error: OSError) -> str:
    """What went wrong with a connection, in a person's words."""
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved"
    return _WORDS.get(error.errno or 0) or error.strerror or str(error) or "connection closed"
