"""Deliveries and wishes become deployments: the hot path of the store.

A batch reads the state of all environments that it concerns with one statement, decides in Python
(`domain.deployment.decide`), where later items see what earlier ones decided, and writes one multi-row
statement per table.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from fraisier.application.ports import Delivery, Received, Requested
from fraisier.database.clocks import iso
from fraisier.database.sqlite_deployments import SUPERSEDED_HINT, deployment_rows, insert_deployments
from fraisier.database.sqlite_transaction import Transaction, as_json
from fraisier.domain.deployment import Deployment, Status, Trigger, Wish, decide
from fraisier.domain.errors import Cause, NotFound
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.push import Change, EventKind

# All that a batch has to know, as one row of two JSON texts: each row, and each statement, would be a
# hand-over of Python's lock. CROSS JOIN is how SQLite is told the order: one look into the index per
# delivery, never a walk through a forge's events.
#
# First the deliveries that are stored already, of {forge: {delivery id: position}}. Then, of a list of
# [fraise, environment], the state that wishes are decided on: the newest deployment that is not
# superseded, found by one look into the index per status, and all that wait.
_READ = """
SELECT (SELECT json_group_array(json_array(d.value, v.id))
          FROM json_each(:deliveries) f
         CROSS JOIN json_each(f.value) d
         CROSS JOIN tb_webhook_events v ON v.forge = f.key AND v.delivery_id = d.key AND v.delivery_id <> ''),
       (SELECT json_group_array(json_array(e.fraise, e.name, e.seen_tip, json(e.quarantine),
                 (SELECT json_array(n.id, n.status, n.trigger, n."commit", n.requested_at)
                    FROM tb_deployments n
                   WHERE n.pk = (SELECT max((SELECT d.pk FROM tb_deployments d
                                              WHERE d.fraise = e.fraise AND d.environment = e.name
                                                AND d.status = s.column1
                                              ORDER BY d.pk DESC LIMIT 1))
                                   FROM (VALUES ('pending'), ('running'), ('success'), ('failed'),
                                                ('rolled_back'), ('rollback_failed'), ('cancelled')) s)),
                 (SELECT json_group_array(json_array(p.id, p.status, p.trigger, p."commit", p.requested_at))
                    FROM tb_deployments p
                   WHERE p.fraise = e.fraise AND p.environment = e.name AND p.status = 'pending')))
          FROM json_each(:keys) k
         CROSS JOIN tb_environments e ON e.fraise = json_extract(k.value, '$[0]')
                                     AND e.name = json_extract(k.value, '$[1]') AND e.published)
"""

_INSERT_EVENT = """
INSERT INTO tb_webhook_events (id, forge, delivery_id, type, repository, ref, before, after, changes, sender,
    remote, received_at, verdict, reason, deployments, payload_digest, payload_bytes, payload)
"""
_EVENT_WIDTH = 18

# From a list of [id, id of the newer one].
_SUPERSEDE = """
UPDATE tb_deployments
   SET status = 'superseded', completed_at = :at, cause = 'superseded', hint = :hint,
       error_message = 'superseded by the newer deployment ' || json_extract(:newer, '$."' || id || '"')
 WHERE status = 'pending' AND id IN (SELECT key FROM json_each(:newer))
"""

# From a list of [fraise, environment, seen_tip, quarantine].
_REMEMBER = """
UPDATE tb_environments
   SET seen_tip = json_extract(k.value, '$[2]'), quarantine = json_extract(k.value, '$[3]')
  FROM json_each(?) k
 WHERE fraise = json_extract(k.value, '$[0]') AND name = json_extract(k.value, '$[1]')
"""

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

_ENVIRONMENT_NAMES = "SELECT fraise || '/' || name FROM tb_environments WHERE published ORDER BY 1 LIMIT 50"


_SMALL = 32 * 1024  # bytes


class PreparedDelivery:
    """A delivery with all that can be made of it before the lock is taken."""

    __slots__ = ("changes", "delivery", "digest", "event_id", "first", "payload")

    def __init__(self, delivery: Delivery) -> None:
        changes = delivery.push.changes
        self.delivery = delivery
        self.event_id = time_ordered_uuid(delivery.received_at)
        self.digest = hashlib.sha256(delivery.payload).hexdigest()
        self.payload = _compressed(delivery.payload)
        self.first = changes[0] if changes else None
        self.changes = orjson.dumps([_change_row(each) for each in changes]).decode() if changes else "[]"


def prepared_early(delivery: Delivery) -> Delivery | PreparedDelivery:
    """Prepared in the caller's thread where that is quick.

    Hashing and compressing let go of Python's lock and take it back. The writer would have to wait for
    it at each delivery while an event loop is busy; a busy loop gets it back from a waiting writer at once.
    """
    return delivery if len(delivery.payload) > _SMALL else PreparedDelivery(delivery)


def prepared(item: Delivery | PreparedDelivery) -> PreparedDelivery:
    """A delivery, prepared if it was not yet."""
    return item if isinstance(item, PreparedDelivery) else PreparedDelivery(item)


def _compressed(payload: bytes) -> bytes:
    """Raw deflate (RFC 1951), read by `zlib.decompress(payload, -15)`.

    The digest beside it makes zlib's checksum superfluous, which costs as much as the compression of some
    payloads; setting up the usual 32 KiB window costs more than 10 KB of text.
    """
    window = 15 if len(payload) > _SMALL else 13
    stream = zlib.compressobj(1, zlib.DEFLATED, -window, 6)
    return stream.compress(payload) + stream.flush()


def _change_row(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind.value,
        "name": change.name,
        "before": change.before,
        "after": change.after,
        "commit": change.commit,
        "created": change.created,
        "deleted": change.deleted,
        "forced": change.forced,
    }


def time_ordered_uuid(seconds: float) -> str:
    """A version 7 uuid: sorts by time, so that an index grows at its end (RFC 9562)."""
    text = f"{int(seconds * 1000) & 0xFFFFFFFFFFFF:012x}{os.urandom(10).hex()}"
    return f"{text[:8]}-{text[8:12]}-7{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _random_uuid() -> str:
    """A version 4 uuid. Deployments have these: people type their first digits."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


class _Known:
    """An earlier deployment of an environment, as much of it as deciding needs."""

    __slots__ = ("commit", "id", "requested_at", "status", "trigger")

    def __init__(self, values: Sequence[str]) -> None:
        self.id, self.status, self.trigger, self.commit, self.requested_at = values


class _Place:
    """What is known of one environment while a batch is decided."""

    __slots__ = ("changed", "key", "newest", "pending", "quarantine", "seen_tip")

    def __init__(self, values: Sequence[Any]) -> None:
        fraise, environment, self.seen_tip, quarantine, newest, pending = values
        self.key = EnvironmentKey(fraise, environment)
        self.quarantine: dict[str, Any] = quarantine
        self.newest = _Known(newest) if newest else None
        self.pending = [_Known(each) for each in pending]
        self.changed = False

    def remember(self, wish: Wish) -> None:
        """The tip that was decided on, and that a person insists on a commit."""
        if wish.tip and wish.tip != self.seen_tip:
            self.seen_tip, self.changed = wish.tip, True
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
        asked = {"deliveries": orjson.dumps(firsts or {}).decode(), "keys": as_json(keys)}
        known, places = tx.execute(_READ, asked).fetchone()
        self.known: dict[int, str] = dict(orjson.loads(known))
        self._places = {(row[0], row[1]): _Place(row) for row in orjson.loads(places)}
        self._new: dict[str, Deployment] = {}
        self._superseded: dict[str, str] = {}  # stored ones: id -> the newer one
        self._replaced: dict[str, str] = {}  # the same, of this batch: they are stored with their end
        self._rollbacks: list[Deployment] = []

    def place(self, wish: Wish) -> _Place | None:
        """The environment that the wish is about; None where none is published."""
        return self._places.get((wish.environment.fraise, wish.environment.environment))

    def decide(self, wish: Wish, place: _Place, *, event_id: str) -> Requested:
        """What becomes of the wish; nothing is written yet."""
        quarantined, refused = place.bars(wish.commit)
        decision = decide(wish, place.newest, place.pending, quarantined=quarantined, refused=refused)
        place.remember(wish)
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

    def _supersede(self, place: _Place, earlier: _Known, newer: str) -> None:
        Status.pending.check(Status.superseded)
        if earlier.id in self._new:
            self._replaced[earlier.id] = newer
            return
        self._superseded[earlier.id] = newer
        at = (place.key.fraise, place.key.environment)
        self._tx.count_deployment(at, earlier.requested_at, "pending", -1)
        self._tx.count_deployment(at, earlier.requested_at, "superseded", 1)

    def store(self, events: Sequence[tuple[Any, ...]] = ()) -> None:
        """Write the events, the deployments, and what the environments remember."""
        tx = self._tx
        changed = [place for place in self._places.values() if place.changed]
        memory = as_json(_memory(place) for place in changed)
        rows = deployment_rows(tx, self._new.values(), self._replaced)
        tx.locked_at = time.monotonic()
        tx.insert(_INSERT_EVENT, _EVENT_WIDTH, events)
        insert_deployments(tx, rows)
        if self._superseded:
            newer = orjson.dumps(self._superseded).decode()
            tx.execute(_SUPERSEDE, {"at": tx.at, "newer": newer, "hint": SUPERSEDED_HINT})
        for rollback in self._rollbacks:
            where = {"fraise": rollback.environment.fraise, "environment": rollback.environment.environment}
            tx.execute(_STOP_FOR_ROLLBACK, {"by": rollback.requested_by or "rollback", **where})
        if changed:
            tx.execute(_REMEMBER, (memory,))
        tx.wakes = tx.wakes or bool(rows)


def _memory(place: _Place) -> tuple[str, str, str, str]:
    quarantine = orjson.dumps(place.quarantine).decode()
    return (place.key.fraise, place.key.environment, place.seen_tip, quarantine)


def _deployment(wish: Wish, key: EnvironmentKey, *, event_id: str, now: float) -> Deployment:
    return Deployment(
        id=_random_uuid(),
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
    )


# ------------------------------------------------------------------------------------------- deliveries


def record_all(tx: Transaction, deliveries: Sequence[PreparedDelivery]) -> list[Received]:
    """Store a batch of deliveries and what they ask for; each delivery id of a forge once."""
    firsts, repeats = _firsts(deliveries)
    deciding = Deciding(tx, (wish for each in deliveries for wish in each.delivery.wishes), firsts)
    known = deciding.known
    known.update((position, known.get(first, deliveries[first].event_id)) for position, first in repeats)
    rows: list[tuple[Any, ...]] = []
    answers: list[Received] = []
    for position, each in enumerate(deliveries):
        if position in known:
            answers.append(Received(event_id=known[position], status="duplicate", reason="duplicate"))
            continue
        received = _receive(deciding, each)
        answers.append(received)
        rows.append(_event_row(each, received))
    tx.count("events.duplicate", len(known))
    deciding.store(rows)
    return answers


def _firsts(deliveries: Sequence[PreparedDelivery]) -> tuple[Firsts, list[tuple[int, int]]]:
    """Where each delivery id comes first in the batch, and the positions where one comes again."""
    firsts: Firsts = {}
    repeats: list[tuple[int, int]] = []
    for position, each in enumerate(deliveries):
        push = each.delivery.push
        if push.delivery_id:  # an empty one names no delivery
            first = firsts.setdefault(push.forge, {}).setdefault(push.delivery_id, position)
            if first != position:
                repeats.append((position, first))
    return firsts, repeats


def _receive(deciding: Deciding, prepared: PreparedDelivery) -> Received:
    delivery = prepared.delivery
    deployments: list[Deployment] = []
    superseded: list[str] = []
    reason = delivery.reason
    for wish in delivery.wishes:
        place = deciding.place(wish)
        if place is None:
            reason = reason or "not_published"
            continue
        requested = deciding.decide(wish, place, event_id=prepared.event_id)
        if requested.deployment is not None:
            deployments.append(requested.deployment)
        superseded.extend(requested.superseded)
        reason = reason or requested.reason
    status = "accepted" if deployments else "pong" if delivery.push.kind is EventKind.ping else "ignored"
    return Received(
        event_id=prepared.event_id,
        status=status,
        reason="" if deployments else reason or delivery.push.reason,
        deployments=tuple(deployments),
        superseded=tuple(superseded),
    )


def _event_row(prepared: PreparedDelivery, received: Received) -> tuple[Any, ...]:
    delivery, first = prepared.delivery, prepared.first
    push = delivery.push
    return (
        prepared.event_id,
        push.forge,
        push.delivery_id,
        push.type,
        push.repository,
        first.ref if first else "",
        first.before if first else "",
        first.after if first else "",
        prepared.changes,
        push.sender,
        delivery.remote,
        iso(delivery.received_at),
        received.status,
        received.reason,
        len(received.deployments),
        prepared.digest,
        len(delivery.payload),
        prepared.payload,
    )


# ----------------------------------------------------------------------------------------------- wishes


def request(tx: Transaction, wish: Wish) -> Requested:
    """Decide on one wish and store what follows.

    Raises:
        NotFound: no such environment is published.
    """
    deciding = Deciding(tx, (wish,))
    place = deciding.place(wish)
    if place is None:
        raise _unknown_environment(tx, wish.environment)
    requested = deciding.decide(wish, place, event_id=wish.event_id)
    deciding.store()
    if requested.deployment is not None and wish.requested_by:
        detail = {"environment": str(wish.environment), "commit": wish.commit, "trigger": wish.trigger}
        tx.audit(actor=wish.requested_by, action="request", subject=requested.deployment.id, detail=detail)
    return requested


def _unknown_environment(tx: Transaction, key: EnvironmentKey) -> NotFound:
    names = ", ".join(row[0] for row in tx.execute(_ENVIRONMENT_NAMES))
    hint = (
        f"Known are {names}. See `fraisier list`"
        if names
        else "Start `fraisier serve` to publish fraises.yaml"
    )
    return NotFound(f"cannot find the environment {key}", hint)
