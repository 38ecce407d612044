"""Who is told what happens, as it happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Listener = Callable[[str, Mapping[str, Any]], None]  # an event's name and fields, for logs and the terminal
