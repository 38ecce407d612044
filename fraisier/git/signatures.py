"""Comparing what a delivery brings as proof with the secrets that are configured.

Everything is compared as bytes in constant time: `hmac.compare_digest` raises on `str` with non-ASCII
characters, which would be an error that anybody can cause from outside.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from fraisier.application.ports import Headers
from fraisier.domain.errors import BadSignature
from fraisier.git.headers import credential

SHA256 = b"sha256="


def usable(secrets: Sequence[bytes]) -> Sequence[bytes]:
    """The secrets that are not empty.

    Raises:
        BadSignature: none is; without a secret nothing is let in.
    """
    found = [secret for secret in secrets if secret]
    if not found:
        raise BadSignature(
            "cannot verify the delivery: no secret is configured for this forge",
            "Set the same secret in the forge's webhook and under `git:` in fraises.yaml",
        )
    return found


def present(headers: Headers, name: str) -> bytes:
    """The header that authenticates.

    Raises:
        BadSignature: it is missing, empty, or was sent more than once.
    """
    value = credential(headers, name)
    if not value:
        raise BadSignature(
            f"cannot verify the delivery: the header {name} is missing or empty",
            "Set a secret in the forge's webhook; without one the forge signs nothing",
        )
    return value


def is_signed(signature: bytes, body: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether `signature`, in hexadecimal, is the HMAC-SHA256 of `body` with one of `secrets`."""
    given = signature.lower()
    for secret in secrets:
        if hmac.compare_digest(given, hmac.digest(secret, body, "sha256").hex().encode()):
            return True
    return False


def check_prefixed(headers: Headers, name: str, body: bytes, secrets: Sequence[bytes]) -> None:
    """Return if the header is `sha256=<hex>` of the raw body.

    Raises:
        BadSignature: it is not.
    """
    keys = usable(secrets)
    value = present(headers, name)
    if not value.startswith(SHA256):
        raise BadSignature(
            f"cannot verify the delivery: the header {name} does not begin with sha256=",
            "Only HMAC-SHA256 is accepted",
        )
    if not is_signed(value[len(SHA256) :], body, keys):
        raise mismatch()


def mismatch() -> BadSignature:
    """The refusal of a proof that fits no secret."""
    return BadSignature(
        "cannot verify the delivery: it is signed with none of the configured secrets",
        "Compare the secret in the forge's webhook with the one in fraises.yaml",
    )
