"""Bitbucket Server and Data Center, and the "post webhooks" plugin that speaks the Cloud's dialect there.

https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html
"""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.application.ports import Headers
from fraisier.domain.push import Change, Push, RefKind
from fraisier.git.bitbucket import EVENT, PUSH, SIGNATURE, is_cloud, moves_of
from fraisier.git.changes import Event, Unfollowed, moved, names_of, sha_of, split_ref, typed_ref
from fraisier.git.headers import event_of, first
from fraisier.git.payload import (
    Object,
    check_push,
    first_text,
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

_DELIVERIES = ("x-request-id", "x-request-uuid")
_PING, _PLUGINS_PUSH = "diagnostics:ping", "repo:push"
_PUSHES = ("repo:refs_changed", "mirror:repo_synchronized")
_LIMIT_EXCEEDED = "no_changes: more refs were synchronised than the mirror tells"

_LINK = texts("href name")
_LINKS: Shape = {"self": [_LINK, None], "clone": [_LINK]}  # `"self": [null]` where it knows no address
_ACCOUNT: Shape = {
    **texts("name emailAddress displayName slug type username nickname display_name"),
    **numbers("id"),
    **flags("active"),
    "links": _LINKS,
}
_PARENT: Shape = {
    **texts("id displayId message"),
    "author": _ACCOUNT,
    "committer": _ACCOUNT,
    # Milliseconds; ISO 8601 from Data Center 10 on.
    "authorTimestamp": (int, str),
    "committerTimestamp": (int, str),
}
_COMMIT: Shape = {**_PARENT, "parents": [_PARENT]}
_REPOSITORY: Shape = {
    **texts("slug name fullName full_name ownerName hierarchyId scmId state statusMessage description"),
    **numbers("id"),
    **flags("forkable public archived"),
    "project": {
        **texts("key name type description"),
        **numbers("id"),
        **flags("public"),
        "owner": _ACCOUNT,
        "links": _LINKS,
    },
    "owner": _ACCOUNT,
    "origin": dict,
    "links": _LINKS,
}
_SHAPE = Documented(
    {
        **texts("eventKey date syncType"),
        **flags("refLimitExceeded"),
        **numbers("refLimit"),
        "actor": _ACCOUNT,
        "mirrorServer": texts("id name"),
        "repository": _REPOSITORY,
        "changes": [
            {
                **texts("refId fromHash toHash type"),
                "ref": texts("id displayId type latestCommit latestChangeset"),
            }
        ],
        "commits": [_COMMIT],
        "toCommit": _COMMIT,
    }
)
# The plugin writes links as a server does, or as the Cloud does: a list here, an object there.
_PLUGINS_SHAPE = Documented(
    {
        **flags("refLimitExceeded"),
        "actor": {**_ACCOUNT, "links": dict},
        "repository": {
            **_REPOSITORY,
            "project": {**texts("key name type description"), **numbers("id"), **flags("public")},
            "owner": {**_ACCOUNT, "links": dict},
            "links": dict,
        },
        "push": PUSH,
    }
)


class BitbucketServer:
    """Deliveries of Bitbucket Server and Data Center."""

    kind = "bitbucket_server"
    signature_header = "X-Hub-Signature"

    def recognises(self, headers: Headers) -> bool:
        """Whether the headers are a server's, not the Cloud's."""
        return EVENT in headers and not is_cloud(headers)

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:  # noqa: ARG002
        """See `Forge.verify`."""
        check_prefixed(headers, SIGNATURE, body, secrets)

    def parse(self, headers: Headers, body: bytes) -> Push:
        """See `Forge.parse`. A push may carry several refs, or none."""
        event = Event(
            forge=self.kind, type=event_of(headers, EVENT), delivery_id=first(headers, *_DELIVERIES)
        )
        text = json_text(headers, body)
        payload = parse_object(text)
        if event.type == _PING:
            return event.ping(names_of(payload, _subject, _sender))
        if event.type != _PLUGINS_PUSH and event.type not in _PUSHES:
            return event.other(names_of(payload, _subject, _sender))
        plugins = event.type == _PLUGINS_PUSH
        check_push(text, payload, _PLUGINS_SHAPE if plugins else _SHAPE)
        return event.push(
            repository=_repository(object_of(payload, "repository")),
            sender=_sender(payload),
            moves=moves_of(payload) if plugins else [_move(each) for each in objects_of(payload, "changes")],
            empty=_LIMIT_EXCEEDED if flag_of(payload, "refLimitExceeded") else "no_changes",
        )


def _sender(payload: Object) -> str:
    return label_of(object_of(payload, "actor"), "name", "username", "slug", "displayName")


def _subject(payload: Object) -> str:
    """The repository of an event that is no push: pull requests name the one that they go to."""
    to = object_of(object_of(payload, "pullRequest"), "toRef")
    return _repository(object_of(payload, "repository") or object_of(to, "repository"))


def _repository(repository: Object) -> str:
    """`PROJECT/slug`, or `~user/slug` of a personal one."""
    project, slug = text_of(object_of(repository, "project"), "key"), text_of(repository, "slug")
    return f"{project}/{slug}" if project and slug else first_text(repository, "fullName", "full_name")


def _move(change: Object) -> Change | Unfollowed:
    ref = _ref(change)
    if isinstance(ref, Unfollowed):
        return ref
    after, what = sha_of(change, "toHash"), text_of(change, "type")
    return moved(
        Change(
            kind=ref[0],
            name=ref[1],
            before=sha_of(change, "fromHash"),
            after=after,
            commit=after,
            created=what == "ADD",
            deleted=what == "DELETE",
        )
    )


def _ref(change: Object) -> tuple[RefKind, str] | Unfollowed:
    told = object_of(change, "ref")
    full = text_of(told, "id") or text_of(change, "refId")
    if full:
        return split_ref(full) or Unfollowed(full)
    return typed_ref(text_of(told, "type").lower(), text_of(told, "displayId"))
