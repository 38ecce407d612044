"""A brand of git forge: what a delivery is verified and read with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fraisier.domain.push import Push

Headers = Mapping[str, tuple[bytes, ...]]  # lower-case name -> every value that was sent, in order


class Forge(Protocol):
    """One brand of git forge: recognise, verify, parse. Pure functions of bytes: no I/O, no clock."""

    kind: str

    def recognises(self, headers: Headers) -> bool:
        """Whether a delivery with these headers comes from this brand."""
        ...

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:
        """Return if any of `secrets` signed the raw `body`. `now` is Unix time, seconds.

        Raises:
            BadSignature: none did, or there is none, or the header is missing, doubled or no ASCII.
        """
        ...

    def parse(self, headers: Headers, body: bytes) -> Push:
        """The delivery in our words. Called only after `verify`.

        Raises:
            MalformedDelivery: it is not what the vendor documents.
            UnsupportedMediaType: the content type is none that the vendor sends.
        """
        ...
