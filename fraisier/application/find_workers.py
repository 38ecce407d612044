"""Tells which deployments wait in vain: no worker lives that may take them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fraisier.application.ports import Row, Store
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.labels import as_options, in_words, may_take


@dataclass(frozen=True, slots=True)
class Lack:
    """Why nobody performs a deployment, or would perform one, and what to do."""

    reason: str
    hint: str


class FindWorkers:
    """Looks at the workers that live, once, when it is made."""

    def __init__(self, store: Store) -> None:
        self._store = store
        living = store.live_workers()
        self._workers = [labels_of(row) for row in living if not row["info"].get("only")]
        self._performed_alone = {row["info"]["only"] for row in living if row["info"].get("only")}

    def lack(self, labels: Collection[str]) -> Lack | None:
        """Why no live worker takes what wants these labels; None: one does."""
        if any(may_take(has, labels) for has in self._workers):
            return None
        if labels:
            start = f"Start `fraisier worker {as_options(labels)}` on the machine where it lives"
            return Lack(f"no live worker has the labels {in_words(labels)}", start)
        if self._workers:
            hint = "Give the environment `labels:`, or start `fraisier worker` without --label where it lives"
            return Lack("every live worker has labels, and the environment names none", hint)
        return Lack("no worker lives", "Start `fraisier serve` or `fraisier worker` to perform it")

    def lack_of(self, deployment: str) -> Lack | None:
        """Why nobody goes on with this deployment; None: somebody does, or it has ended."""
        return next((self._lack_of(row) for row in self._store.unfinished() if row["id"] == deployment), None)

    def waiting_in_vain(self) -> dict[EnvironmentKey, Lack]:
        """Every environment with a deployment that nobody takes."""
        found = {}
        for row in self._store.unfinished():
            if (lack := self._lack_of(row)) is not None:
                found[EnvironmentKey(row["fraise_id"], row["environment"])] = lack
        return found

    def _lack_of(self, row: Row) -> Lack | None:
        return None if row["id"] in self._performed_alone else self.lack(row["labels"])


def whole_workers(store: Store) -> Sequence[Row]:
    """The live workers that take whatever comes: one that a person's command is, for the one deployment or
    run that it waits for, does not.
    """
    return [row for row in store.live_workers() if not row["info"].get("only")]


def is_eldest(store: Store, worker: str, digest: str) -> bool:
    """Whether a worker is the one that does what one does for all: the eldest whole one that lives and has
    this configuration. One with another would do nothing, and keep the rest from it.

    Two for a moment do no harm.
    """
    living = [
        (row["started_at"], row["id"]) for row in whole_workers(store) if row["info"].get("digest") == digest
    ]
    return bool(living) and min(living)[1] == worker


def labels_of(worker: Row) -> Sequence[str]:
    """The labels that a worker registered with; one of an older version has none."""
    labels: Sequence[str] = worker["info"].get("labels", ())
    return labels
