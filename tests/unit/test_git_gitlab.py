"""GitLab: secret tokens, signing tokens, project and system hooks."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest

from fraisier.domain.errors import BadSignature, MalformedDelivery
from fraisier.domain.push import Change, EventKind, Push, RefKind
from fraisier.git.gitlab import GitLab
from tests.unit.signing import NOW, SECRET, SIGNING_TOKEN, SignedDelivery, fixture, sign

ZERO = "0" * 40


def verify(delivery: SignedDelivery, *secrets: bytes, now: float = NOW) -> None:
    GitLab().verify(delivery.raw_headers, delivery.body, secrets, now=now)


def parse(payload: Any, *, event: str = "Push Hook") -> Push:
    delivery = sign("gitlab", payload, event=event)
    return GitLab().parse(delivery.raw_headers, delivery.body)


def only(push: Push) -> Change:
    (change,) = push.changes
    return change


# ---------------------------------------------------------------------------------------- signatures


def test_the_secret_token_is_compared_whole() -> None:
    delivery = sign("gitlab", {})
    verify(delivery, b"another", SECRET)
    for wrong in (SECRET[:-1], SECRET + b"x", SECRET.lower(), b" "):
        with pytest.raises(BadSignature):
            verify(delivery, wrong)


def test_a_signed_delivery_verifies() -> None:
    verify(sign("gitlab_signed", fixture("gitlab"), SIGNING_TOKEN), b"plain", SIGNING_TOKEN)


def test_the_signature_is_over_id_timestamp_and_body() -> None:
    delivery = sign("gitlab_signed", {"a": 1}, SIGNING_TOKEN)
    changed = [
        delivery.with_headers(webhook_id="another"),
        delivery.with_headers(webhook_timestamp=str(int(NOW) + 1)),
        SignedDelivery(delivery.headers, b'{"a":2}'),
    ]
    for each in changed:
        with pytest.raises(BadSignature):
            verify(each, SIGNING_TOKEN)


def test_one_of_several_signatures_is_enough() -> None:
    delivery = sign("gitlab_signed", {}, SIGNING_TOKEN)
    good = delivery.headers["webhook-signature"]
    verify(delivery.with_headers(webhook_signature=f"v1,AAAA v1a,xyz {good}"), SIGNING_TOKEN)
    with pytest.raises(BadSignature):
        verify(delivery.with_headers(webhook_signature="v1,AAAA v2," + good[3:]), SIGNING_TOKEN)


def test_one_of_several_signing_tokens_is_enough() -> None:
    other = b"whsec_" + base64.b64encode(b"x" * 32)
    verify(sign("gitlab_signed", {}, SIGNING_TOKEN), other, b"whsec_no base64!", SIGNING_TOKEN)


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_a_timestamp_more_than_five_minutes_off_is_refused(seconds: float) -> None:
    delivery = sign("gitlab_signed", {}, SIGNING_TOKEN)
    verify(delivery, SIGNING_TOKEN, now=NOW + (300 if seconds > 0 else -300))
    with pytest.raises(BadSignature, match="5 minutes"):
        verify(delivery, SIGNING_TOKEN, now=NOW + seconds)


@pytest.mark.parametrize("stamp", ["", "now", "-1", "1e9", "9" * 4000, "١٢٣", "1790000000.0", "+1790000000"])
def test_a_timestamp_that_is_none_is_refused(stamp: str) -> None:
    with pytest.raises(BadSignature):
        verify(sign("gitlab_signed", {}, SIGNING_TOKEN).with_headers(webhook_timestamp=stamp), SIGNING_TOKEN)


@pytest.mark.parametrize("signature", ["v1,AAAA", "", " ", "v1,", "garbage"])
def test_where_a_signature_was_sent_the_token_counts_for_nothing(signature: str) -> None:
    signed = sign("gitlab_signed", {}, SIGNING_TOKEN)
    delivery = signed.with_headers(webhook_signature=signature, x_gitlab_token=SECRET.decode())
    with pytest.raises(BadSignature):
        verify(delivery, SECRET, SIGNING_TOKEN)


def test_a_signature_without_a_signing_token_to_check_it_is_refused() -> None:
    delivery = sign("gitlab_signed", {}, SIGNING_TOKEN).with_headers(x_gitlab_token=SECRET.decode())
    with pytest.raises(BadSignature, match="no signing token"):
        verify(delivery, SECRET)


def test_a_signing_token_is_no_plain_token() -> None:
    delivery = sign("gitlab", {}).with_headers(x_gitlab_token=SIGNING_TOKEN.decode())
    with pytest.raises(BadSignature):
        verify(delivery, SIGNING_TOKEN)
    with pytest.raises(BadSignature, match="only signing tokens"):
        verify(delivery.with_headers(x_gitlab_token=None), SIGNING_TOKEN)


def test_an_empty_signing_key_signs_nothing() -> None:
    delivery = sign("gitlab_signed", {}, SIGNING_TOKEN)
    signed = b"%b.%d.{}" % (delivery.headers["webhook-id"].encode(), int(NOW))
    forged = base64.b64encode(hmac.digest(b"", signed, "sha256")).decode()
    with pytest.raises(BadSignature):
        verify(delivery.with_headers(webhook_signature=f"v1,{forged}"), b"whsec_")


# -------------------------------------------------------------------------------------- delivery ids


def delivery_id(**headers: str | None) -> str:
    delivery = sign("gitlab", fixture("gitlab"), delivery_id="key-1").with_headers(**headers)
    return GitLab().parse(delivery.raw_headers, delivery.body).delivery_id


def test_the_idempotency_key_identifies_a_delivery() -> None:
    assert delivery_id() == "key-1"


def test_where_the_id_is_signed_it_counts_more() -> None:
    delivery = sign("gitlab_signed", fixture("gitlab"), SIGNING_TOKEN, delivery_id="signed-1")
    replayed = delivery.with_headers(idempotency_key="another")
    assert GitLab().parse(replayed.raw_headers, replayed.body).delivery_id == "signed-1"
    assert delivery_id(webhook_id="not signed") == "key-1"


def test_older_versions_are_identified_by_event_hook_and_body() -> None:
    first = delivery_id(idempotency_key=None)
    assert first == delivery_id(idempotency_key=None)
    assert first != delivery_id(idempotency_key=None, x_gitlab_event_uuid="another")
    assert first != delivery_id(idempotency_key=None, x_gitlab_webhook_uuid=None)
    other = sign("gitlab", fixture("gitlab_tag"), delivery_id="key-1").with_headers(idempotency_key=None)
    assert GitLab().parse(other.raw_headers, other.body).delivery_id != first


def test_where_nothing_identifies_a_delivery_it_has_no_id() -> None:
    assert delivery_id(idempotency_key=None, x_gitlab_event_uuid=None) == ""


# -------------------------------------------------------------------------------------------- pushes


def test_a_push_becomes_a_change_of_its_branch() -> None:
    payload = fixture("gitlab")
    push = parse(payload)
    assert (push.forge, push.type, push.kind) == ("gitlab", "Push Hook", EventKind.push)
    assert (push.repository, push.sender) == ("acme/backend/orders", "ada")
    assert only(push) == Change(
        kind=RefKind.branch,
        name="main",
        before=payload["before"],
        after=payload["after"],
        commit=payload["checkout_sha"],
    )


def test_a_new_branch_is_created() -> None:
    change = only(parse(fixture("gitlab_branch_create")))
    assert (change.name, change.created, bool(change.commit)) == ("feature/vat", True, True)


@pytest.mark.parametrize(
    ("name", "event"), [("gitlab_branch_delete", "Push Hook"), ("gitlab_tag_delete", "Tag Push Hook")]
)
def test_a_deletion_has_no_commit(name: str, event: str) -> None:
    payload = fixture(name)
    assert payload["checkout_sha"] is None
    change = only(parse(payload, event=event))
    assert (change.deleted, change.commit, change.after) == (True, "", ZERO)


def test_an_annotated_tags_commit_is_the_checkout_sha() -> None:
    payload = fixture("gitlab_tag")
    change = only(parse(payload, event="Tag Push Hook"))
    assert (change.kind, change.name, change.created) == (RefKind.tag, "v1.4.0", True)
    assert change.commit == payload["checkout_sha"] != payload["after"]


def test_a_checkout_sha_does_not_undo_a_deletion() -> None:
    payload = fixture("gitlab_branch_delete") | {"checkout_sha": "a" * 40}
    assert only(parse(payload)).commit == ""


def test_what_moved_is_told_by_the_ref_not_by_the_event() -> None:
    assert only(parse(fixture("gitlab_tag") | {"object_kind": "push"})).kind is RefKind.tag
    assert only(parse(fixture("gitlab") | {"object_kind": "tag_push"})).kind is RefKind.branch


def test_the_shape_of_old_is_still_a_push() -> None:
    payload = fixture("gitlab_old")
    assert "object_kind" not in payload
    assert "project" not in payload
    push = parse(payload)
    assert (push.repository, push.sender) == ("acme/backend/orders", "Ada Adams")
    assert only(push).commit == payload["after"]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("git@gitlab.example.com:a/b/c.git", "a/b/c"),
        ("ssh://git@gitlab.example.com:2222/a/b.git", "a/b"),
        ("https://gitlab.example.com/a/b", "a/b"),
        ("ssh://[::1/a/b.git", ""),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_without_a_project_the_path_is_in_the_repositorys_url(url: str, path: str) -> None:
    payload = fixture("gitlab_old") | {"repository": {"url": url}}
    if path:
        assert parse(payload).repository == path
    else:
        with pytest.raises(MalformedDelivery, match="repository"):
            parse(payload)


@pytest.mark.parametrize(
    ("name", "kind"), [("gitlab_system_push", RefKind.branch), ("gitlab_tag", RefKind.tag)]
)
def test_a_system_hook_carries_pushes_too(name: str, kind: RefKind) -> None:
    push = parse(fixture(name), event="System Hook")
    assert (push.kind, push.type, only(push).kind) == (EventKind.push, "System Hook", kind)


def test_what_system_hooks_send_beside_a_push_is_left_aside() -> None:
    push = parse(fixture("gitlab_system_repository_update"), event="System Hook")
    assert (push.kind, push.reason) == (EventKind.other, "event_not_a_push: repository_update")
    assert parse({"event_name": "user_create", "name": 7}, event="System Hook").kind is EventKind.other
    assert parse({}, event="System Hook").reason == "event_not_a_push: System Hook"


@pytest.mark.parametrize(
    "event", ["Merge Request Hook", "Pipeline Hook", "Note Hook", "Job Hook", "push", "Emoji Hook"]
)
def test_other_events_are_left_aside_with_a_reason(event: str) -> None:
    push = parse(fixture("gitlab_merge_request"), event=event)
    assert (push.kind, push.reason) == (EventKind.other, f"event_not_a_push: {event}")


def test_the_header_decides_that_an_event_is_no_push() -> None:
    assert parse(fixture("gitlab"), event="Note Hook").kind is EventKind.other


def test_notes_that_have_a_key_twice_as_gitlabs_do_are_left_aside_not_refused() -> None:
    assert parse(b'{"object_kind":"note","a":{"id":1,"id":1}}', event="Note Hook").kind is EventKind.other


@pytest.mark.parametrize("event", ["Push Hook", "System Hook"])
def test_a_push_that_has_a_key_twice_is_refused(event: str) -> None:
    with pytest.raises(MalformedDelivery, match="twice"):
        parse(b'{"object_kind":"note","object_kind":"push"}', event=event)


@pytest.mark.parametrize("ref", ["refs/merge-requests/1/head", "refs/keep-around/abc", "refs/environments/x"])
def test_refs_that_are_neither_branch_nor_tag_are_left_aside(ref: str) -> None:
    assert parse(fixture("gitlab") | {"ref": ref}).reason == f"ref_not_followed: {ref}"


@pytest.mark.parametrize(
    "changes",
    [
        {"project": {}, "repository": None},
        {"project": []},
        {"project": {"path_with_namespace": ["x"]}},
        {"object_kind": 7},
        {"object_kind": ["push"]},
        {"ref": None},
        {"ref": {}},
        {"after": None},
        {"after": 7},
        {"before": []},
        {"checkout_sha": "HEAD"},
        {"checkout_sha": 7},
        {"user_username": {}},
        {"commits": "x"},
        {"repository": "x"},
        {"total_commits_count": "x"},
    ],
)
def test_wrong_types_are_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedDelivery):
        parse(fixture("gitlab") | changes)
