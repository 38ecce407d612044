"""GitHub and GitHub Enterprise Server.

https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
"""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.application.ports import Headers
from fraisier.domain.errors import BadSignature
from fraisier.domain.push import Change, Push, RefKind, is_sha
from fraisier.git.changes import Event, Unfollowed, full_name, moved, names_of, sha_of, split_ref
from fraisier.git.headers import credential, event_of, single
from fraisier.git.payload import (
    Object,
    check_push,
    flag_of,
    json_text,
    label_of,
    object_of,
    parse_object,
    text_of,
)
from fraisier.git.shape import Documented, Shape, flags, numbers, texts
from fraisier.git.signatures import check_prefixed

EVENT, DELIVERY, SIGNATURE = "x-github-event", "x-github-delivery", "x-hub-signature-256"
OLD_SIGNATURE = "x-hub-signature"

# Gitea, Forgejo and Gogs send X-GitHub-Event beside their own; these come from GitHub alone.
_OF_OTHERS = frozenset({"x-gitea-event", "x-forgejo-event", "x-gogs-event"})
_ONLY_HERE = frozenset({"x-github-hook-id", "x-github-enterprise-host", "x-github-enterprise-version"})

_PERSON = texts("name email username date")
_COMMIT: Shape = {
    **texts("id tree_id message timestamp url"),
    **flags("distinct"),
    "author": _PERSON,
    "committer": _PERSON,
    "added": [str],
    "removed": [str],
    "modified": [str],
}
_ACCOUNT: Shape = {
    **texts(
        "login name email node_id avatar_url gravatar_id url html_url followers_url following_url gists_url"
        " starred_url subscriptions_url organizations_url repos_url events_url received_events_url type"
        " user_view_type"
    ),
    **numbers("id"),
    **flags("site_admin"),
}
_REPOSITORY: Shape = {
    **texts(
        "node_id name full_name html_url description url forks_url keys_url collaborators_url teams_url"
        " hooks_url issue_events_url events_url assignees_url branches_url tags_url blobs_url"
        " git_tags_url git_refs_url trees_url statuses_url languages_url stargazers_url contributors_url"
        " subscribers_url subscription_url commits_url git_commits_url comments_url issue_comment_url"
        " contents_url compare_url merges_url archive_url downloads_url issues_url pulls_url"
        " milestones_url notifications_url labels_url releases_url deployments_url git_url ssh_url"
        " clone_url svn_url homepage language mirror_url visibility default_branch master_branch"
        " organization pull_request_creation_policy"
    ),
    **numbers(
        "id size stargazers_count watchers_count forks_count open_issues_count forks open_issues watchers"
        " stargazers"
    ),
    **flags(
        "fork has_issues has_projects has_downloads has_wiki has_pages has_discussions has_pull_requests"
        " archived disabled allow_forking is_template web_commit_signoff_required"
    ),
    "private": (bool, int),  # 1 in pushes before 2012
    # Seconds in most pushes, ISO 8601 in others.
    "created_at": (int, str),
    "updated_at": (int, str),
    "pushed_at": (int, str),
    "owner": _ACCOUNT,
    "license": texts("key name spdx_id url node_id"),
    "topics": [str],
    "custom_properties": dict,
}
_SHAPE = Documented(
    {
        **texts("ref before after base_ref compare"),
        **flags("created deleted forced"),
        "repository": _REPOSITORY,
        "pusher": _PERSON,
        "sender": _ACCOUNT,
        "organization": {
            **texts(
                "login node_id url repos_url events_url hooks_url issues_url members_url public_members_url"
                " avatar_url description"
            ),
            **numbers("id"),
        },
        "enterprise": {
            **texts("slug name node_id avatar_url description website_url html_url created_at updated_at"),
            **numbers("id"),
        },
        "installation": {**texts("node_id"), **numbers("id")},
        "commits": [_COMMIT],
        "head_commit": _COMMIT,
    }
)


class GitHub:
    """Deliveries of GitHub, signed in X-Hub-Signature-256 over the raw body, form or JSON."""

    kind = "github"
    signature_header = "X-Hub-Signature-256"

    def recognises(self, headers: Headers) -> bool:
        """Whether the headers are GitHub's own, not the copies that Gitea and its kin send."""
        names = headers.keys()
        if not names.isdisjoint(_ONLY_HERE):
            return True
        return EVENT in names and names.isdisjoint(_OF_OTHERS)

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:  # noqa: ARG002
        """See `Forge.verify`. The SHA-1 signature of old is never enough."""
        if SIGNATURE not in headers and credential(headers, OLD_SIGNATURE):
            raise BadSignature(
                "cannot verify the delivery: it is signed with SHA-1 only",
                "Let the forge, or the proxy before Fraisier, send X-Hub-Signature-256",
            )
        check_prefixed(headers, SIGNATURE, body, secrets)

    def parse(self, headers: Headers, body: bytes) -> Push:
        """See `Forge.parse`. `create` and `delete` come in addition to `push` and are left aside."""
        event = Event(forge=self.kind, type=event_of(headers, EVENT), delivery_id=single(headers, DELIVERY))
        return told_by(event, json_text(headers, body), _SHAPE)


def told_by(event: Event, text: bytes, documented: Documented) -> Push:
    """What the JSON `text` of an event tells, in the words that GitHub, Gitea, Forgejo and Gogs share.

    `documented` has the types of a push's fields (`check_push`).

    Raises:
        MalformedDelivery: it is no object, or a push that is not as documented.
    """
    payload = parse_object(text)
    if event.type == "ping":
        return event.ping(names_of(payload, _repository, _sender))
    if event.type != "push":
        return event.other(names_of(payload, _repository, _sender))
    check_push(text, payload, documented)
    return event.push(
        repository=_repository(payload),
        sender=_sender(payload),
        moves=[_change(payload)],
    )


def _change(payload: Object) -> Change | Unfollowed:
    ref = text_of(payload, "ref")
    split = split_ref(ref)
    if split is None:
        return Unfollowed(ref)
    kind, name = split
    before, after = sha_of(payload, "before"), sha_of(payload, "after")
    return moved(
        Change(
            kind=kind,
            name=name,
            before=before,
            after=after,
            commit=_commit(payload, after) if kind is RefKind.tag else after,
            created=flag_of(payload, "created") or False,
            deleted=flag_of(payload, "deleted") or False,
            forced=flag_of(payload, "forced") or False,
        )
    )


def _commit(payload: Object, after: str) -> str:
    """What a tag points to: of an annotated one `after` is the tag's own object."""
    head = sha_of(object_of(payload, "head_commit"), "id")
    return head if is_sha(head) else after


def _repository(payload: Object) -> str:
    return full_name(object_of(payload, "repository"))


def _sender(payload: Object) -> str:
    """Who pushed: the login of `sender`, else of `pusher`; '' if neither is told."""
    return label_of(object_of(payload, "sender"), "login", "username") or label_of(
        object_of(payload, "pusher"), "login", "username", "name"
    )
