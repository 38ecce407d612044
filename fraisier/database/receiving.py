"""Receiving and requesting: a batch of deliveries, or one wish, is stored with what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fraisier.application.ports import Received, Requested
from fraisier.database.deciding import Deciding, Firsts
from fraisier.database.event_rows import event_row
from fraisier.database.prepared_delivery import PreparedDelivery
from fraisier.database.transaction import Transaction
from fraisier.domain.deployment import Deployment, Wish
from fraisier.domain.errors import NotFound
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.push import EventKind

_ENVIRONMENT_NAMES = "SELECT fraise || '/' || name FROM tb_environments WHERE published ORDER BY 1 LIMIT 50"


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
        rows.append(event_row(each, received))
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
