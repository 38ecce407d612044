"""Reading headers of a delivery: one value each, short, printable ASCII."""

from __future__ import annotations

from fraisier.application.ports import Headers
from fraisier.domain.errors import BadSignature, MalformedDelivery

LONGEST_VALUE = 200  # characters of an event name or a delivery id; vendors' are under 64
LONGEST_SIGNATURE = 2048  # bytes; GitLab may send several signatures in one header


def single(headers: Headers, name: str) -> str:
    """The value of a header, '' if it was not sent. `name` is in lower case.

    Raises:
        MalformedDelivery: it was sent with several values, is too long or is not printable ASCII.
    """
    values = headers.get(name)
    if not values:
        return ""
    if len(values) > 1 and len(set(values)) > 1:
        raise MalformedDelivery(
            f"cannot read the header {name}: it was sent with several values",
            "A proxy between the forge and Fraisier may add it a second time",
        )
    value = values[0].decode("latin-1").strip()
    if len(value) > LONGEST_VALUE or not (value.isascii() and value.isprintable()):
        raise MalformedDelivery(
            f"cannot read the header {name}: longer than {LONGEST_VALUE} characters or no printable ASCII",
            "Send what the forge documents",
        )
    return value


def first(headers: Headers, *names: str) -> str:
    """The value of the first of these headers that was sent and is not empty, else ''.

    Raises:
        MalformedDelivery: as `single`.
    """
    for name in names:
        value = single(headers, name)
        if value:
            return value
    return ""


def event_of(headers: Headers, *names: str) -> str:
    """The forge's word for what happened.

    Raises:
        MalformedDelivery: as `single`, or none of the headers was sent.
    """
    found = first(headers, *names)
    if not found:
        raise MalformedDelivery(
            f"cannot tell what happened: the header {names[0]} is missing", "Send the forge's own headers"
        )
    return found


def credential(headers: Headers, name: str) -> bytes | None:
    """The raw value of a header that authenticates, None if it was not sent.

    Raises:
        BadSignature: it was sent more than once, or is absurdly long.
    """
    values = headers.get(name)
    if not values:
        return None
    if len(values) > 1:
        raise BadSignature(
            f"cannot verify the delivery: the header {name} was sent {len(values)} times",
            "A proxy between the forge and Fraisier may add it a second time",
        )
    if len(values[0]) > LONGEST_SIGNATURE:
        raise BadSignature(
            f"cannot verify the delivery: the header {name} is too long", "Send the forge's own"
        )
    return values[0].strip()
