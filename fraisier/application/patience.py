"""How long a deployment is tried, and how long one waits between two tries."""

from __future__ import annotations

import random
from collections.abc import Callable

from fraisier.application.control import Control
from fraisier.application.journal import explain
from fraisier.application.ports import Claim
from fraisier.application.tools import Tools


class Patience:
    """Belongs to one attempt; `retry_for` is how many seconds a deployment is tried."""

    def __init__(self, claim: Claim, control: Control, tools: Tools, *, retry_for: float) -> None:
        self._claim = claim
        self._control = control
        self._retries = tools.retries
        self._clock = tools.clock
        self._retry_for = retry_for
        self._began = tools.clock.monotonic()

    def lasts(self) -> bool:
        """Whether there may be another attempt.

        What counts are the tries and the pauses between them, not the time in which nobody tried: a machine
        that was off in the meantime, a pause by a person, a clock that was set.
        """
        claim = self._claim
        retried = claim.attempts - claim.interruptions
        tried = claim.tried_for + sum(map(self._pause_after, range(retried)))
        if retried:  # else this is the first one
            tried += self._clock.monotonic() - self._began
        return tried < self._retry_for

    def pause(self) -> float:
        """Seconds until the next attempt."""
        return self._pause_after(self._claim.attempts) * random.uniform(0.8, 1.2)  # noqa: S311

    def _pause_after(self, attempts: int) -> float:
        return float(min(self._retries.first * 2 ** min(attempts, 6), self._retries.longest))

    def insist(self, act: Callable[[], None]) -> None:
        """Do what there is no other way than. A full disk, or a lock that is held, is waited for.

        Raises:
            Stopped: the worker has to let go.
        """
        latest = self._clock.monotonic() + self._retry_for
        delay = self._retries.first / 4
        while True:
            try:
                return act()
            except Exception as failure:
                self._control.check_halt()
                if not explain(failure).cause.is_retried or self._clock.monotonic() > latest:
                    raise
            if self._control.halt.wait(delay):
                self._control.check_halt()
            delay = min(delay * 2, self._retries.longest)
