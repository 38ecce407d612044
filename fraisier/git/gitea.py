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
from fraisier.git.shape import Documented, Shape, flags, numbers, texts
from fraisier.git.signatures import check_prefixed, is_signed, mismatch, present, usable

# The youngest first: each sends the headers of those that it descends from, too.
_FAMILY = ("forgejo", "gitea", "gogs")
_EVENTS = tuple(f"x-{name}-event" for name in _FAMILY)
_DELIVERIES = tuple(f"x-{name}-delivery" for name in _FAMILY)
_SIGNATURES = tuple(f"x-{name}-signature" for name in _FAMILY)
_GITHUBS_SIGNATURE = "x-hub-signature-256"

_PERSON = texts("name email username")
_COMMIT: Shape = {
    **texts("id message url timestamp"),
    "author": _PERSON,
    "committer": _PERSON,
    "verification": {**flags("verified"), **texts("reason signature payload"), "signer": _PERSON},
    "added": [str],
    "removed": [str],
    "modified": [str],
}
_ACCOUNT: Shape = {
    **texts(
        "login login_name full_name email avatar_url html_url language last_login created location pronouns"
        " website description visibility username name"
    ),
    **numbers("id source_id followers_count following_count starred_repos_count"),
    **flags("is_admin restricted active prohibit_login"),
}
_REPOSITORY: Shape = {
    **texts(
        "name full_name description language languages_url html_url url link ssh_url clone_url original_url"
        " website default_branch created_at updated_at archived_at default_merge_style avatar_url"
        " mirror_interval object_format_name mirror_updated default_update_style wiki_branch"
        " projects_mode"
    ),
    **numbers(
        "id size stars_count forks_count watchers_count open_issues_count open_pr_counter release_counter"
        " watchers"
    ),
    **flags(
        "empty private fork template mirror archived has_issues has_wiki has_pull_requests has_projects"
        " has_releases has_packages has_actions has_code ignore_whitespace_conflicts allow_merge_commits"
        " allow_rebase allow_rebase_explicit allow_squash_merge allow_fast_forward_only_merge"
        " allow_rebase_update allow_manual_merge autodetect_manual_merge default_delete_branch_after_merge"
        " default_allow_maintainer_edit internal globally_editable_wiki wiki_clone"
    ),
    "owner": _ACCOUNT,
    "parent": dict,
    "permissions": flags("admin push pull"),
    "internal_tracker": flags(
        "enable_time_tracker allow_only_contributors_to_track_time enable_issue_dependencies"
    ),
    "external_tracker": texts(
        "external_tracker_url external_tracker_format external_tracker_style external_tracker_regexp_pattern"
    ),
    "external_wiki": texts("external_wiki_url"),
    "repo_transfer": dict,
    "topics": [str],
    "licenses": [str],
}
_SHAPE = Documented(
    {
        **texts("secret ref before after compare_url"),
        **flags("created deleted forced"),  # of the family's kin; `told_by` reads them
        **numbers("total_commits"),
        "commits": [_COMMIT],
        "head_commit": _COMMIT,
        "repository": _REPOSITORY,
        "pusher": _ACCOUNT,
        "sender": _ACCOUNT,
    }
)


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
