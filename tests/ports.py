"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

PORTS = (10_240, 32_768)  # below those that Linux takes for outgoing connections


def free_port() -> int:
    """A port of this machine that was free a moment ago, and that the system gives to nobody by itself."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port
