"""GitLab: project, group and system hooks, with a secret token or (19.0 and newer) a signing token.

https://docs.gitlab.com/user/project/integrations/webhook_events/
https://docs.gitlab.com/user/project/integrations/webhooks/
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from fraisier.application.ports import Headers
from fraisier.domain.errors import BadSignature
from fraisier.domain.push import Change, Push, is_sha
from fraisier.git.changes import Event, Unfollowed, moved, names_of, sha_of, split_ref
from fraisier.git.headers import event_of, first, single
from fraisier.git.payload import (
    Object,
    check_push,
    first_text,
    json_text,
    label_of,
    object_of,
    parse_object,
    text_of,
)
from fraisier.git.shape import Documented, flags, numbers, texts
from fraisier.git.signatures import mismatch, present, usable

EVENT, TOKEN = "x-gitlab-event", "x-gitlab-token"
SIGNATURE, MESSAGE_ID, TIMESTAMP = "webhook-signature", "webhook-id", "webhook-timestamp"
SIGNING_TOKEN = b"whsec_"  # secrets that begin so are signing tokens, all others plain ones
TOLERANCE = 300.0  # seconds that a signed timestamp may be off, either way
MOST_SIGNATURES = 16

_VERSION = b"v1,"
_PUSHES = ("push", "tag_push")
_SYSTEM_HOOK = "System Hook"
# What a hook sends where the payload does not say so: pushes of old have no object_kind.
_HOOKS = {"Push Hook": "push", "Tag Push Hook": "tag_push", _SYSTEM_HOOK: _SYSTEM_HOOK}
_SHAPE = Documented(
    {
        **texts(
            "object_kind event_name before after ref checkout_sha message user_name user_username user_email"
            " user_avatar"
        ),
        **flags("ref_protected"),
        **numbers("user_id project_id total_commits_count"),
        "push_options": (dict, list),  # a list before 11.10
        "project": {
            **texts(
                "name description web_url avatar_url git_ssh_url git_http_url namespace path_with_namespace"
                " default_branch ci_config_path homepage url ssh_url http_url"
            ),
            **numbers("id visibility_level"),
        },
        "repository": {
            **texts("name url description homepage git_http_url git_ssh_url"),
            **numbers("visibility_level"),
        },
        "commits": [
            {
                **texts("id message title timestamp url"),
                "author": texts("name email"),
                "added": [str],
                "modified": [str],
                "removed": [str],
            }
        ],
    }
)
_URLS = ("git_http_url", "git_ssh_url", "homepage", "url")


class GitLab:
    """Deliveries of GitLab."""

    kind = "gitlab"
    signature_header = "X-Gitlab-Token"  # or webhook-signature, where a signing token is configured

    def recognises(self, headers: Headers) -> bool:
        """Whether one of GitLab's own headers was sent."""
        return EVENT in headers or TOKEN in headers

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:
        """See `Forge.verify`. Where a signature was sent the token counts for nothing."""
        keys = usable(secrets)
        if SIGNATURE in headers:
            _verify_signature(headers, body, keys, now)
        else:
            _verify_token(headers, keys)

    def parse(self, headers: Headers, body: bytes) -> Push:
        """See `Forge.parse`. Of system hooks only `push` and `tag_push` are pushes."""
        event = Event(forge=self.kind, type=event_of(headers, EVENT), delivery_id=_delivery_id(headers, body))
        text = json_text(headers, body)
        payload = parse_object(text)
        if event.type not in _HOOKS:
            return event.other(names_of(payload, _repository, _who))
        what = first_text(payload, "object_kind", "event_name") or _HOOKS[event.type]
        if what not in _PUSHES and event.type == _SYSTEM_HOOK:
            return event.other(names_of(payload, _repository, _who), what)
        check_push(text, payload, _SHAPE)
        if what not in _PUSHES:
            return event.other(names_of(payload, _repository, _who), what)
        return event.push(repository=_repository(payload), sender=_pusher(payload), moves=[_move(payload)])


def _verify_token(headers: Headers, secrets: Sequence[bytes]) -> None:
    plain = [secret for secret in secrets if not secret.startswith(SIGNING_TOKEN)]
    if not plain:
        raise BadSignature(
            "cannot verify the delivery: only signing tokens are configured and it is not signed",
            "Set the signing token in GitLab's webhook (19.0 and newer), or configure a secret token",
        )
    token = present(headers, TOKEN)
    if not any(hmac.compare_digest(token, secret) for secret in plain):
        raise mismatch()


def _verify_signature(headers: Headers, body: bytes, secrets: Sequence[bytes], now: float) -> None:
    """Standard Webhooks: `v1,<base64>` of HMAC-SHA256 over `id.timestamp.body`, several by spaces."""
    message_id, timestamp = present(headers, MESSAGE_ID), present(headers, TIMESTAMP)
    _check_timestamp(timestamp, now)
    given = [
        part[len(_VERSION) :] for part in present(headers, SIGNATURE).split() if part.startswith(_VERSION)
    ]
    keys = list(_signing_keys(secrets))
    if not keys:
        raise BadSignature(
            "cannot verify the delivery: it is signed and no signing token is configured",
            "Configure GitLab's signing token, which begins with whsec_",
        )
    for key in keys:
        code = hmac.new(key, b"%b.%b." % (message_id, timestamp), "sha256")
        code.update(body)
        expected = base64.b64encode(code.digest())
        if any(hmac.compare_digest(signature, expected) for signature in given[:MOST_SIGNATURES]):
            return
    raise mismatch()


def _check_timestamp(timestamp: bytes, now: float) -> None:
    if not timestamp.isdigit() or len(timestamp) > len("9999999999") or abs(now - int(timestamp)) > TOLERANCE:
        raise BadSignature(
            "cannot verify the delivery: its timestamp is more than 5 minutes off, or is none",
            "Compare the clocks of this machine and of GitLab",
        )


def _signing_keys(secrets: Iterable[bytes]) -> Iterable[bytes]:
    for secret in secrets:
        if secret.startswith(SIGNING_TOKEN):
            try:
                key = base64.b64decode(secret.removeprefix(SIGNING_TOKEN), validate=True)
            except binascii.Error:
                continue  # no signing token of GitLab's after all: it can sign nothing
            if key:
                yield key


def _delivery_id(headers: Headers, body: bytes) -> str:
    """What stays the same when a delivery is repeated, '' if nothing does.

    GitLab gives webhook-id and Idempotency-Key the same value; the former is signed. Older versions send
    neither: their event's UUID is shared by the events that follow from it, so it needs the body, too.
    """
    stable = (SIGNATURE in headers and single(headers, MESSAGE_ID)) or single(headers, "idempotency-key")
    if stable:
        return stable
    event = single(headers, "x-gitlab-event-uuid")
    if not event:
        return ""
    hook = first(headers, "x-gitlab-webhook-uuid")
    return hashlib.sha256(b"\0".join((hook.encode(), event.encode(), body))).hexdigest()


def _repository(payload: Object) -> str:
    """The path with all its groups. Pushes of old have no `project`: there it is in the URLs' paths."""
    told = text_of(object_of(payload, "project"), "path_with_namespace")
    if told:
        return told
    url = first_text(object_of(payload, "repository"), *_URLS)
    try:
        path = urlsplit(url).path if "://" in url else url.partition(":")[2]
    except ValueError:
        return ""
    return path.strip("/").removesuffix(".git")


def _pusher(payload: Object) -> str:
    return label_of(payload, "user_username", "user_name")


def _who(payload: Object) -> str:
    """Who caused an event that is no push: most of them have a `user`."""
    return label_of(object_of(payload, "user"), "username", "name") or _pusher(payload)


def _move(payload: Object) -> Change | Unfollowed:
    ref = text_of(payload, "ref")
    split = split_ref(ref)
    if split is None:
        return Unfollowed(ref)
    after, checkout = sha_of(payload, "after"), sha_of(payload, "checkout_sha")
    return moved(
        Change(
            kind=split[0],
            name=split[1],
            before=sha_of(payload, "before"),
            after=after,
            # Of an annotated tag `after` is the tag's own object; checkout_sha is the commit.
            commit=checkout if is_sha(checkout) else after,
        )
    )
