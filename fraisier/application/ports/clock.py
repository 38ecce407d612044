"""The time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time, for verbs that must be tested without waiting."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...
