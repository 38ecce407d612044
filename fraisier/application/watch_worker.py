"""Say when waiting for a worker has become pointless."""

from __future__ import annotations

from collections.abc import Callable

from fraisier.application.find_workers import Lack
from fraisier.application.ports import Clock
from fraisier.domain.errors import NoWorker

PATIENCE = 10.0  # seconds without a worker; a restart of one takes less


class WorkerWatch:
    """Says when waiting for a worker that may go on with something (`what`) has become pointless.

    `lack` tells why no worker goes on with it, None: one does; it may raise, to end the waiting.
    """

    def __init__(
        self, what: str, lack: Callable[[], Lack | None], clock: Clock, *, patience: float = PATIENCE
    ) -> None:
        self._what = what
        self._lack = lack
        self._clock = clock
        self._patience = patience
        self._last_alive = clock.monotonic()
        self._next_look = self._last_alive + 1.0

    def __call__(self) -> None:
        """Return if such a worker lives, or lived a moment ago.

        Raises:
            NoWorker: none has for too long.
        """
        now = self._clock.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + 1.0
        lack = self._lack()
        if lack is None:
            self._last_alive = now
        elif now - self._last_alive > self._patience:
            message = f"cannot wait for the {self._what} any longer: {lack.reason}"
            raise NoWorker(message, f"It stays stored and goes on by itself then. {lack.hint}")
