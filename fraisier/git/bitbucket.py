"""Bitbucket Cloud.

https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/#Push
"""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.application.ports import Headers
from fraisier.domain.errors import MalformedDelivery
from fraisier.domain.push import Change, Push
from fraisier.git.changes import Event, Unfollowed, moved, names_of, sha_of, typed_ref
from fraisier.git.headers import event_of, single
from fraisier.git.payload import (
    Object,
    check_push,
    flag_of,
    json_text,
    label_of,
    object_of,
    objects_of,
    parse_object,
    text_of,
)
from fraisier.git.shape import Documented, Shape, flags, numbers, texts
from fraisier.git.signatures import check_prefixed

EVENT, SIGNATURE = "x-event-key", "x-hub-signature"  # SHA-256, under the name that is SHA-1 at GitHub
_DELIVERY = "x-request-uuid"
_PUSH = "repo:push"

_ONLY_CLOUD = ("x-hook-uuid", _DELIVERY, "x-attempt-number")
_ONLY_SERVER = "x-bitbucket-type"  # of the "post webhooks" plugin
_SERVER_ID = "x-request-id"  # also added by many proxies, so it decides last
_SERVER_EVENTS = ("repo:refs_changed", "repo:modified", "repo:forked", "repo:comment:", "repo:secret_")
_SERVER_FAMILIES = ("pr:", "mirror:", "diagnostics:", "project:modified")

_LINK = texts("href name")
_LINKS: Shape = {
    **dict.fromkeys(("self", "html", "avatar", "commits", "diff", "patch", "approve", "comments"), _LINK),
    **dict.fromkeys(("statuses", "repositories", "branches", "tags", "pullrequest_create"), _LINK),
}
_ACCOUNT: Shape = {
    **texts("type uuid username nickname display_name account_id account_status kind created_on"),
    "links": _LINKS,
}
_RENDERED = texts("type raw markup html")
_PERSON: Shape = {**texts("type raw"), "user": _ACCOUNT}
_COMMIT: Shape = {
    **texts("type hash date message"),
    **texts("commitMessage"),  # of the server's plugin, see `moves_of`
    "author": _PERSON,
    "committer": _PERSON,
    "rendered": {"message": _RENDERED},
    "summary": _RENDERED,
    "parents": [{**texts("type hash"), "links": _LINKS}],
    "links": _LINKS,
    "properties": dict,
}
_REF: Shape = {
    **texts("type name message date default_merge_strategy"),
    "target": _COMMIT,
    "links": _LINKS,
    "tagger": _PERSON,
    "merge_strategies": [str],
    "sync_strategies": [str],
}
PUSH: Shape = {
    "changes": [
        {
            **flags("created closed forced truncated"),
            "old": _REF,
            "new": _REF,
            "commits": [_COMMIT],
            "links": _LINKS,
        }
    ]
}
_SHAPE = Documented(
    {
        "push": PUSH,
        "actor": _ACCOUNT,
        "repository": {
            **texts(
                "type uuid name full_name slug scm website language description fork_policy created_on"
                " updated_on"
            ),
            **numbers("size"),
            **flags("is_private has_issues has_wiki"),
            "links": _LINKS,
            "owner": _ACCOUNT,
            "project": {
                **texts("type uuid key name description created_on updated_on"),
                **flags("is_private has_publicly_visible_repos"),
                "links": _LINKS,
            },
            "workspace": {**texts("type uuid name slug"), **flags("is_private"), "links": _LINKS},
            "mainbranch": texts("type name"),
            "parent": dict,
        },
    }
)


def is_cloud(headers: Headers) -> bool:
    """Whether a delivery with X-Event-Key comes from the Cloud; from a server otherwise.

    Both products send X-Event-Key and X-Hub-Signature. Some events are of one product only; for the
    others the id headers decide.
    """
    if _ONLY_SERVER in headers:
        return False
    event = b"".join(headers.get(EVENT, ())[:1]).decode("latin-1").strip()
    if event.startswith(_SERVER_EVENTS + _SERVER_FAMILIES):
        return False
    return any(name in headers for name in _ONLY_CLOUD) or _SERVER_ID not in headers


class Bitbucket:
    """Deliveries of Bitbucket Cloud."""

    kind = "bitbucket"
    signature_header = "X-Hub-Signature"

    def recognises(self, headers: Headers) -> bool:
        """Whether the headers are the Cloud's, not a server's."""
        return EVENT in headers and is_cloud(headers)

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:  # noqa: ARG002
        """See `Forge.verify`. X-Hook-UUID is no secret and proves nothing."""
        check_prefixed(headers, SIGNATURE, body, secrets)

    def parse(self, headers: Headers, body: bytes) -> Push:
        """See `Forge.parse`. One push may carry several refs, or none."""
        event = Event(forge=self.kind, type=event_of(headers, EVENT), delivery_id=single(headers, _DELIVERY))
        text = json_text(headers, body)
        payload = parse_object(text)
        if event.type != _PUSH:
            return event.other(names_of(payload, _repository, _sender))
        check_push(text, payload, _SHAPE)
        return event.push(repository=_repository(payload), sender=_sender(payload), moves=moves_of(payload))


def _repository(payload: Object) -> str:
    return text_of(object_of(payload, "repository"), "full_name")


def _sender(payload: Object) -> str:
    return label_of(object_of(payload, "actor"), "username", "nickname", "display_name")


def moves_of(payload: Object) -> list[Change | Unfollowed]:
    """The refs of a `repo:push`, of the Cloud or of the plugin that speaks its dialect on a server.

    Raises:
        MalformedDelivery: a field that is used is not as documented.
    """
    return [_move(change) for change in objects_of(object_of(payload, "push"), "changes")]


def _move(change: Object) -> Change | Unfollowed:
    old, new = object_of(change, "old"), object_of(change, "new")
    told = new or old
    if not told:
        raise MalformedDelivery(
            "cannot read the delivery: a change tells neither the old nor the new ref",
            "Send what the forge documents",
        )
    ref = typed_ref(text_of(told, "type"), text_of(told, "name"))
    if isinstance(ref, Unfollowed):
        return ref
    after = sha_of(object_of(new, "target"), "hash")
    return moved(
        Change(
            kind=ref[0],
            name=ref[1],
            before=sha_of(object_of(old, "target"), "hash"),
            after=after,
            commit=after,
            created=not old,
            deleted=not new,
            forced=flag_of(change, "forced") or False,
        )
    )
