"""Follow a run from anywhere: its row, and what it prints, until it has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fraisier.application.ports import Row, Store
from fraisier.domain.run import RunStatus

PAGE = 1000  # pieces of output that are read at once


@dataclass(frozen=True, slots=True)
class RunGlimpse:
    """What is there now: the run's row, and what it has printed since the last glimpse."""

    run: Row
    text: str

    @property
    def status(self) -> RunStatus:
        """The run's status."""
        return RunStatus(self.run["status"])


class FollowRun:
    """Yields a glimpse whenever something changed; the last one shows the run's end.

    The store wakes us for all but output, which is looked for every `poll` seconds.
    """

    def __init__(self, store: Store, *, poll: float = 0.15) -> None:
        self._store = store
        self._poll = poll

    def __call__(self, run: str, *, attend: Callable[[], None] | None = None) -> Iterator[RunGlimpse]:
        """Follow the run with this id. `attend` is called between two looks and may raise, to end it.

        Raises:
            NotFound: there is no such run.
        """
        changed = threading.Event()
        unsubscribe = self._store.subscribe(changed.set)
        after, seen = 0, ""
        try:
            while True:
                # The row first: all that was written before the end is then read below.
                row = self._store.run(run)
                text, after = self._output(row["id"], after)
                glimpse = RunGlimpse(row, text)
                if text or row["status"] != seen or glimpse.status.is_final:
                    seen = row["status"]
                    yield glimpse
                if glimpse.status.is_final:
                    return
                if attend is not None:
                    attend()
                changed.wait(self._poll)
                changed.clear()
        finally:
            unsubscribe()

    def _output(self, run: str, after: int) -> tuple[str, int]:
        found: list[str] = []
        while page := self._store.run_output(run, after=after, limit=PAGE):
            found += [text for _, text in page]
            after = page[-1][0]
        return "".join(found), after
