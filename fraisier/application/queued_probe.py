"""A probe that stands in line: who connects to a socket that systemd holds waits until the service accepts.

Those in line asked before it: giving up after a moment and connecting again would only lose its place.
It goes on in a thread of its own while the unit is looked at: one that crashes accepts nobody, however long
it is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fraisier.application.ports import Health


@dataclass(slots=True)
class _Asked:
    """One probe under way, and what came of it."""

    ended: threading.Event = field(default_factory=threading.Event)
    health: Health | None = None
    error: BaseException | None = None


class QueuedProbe:
    """One probe at a time; `probe` has a bound of its own."""

    def __init__(self, probe: Callable[[], Health]) -> None:
        """`probe` looks once, and may take as long as the line is."""
        self._probe = probe
        self._asked: _Asked | None = None

    def __call__(self, patience: float) -> Health | None:
        """The answer, if there is one within `patience` seconds; it is asked after again the next time.

        Raises:
            Exception: whatever the probe raised.
        """
        if self._asked is None:
            self._asked = _Asked()
            threading.Thread(target=self._ask, args=(self._asked,), name="health", daemon=True).start()
        asked = self._asked
        if not asked.ended.wait(patience):
            return None
        self._asked = None
        if asked.error is not None:
            raise asked.error
        return asked.health

    def _ask(self, asked: _Asked) -> None:
        try:
            asked.health = self._probe()
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is asked for
            asked.error = error
        asked.ended.set()
