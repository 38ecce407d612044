"""What it takes to reach a test server as a host of Fraisier's: its key, and the keys that we trust."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fraisier.application.settings import HostOptions
from tests.servers import Server


def known_hosts(server: Server, into: Path) -> Path:
    """A file with the server's host key, as `ssh-keyscan` writes it."""
    scanned = subprocess.run(("ssh-keyscan", server.address), capture_output=True, check=True, timeout=30)
    file = into / f"known_hosts_{server.name}"
    file.write_bytes(scanned.stdout)
    return file


def options_for(server: Server, into: Path, *, user: str = "root") -> HostOptions:
    """How Fraisier reaches the server, without anything in anybody's ssh configuration."""
    return HostOptions(
        address=server.address,
        user=user,
        identity_file=str(server.state / "key"),
        known_hosts=str(known_hosts(server, into)),
    )
