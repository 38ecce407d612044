"""Somebody who asks the demo's service all the time, and remembers what was answered when."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

INTERVAL = 0.05  # seconds between two visits
PATIENCE = 2.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class Visit:
    """One request. `at` and `until` are monotonic seconds; `status` 0 means that nobody answered."""

    at: float
    until: float
    status: int
    text: str

    @property
    def good(self) -> bool:
        """Whether a visitor got what was wanted."""
        return self.status == http.client.OK


@dataclass(frozen=True, slots=True)
class Visits:
    """What a visitor noticed during a while."""

    all: Sequence[Visit]

    @property
    def unanswered(self) -> int:
        """How many were answered by nobody."""
        return sum(visit.status == 0 for visit in self.all)

    @property
    def wrong(self) -> int:
        """How many were answered with an error."""
        return sum(visit.status != 0 and not visit.good for visit in self.all)

    @property
    def away(self) -> float:
        """Seconds during which the service was no use: from each first bad visit to the next good one."""
        total, since = 0.0, None
        for visit in self.all:
            if not visit.good and since is None:
                since = visit.at
            if visit.good and since is not None:
                total += visit.at - since
                since = None
        return total + (self.all[-1].until - since if since is not None else 0.0)


def visit(port: int) -> Visit:
    """Ask the service once."""
    at = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        text = answer.read(4096).decode("utf-8", "replace").strip()
        return Visit(at, time.monotonic(), answer.status, text)
    except (OSError, http.client.HTTPException) as error:
        return Visit(at, time.monotonic(), 0, str(error) or type(error).__name__)
    finally:
        connection.close()


class Visitor:
    """Visits in a thread of its own until it is stopped."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._visits: list[Visit] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_round, name="demo-visitor", daemon=True)

    def start(self) -> None:
        """Begin to visit."""
        self._thread.start()

    def stop(self) -> None:
        """Return when the last visit is over."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def forget(self) -> None:
        """Begin a new while."""
        self._visits = []

    def visits(self) -> Visits:
        """What was noticed since the last `forget`."""
        return Visits(tuple(self._visits))

    def _go_round(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._visits.append(visit(self._port))
