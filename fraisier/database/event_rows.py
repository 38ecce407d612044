"""Rows of tb_webhook_events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fraisier.application.ports import Received
from fraisier.database.clocks import iso
from fraisier.database.prepared_delivery import PreparedDelivery
from fraisier.database.transaction import Transaction

_INSERT_EVENT = """
INSERT INTO tb_webhook_events (id, forge, delivery_id, type, repository, ref, before, after, changes, sender,
    remote, received_at, verdict, reason, deployments, payload_digest, payload_bytes, payload)
"""
_EVENT_WIDTH = 18


def insert_events(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows of `event_row`."""
    tx.insert(_INSERT_EVENT, _EVENT_WIDTH, rows)


def event_row(prepared: PreparedDelivery, received: Received) -> tuple[Any, ...]:
    """What `insert_events` writes of a delivery and of what became of it."""
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
