"""All that can be made of a delivery before the database is asked: id, digest, compressed payload."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import orjson

from fraisier.application.ports import Delivery
from fraisier.database.uuids import time_ordered_uuid
from fraisier.domain.push import Change

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
