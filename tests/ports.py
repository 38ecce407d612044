"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

PORTS = (10_240, 32_768)  # below those that Linux takes for outgoing connections


def free_port() -> int:
    """A port of this machine that was free a moment ago, and that the system gives to nobody by itself."""
    while not is_free(port := random.randrange(*PORTS)):
        continue
    return port


def is_free(port: int) -> bool:
    """Whether nobody has it now, and it is none that the system gives away by itself."""
    if port not in range(*PORTS):
        return False
    with socket.socket() as listening, suppress(OSError):
        listening.bind(("127.0.0.1", port))
        return True
    return False
