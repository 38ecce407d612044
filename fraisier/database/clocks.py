"""The clocks of the store: wall time for people, CLOCK_BOOTTIME for leases, and their text forms."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clocks:
    """Time as the store needs it; tests pass clocks that they move.

    `boottime` (seconds) runs on during suspend and never jumps, but means something only within
    `boot_id`: a lease of another boot has ended.
    """

    now: Callable[[], float]
    boottime: Callable[[], float]
    boot_id: str


def system_clocks() -> Clocks:
    """The clocks of this machine."""
    return Clocks(now=time.time, boottime=_boottime, boot_id=_read_boot_id())


def iso(seconds: float) -> str:
    """Unix seconds as UTC ISO 8601 with microseconds: 2026-11-22T21:00:00.123456Z."""
    second, microsecond = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_second(second)}.{microsecond:06d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    """Most times that are written belong to the present second."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds")[:19]


def unix(text: str) -> float:
    """The inverse of `iso`."""
    return datetime.fromisoformat(text).timestamp()


def unix_or_none(text: str | None) -> float | None:
    """The inverse of `iso` for a column that may be NULL."""
    return unix(text) if text else None
