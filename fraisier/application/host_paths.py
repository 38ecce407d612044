"""Paths below the home of whoever Fraisier is on a host, which only that host knows."""

from __future__ import annotations

from fraisier.application.ports import Host


def at_home(host: Host, path: str) -> str:
    """'~/x' as the host's own path; any other path as it is."""
    if not path.startswith("~/"):
        return path
    home = host.inspect(("sh", "-c", 'printf %s "$HOME"')).stdout.decode("utf-8", "surrogateescape")
    return f"{home.rstrip('/')}/{path.removeprefix('~/')}"
