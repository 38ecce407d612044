"""Wishes become deployments: a batch of them is read, decided on and written with a few statements.

The state of all environments that a batch concerns is read with one statement. Python decides
(`domain.deployment.decide`), where later wishes see what earlier ones decided, and one multi-row statement
per table writes what follows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from fraisier.application.ports import Requested
from fraisier.application.ports.news import News
from fraisier.database.deployment_rows import SUPERSEDED_HINT, deployment_rows, insert_deployments
from fraisier.database.event_rows import insert_events
from fraisier.database.transaction import Transaction, as_json
from fraisier.database.uuids import random_uuid
from fraisier.domain.deployment import UNSEEN_TIP, Deployment, Status, Trigger, Wish, decide, unseen_tip
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import EnvironmentKey

# A rollback stops what runs, unless that has begun to change what is served.
_STOP_FOR_ROLLBACK = """
UPDATE tb_deployments
   SET cancel_requested_by = :by
 WHERE fraise = :fraise AND environment = :environment AND status = 'running' AND cancel_requested_by = ''
   AND NOT EXISTS (
       SELECT 1 FROM tb_deployment_steps s
        WHERE s.deployment = tb_deployments.id
          AND (s.phase = 'rollback'
               OR s.step IN ('migrate', 'activate', 'restart', 'check_health', 'finish')))
"""


class _Known:
    """An earlier deployment of an environment, as much of it as deciding needs."""

    __slots__ = ("commit", "id", "requested_at", "status", "trigger")

    def __init__(self, values: Sequence[str]) -> None:
        self.id, self.status, self.trigger, self.commit, self.requested_at = values


class Place:
    """What is known of one environment while a batch is decided."""

    __slots__ = ("changed", "key", "newest", "pending", "quarantine", "seen_tip")

    def __init__(self, values: Sequence[Any]) -> None:
        fraise, environment, self.seen_tip, quarantine, newest, pending = values
        self.key = EnvironmentKey(fraise, environment)
        self.quarantine: dict[str, Any] = quarantine
        self.newest = _Known(newest) if newest else None
        self.pending = [_Known(each) for each in pending]
        self.changed = False

    def remember(self, wish: Wish, now: float) -> None:
        """The tip that was decided on, and that a person insists on a commit."""
        tip = wish.new_seen_tip
        if tip == UNSEEN_TIP:
            tip = unseen_tip(self.seen_tip, now)
        if tip and tip != self.seen_tip:
            self.seen_tip, self.changed = tip, True
        if wish.force and self.quarantine.pop(wish.commit, None) is not None:
            self.changed = True

    def bars(self, commit: str) -> tuple[bool, bool]:
        """Whether the commit is quarantined, whether it was refused."""
        entry = self.quarantine.get(commit)
        refused = entry is not None and entry.get("cause") == Cause.force_push_refused
        return entry is not None and not refused, refused


Firsts = dict[str, dict[str, int]]  # forge -> delivery id -> position in the batch


class Deciding:
    """Decides on wishes one after the other, and stores all that follows at once.

    Up to `store` nothing is written, so the writer need not hold the lock. `known` has the deliveries that
    were stored earlier: position -> id of the event.
    """

    def __init__(self, tx: Transaction, wishes: Iterable[Wish], firsts: Firsts | None = None) -> None:
        self._tx = tx
        keys = {(wish.environment.fraise, wish.environment.environment) for wish in wishes}
        tx.lock(keys)
        asked = {"deliveries": orjson.dumps(firsts or {}).decode(), "keys": as_json(keys)}
        known, places = tx.execute(tx.sql.read_places, asked).fetchone()
        self.known: dict[int, str] = dict(orjson.loads(known))
        self._places = {(row[0], row[1]): Place(row) for row in orjson.loads(places)}
        self._new: dict[str, Deployment] = {}
        self._superseded: dict[str, str] = {}  # stored ones: id -> the newer one
        self._replaced: dict[str, str] = {}  # the same, of this batch: they are stored with their end
        self._rollbacks: list[Deployment] = []

    def place(self, wish: Wish) -> Place | None:
        """The environment that the wish is about; None where none is published."""
        return self._places.get((wish.environment.fraise, wish.environment.environment))

    def decide(self, wish: Wish, place: Place, *, event_id: str) -> Requested:
        """What becomes of the wish; nothing is written yet."""
        if wish.is_void(place.seen_tip):
            return Requested(deployment=None, reason="decided_meanwhile")
        if wish.only_notes:
            place.remember(wish, self._tx.now)
            return Requested(deployment=None, reason="tip_noted")
        quarantined, refused = place.bars(wish.commit)
        decision = decide(wish, place.newest, place.pending, quarantined=quarantined, refused=refused)
        place.remember(wish, self._tx.now)
        if not decision.requested:
            return Requested(deployment=None, reason=decision.reason)
        deployment = _deployment(wish, place.key, event_id=event_id, now=self._tx.now)
        for earlier in place.pending:
            if earlier.id in decision.superseded:
                self._supersede(place, earlier, deployment.id)
        place.pending = [each for each in place.pending if each.id not in decision.superseded]
        known = _Known((deployment.id, "pending", wish.trigger, wish.commit, self._tx.at))
        place.newest = known
        place.pending.append(known)
        self._new[deployment.id] = deployment
        if deployment.trigger is Trigger.rollback:
            self._rollbacks.append(deployment)
        return Requested(deployment=deployment, superseded=decision.superseded)

    def _supersede(self, place: Place, earlier: _Known, newer: str) -> None:
        Status.pending.check(Status.superseded)
        if earlier.id in self._new:
            self._replaced[earlier.id] = newer
            return
        self._superseded[earlier.id] = newer
        at = (place.key.fraise, place.key.environment)
        self._tx.count_deployment(at, earlier.requested_at, "pending", -1)
        self._tx.count_deployment(at, earlier.requested_at, "superseded", 1)

    def store(self, events: Sequence[tuple[Any, ...]] = ()) -> None:
        """Write the events (rows of `event_row`), the deployments, and what the environments remember."""
        tx = self._tx
        changed = [place for place in self._places.values() if place.changed]
        memory = as_json(_memory(place) for place in changed)
        rows = deployment_rows(tx, self._new.values(), self._replaced)
        tx.locked_at = time.monotonic()
        insert_events(tx, events)
        insert_deployments(tx, rows)
        if self._superseded:
            newer = orjson.dumps(self._superseded).decode()
            tx.beside(tx.sql.supersede, (tx.at, SUPERSEDED_HINT, newer, newer))
        for rollback in self._rollbacks:
            where = {"fraise": rollback.environment.fraise, "environment": rollback.environment.environment}
            tx.later(_STOP_FOR_ROLLBACK, {"by": rollback.requested_by or "rollback", **where})
        if changed:
            tx.beside(tx.sql.remember, (memory,))
        if any(place.seen_tip.startswith(UNSEEN_TIP) for place in changed):
            tx.tell(News.work)  # whoever sweeps is to ask for it soon
        tx.tell(News.request if rows else News.nothing)


def _memory(place: Place) -> tuple[str, str, str, str]:
    quarantine = orjson.dumps(place.quarantine).decode()
    return (place.key.fraise, place.key.environment, place.seen_tip, quarantine)


def _deployment(wish: Wish, key: EnvironmentKey, *, event_id: str, now: float) -> Deployment:
    return Deployment(
        id=random_uuid(),
        environment=key,
        ref=wish.ref,
        commit=wish.commit,
        status=Status.pending,
        trigger=wish.trigger,
        requested_by=wish.requested_by,
        requested_at=now,
        force=wish.force,
        event_id=event_id,
        release=wish.release,
        with_database=wish.with_database,
    )
