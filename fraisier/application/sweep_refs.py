"""Finds pushes that no webhook told: asks each repository where its branches are, and requests what is new.

What was decided on is read before the repository is asked, and goes with the wish: where a webhook is
faster, the wish is void.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event

from fraisier.application.ports import Clock, Configuration, Listener, Repository, Row, Store
from fraisier.application.routing import branches
from fraisier.domain.deployment import NO_TIP, UNSEEN_TIP, Trigger, Wish, decided_at, known_tip
from fraisier.domain.errors import NotFound, StepFailed
from fraisier.domain.fraise import EnvironmentKey, Source
from fraisier.domain.push import RefKind

LONGEST_BACKOFF = 3600.0  # seconds between two questions to a repository that does not answer
PROMPT = 60.0  # seconds after a person's decision in which the branch is taken to be where it was then
JITTER = 0.1  # of the interval, to both sides: installations that start together shall not ask together


@dataclass(slots=True)
class _Due:
    """When a repository is asked next. By either clock: one may jump back, the other stops in a suspend."""

    now: float
    monotonic: float
    failures: int = 0


class SweepRefs:
    """Call it again and again; it remembers which repository is due when. For one thread.

    Nothing was ever decided on in a new environment, so its branch differs from that, too. Whoever sets it up
    is about to push or to deploy: the sweep does not come before them, and asks at its second look.

    After a person's decision (a rollback, a commit that was named) nobody knows yet where the branch is. The
    look follows at once, and notes the tip: the decision is not undone. Where it could not, because no worker
    lived or the repository did not answer, a tip that is not the last known one is a push that came since.

    An environment that is routed from several branches, or that follows tags, has no single tip that could be
    compared: webhooks alone tell of its pushes.
    """

    def __init__(self, repository: Repository, store: Store, clock: Clock, listener: Listener) -> None:
        self._repository = repository
        self._store = store
        self._clock = clock
        self._listener = listener
        self._due: dict[Source, _Due] = {}
        self._known: set[EnvironmentKey] = set()  # was looked at before

    def __call__(self, configuration: Configuration, stop: Event) -> None:
        """Ask every repository that is due, one after the other, until `stop` is set.

        Raises:
            StoreUnavailable: the store cannot be asked, or written; who was not asked is still due.
        """
        interval = configuration.settings.sweep_interval
        if not interval:
            self._due.clear()
            return
        seen = {
            EnvironmentKey(row["fraise_id"], row["environment"]): row["seen_tip"]
            for row in self._store.fraise_status()
        }
        by_source = _followers(configuration)
        self._due = {source: due for source, due in self._due.items() if source in by_source}
        for source, followers in by_source.items():
            published = {key: branch for key, branch in followers.items() if key in seen}
            # After a person's decision the tip of that moment is to be known soon.
            hurry = any(seen[key].startswith(UNSEEN_TIP) for key in published)
            if stop.is_set() or not published or not self._is_due(source, hurry=hurry):
                continue
            try:
                self._ask(source, published, seen, stop)
            finally:  # also where what was found cannot be stored: nobody is asked all the time
                self._plan(source, interval)

    def note_tip(self, configuration: Configuration, key: EnvironmentKey, stop: Event) -> None:
        """After a person's decision, where no worker lives that looks: note where the branch is.

        Raises:
            StoreUnavailable: the store cannot be asked, or written.
        """
        for row in self._store.fraise_status(key.fraise, key.environment):
            seen = {key: str(row["seen_tip"])}
            for source, followers in _followers(configuration).items():
                if key in followers and seen[key].startswith(UNSEEN_TIP):
                    self._ask(source, {key: followers[key]}, seen, stop)

    @property
    def due_in(self) -> float:
        """Seconds until the next repository is due of those that were asked; for ever if none was."""
        moments = [due.monotonic for due in self._due.values()]
        return max(0.0, min(moments) - self._clock.monotonic()) if moments else math.inf

    def _is_due(self, source: Source, *, hurry: bool) -> bool:
        due = self._due.get(source)
        if due is None or (hurry and not due.failures):
            return True
        return self._clock.now() >= due.now or self._clock.monotonic() >= due.monotonic

    def _ask(
        self,
        source: Source,
        branch_of: Mapping[EnvironmentKey, str],
        seen: Mapping[EnvironmentKey, str],
        stop: Event,
    ) -> None:
        due = self._due.setdefault(source, _Due(0, 0))
        asked_at = self._clock.now()
        refs = {key: RefKind.branch.prefix + branch for key, branch in branch_of.items()}
        try:
            tips = self._repository.tips(source, sorted(set(refs.values())), stop=stop)
        except StepFailed as failure:
            due.failures += not stop.is_set()
            told = {"repository": source.repository, "error": failure.message, "hint": failure.hint}
            self._listener("sweep_failed", told)
            return
        due.failures = 0
        for key, ref in refs.items():
            tip = tips.get(ref, "")
            if not seen[key] and key not in self._known:
                self._known.add(key)
                continue
            notes = _only_notes(seen[key], tip or NO_TIP, asked_at)
            if not notes and tip in ("", seen[key]):
                continue
            self._request(
                Wish(
                    environment=key,
                    ref=ref,
                    trigger=Trigger.sweep,
                    commit=tip,
                    tip=tip or NO_TIP,
                    seen=seen[key],
                    only_notes=notes,
                )
            )

    def _request(self, wish: Wish) -> None:
        told: Row = {"environment": str(wish.environment), "ref": wish.ref, "commit": wish.commit}
        try:
            requested = self._store.request(wish)
        except NotFound:  # published no more
            return
        if requested.deployment is not None:
            self._listener("sweep_found", {**told, "deployment": requested.deployment.id})
        elif not wish.only_notes:
            self._listener("sweep_left", {**told, "reason": requested.reason})

    def _plan(self, source: Source, interval: float) -> None:
        due = self._due[source]
        pause = min(interval * 2 ** min(due.failures, 10), max(interval, LONGEST_BACKOFF))
        pause *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        due.now, due.monotonic = self._clock.now() + pause, self._clock.monotonic() + pause


def _only_notes(seen: str, tip: str, asked_at: float) -> bool:
    """Whether the tip is one that a person has decided on, though nobody knew it then."""
    if not seen.startswith(UNSEEN_TIP):
        return False
    if tip == NO_TIP or known_tip(seen) in ("", tip):
        return True
    return abs(asked_at - decided_at(seen)) <= PROMPT


def _followers(configuration: Configuration) -> Mapping[Source, Mapping[EnvironmentKey, str]]:
    """By repository: its environments that follow exactly one branch, and that branch."""
    found: dict[Source, dict[EnvironmentKey, str]] = defaultdict(dict)
    for key, followed in branches(configuration).items():
        environment = configuration.environments.get(key)
        if environment is not None and len(followed) == 1:
            found[environment.source][key] = next(iter(followed))
    return found
