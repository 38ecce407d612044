"""Names for what the store makes: uuids, made without the cost of Python's `uuid` module."""

from __future__ import annotations

import os
import re

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def time_ordered_uuid(seconds: float) -> str:
    """A version 7 uuid of a Unix time: sorts by it, so that an index grows at its end (RFC 9562)."""
    text = f"{int(seconds * 1000) & 0xFFFFFFFFFFFF:012x}{os.urandom(10).hex()}"
    return f"{text[:8]}-{text[8:12]}-7{text[13:16]}-a{text[17:20]}-{text[20:]}"


def random_uuid() -> str:
    """A version 4 uuid. Deployments have these: people type their first digits."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def is_uuid(text: str) -> bool:
    """Whether it is one as we write them."""
    return _ID.fullmatch(text) is not None
