"""Gitea, Forgejo and Gogs: one family, told apart only by the names of their headers.

https://docs.gitea.com/usage/webhooks, https://forgejo.org/docs/latest/user/webhooks/
"""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.application.ports import Headers
from fraisier.domain.errors import DeliveryRefused
from fraisier.domain.push import Push
from fraisier.git.changes import Event
from fraisier.git.github import told_by
from fraisier.git.headers import event_of, first
from fraisier.git.payload import form_payload, is_form, json_text
from fraisier.git.signatures import check_prefixed, is_signed, mismatch, present, usable

# The youngest first: each sends the headers of those that it descends from, too.
_FAMILY = ("forgejo", "gitea", "gogs")
_EVENTS = tuple(f"x-{name}-event" for name in _FAMILY)
_DELIVERIES = tuple(f"x-{name}-delivery" for name in _FAMILY)
_SIGNATURES = tuple(f"x-{name}-signature" for name in _FAMILY)
_GITHUBS_SIGNATURE = "x-hub-signature-256"
_SHAPE = {"commits": list, "head_commit": dict, "compare_url": str, "pusher": dict, "sender": dict}


class Gitea:
    """Deliveries of Gitea, Forgejo and Gogs."""

    kind = "gitea"
    signature_header = "X-Gitea-Signature"

    def recognises(self, headers: Headers) -> bool:
        """Whether one of the family's event headers was sent."""
        return not headers.keys().isdisjoint(_EVENTS)

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:  # noqa: ARG002
        """See `Forge.verify`. Of a form, either the body or the JSON inside may be what was signed."""
        keys = usable(secrets)
        name = next((name for name in _SIGNATURES if name in headers), None)
        if name is None:
            check_prefixed(headers, _GITHUBS_SIGNATURE, body, keys)
            return
        signature = present(headers, name)
        if not is_signed(signature, body, keys) and not _signs_inside(signature, headers, body, keys):
            raise mismatch()

    def parse(self, headers: Headers, body: bytes) -> Push:
        """See `Forge.parse`. A branch's deletion is a `delete` event, a tag's a push to the zero name."""
        event = Event(
            forge=self.kind, type=event_of(headers, *_EVENTS), delivery_id=first(headers, *_DELIVERIES)
        )
        return told_by(event, json_text(headers, body), _SHAPE)


def _signs_inside(signature: bytes, headers: Headers, body: bytes, secrets: Sequence[bytes]) -> bool:
    try:
        return is_form(headers) and is_signed(signature, form_payload(body), secrets)
    except DeliveryRefused:
        return False
