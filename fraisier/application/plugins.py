"""What third parties' packages add: entry points of the groups that `wiring.GROUPS` names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def plugins(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of a group by name."""
    return {point.name: point for point in _all().select(group=group)}


@cache
def _all() -> Any:  # its type differs between versions of Python
    # Slow to import, and needed by few commands. It reads every installed package: once is enough.
    from importlib.metadata import entry_points

    return entry_points()
