"""The databases that parts of `make bench` measure on: SQLite, and a real PostgreSQL that syncs its disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.postgresql import SETTINGS, PostgresqlServer, running

SYNCED = {**SETTINGS, "fsync": "on", "shared_buffers": "128MB"}
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def postgresql() -> Iterator[PostgresqlServer]:
    """A server with a cluster of its own in /var/tmp, as durable as Debian sets one up.

    Raises:
        SystemExit: it cannot be had.
    """
    try:
        with running(settings=SYNCED) as server:
            yield server
    except pytest.skip.Exception as reason:
        raise SystemExit(str(reason)) from None


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has had, with its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS
