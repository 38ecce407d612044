"""Follow a deployment from anywhere: its row, its steps and its output, until it has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fraisier.application.ports import Output, Row, Store
from fraisier.domain.deployment import Status

PAGE = 1000  # pieces of output that are read at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """What is there now: the deployment's row, all its steps, and the output since the last glimpse."""

    deployment: Row
    steps: Sequence[Row]
    output: Sequence[Output]

    @property
    def status(self) -> Status:
        """The deployment's status."""
        return Status(self.deployment["status"])


class FollowDeployment:
    """Yields a glimpse whenever something changed; the last one shows the deployment's end.

    The store wakes us for all but output, which is looked for every `poll` seconds.
    """

    def __init__(self, store: Store, *, poll: float = 0.15) -> None:
        self._store = store
        self._poll = poll

    def __call__(
        self, deployment: str, *, after: int = 0, attend: Callable[[], None] | None = None
    ) -> Iterator[Glimpse]:
        """Follow the deployment with this id, with output from `after` on.

        `attend` is called between two looks and may raise, to end the waiting.

        Raises:
            NotFound: there is no such deployment.
        """
        changed = threading.Event()
        unsubscribe = self._store.subscribe(changed.set)
        try:
            for glimpse in self._glimpses(deployment, after):
                if glimpse is not None:
                    yield glimpse
                    if glimpse.status.is_final:
                        return
                if attend is not None:
                    attend()
                changed.wait(self._poll)
                changed.clear()
        finally:
            unsubscribe()

    def _glimpses(self, deployment: str, after: int) -> Iterator[Glimpse | None]:
        """One look each, for ever; None where nothing is new."""
        seen: tuple[Any, ...] = ()
        while True:
            glimpse = self._look(deployment, after)
            present = (glimpse.deployment, glimpse.steps)
            new = glimpse.output or present != seen
            yield glimpse if new or glimpse.status.is_final else None
            seen = present
            after = glimpse.output[-1].seq if glimpse.output else after

    def _look(self, deployment: str, after: int) -> Glimpse:
        # The row first: all that was written before the end is then read below.
        row = dict(self._store.deployment(deployment))
        steps = [dict(step) for step in self._store.steps(row["id"])]
        return Glimpse(deployment=row, steps=steps, output=self._output(row["id"], after))

    def _output(self, deployment: str, after: int) -> list[Output]:
        found: list[Output] = []
        while True:
            page = self._store.output(deployment, after=after, limit=PAGE)
            found += page
            if len(page) < PAGE:
                return found
            after = page[-1].seq
