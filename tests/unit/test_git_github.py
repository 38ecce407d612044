"""GitHub and GitHub Enterprise Server."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from fraisier.domain.errors import BadSignature, MalformedDelivery
from fraisier.domain.push import Change, EventKind, Push, RefKind
from fraisier.git.github import GitHub
from tests.unit.signing import NOW, SECRET, fixture, sign

VECTOR = b"757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"  # GitHub's documentation
ZERO = "0" * 40


def parse(payload: Any, *, event: str = "push", form: bool = False) -> Push:
    delivery = sign(
        "github", payload, event=event, delivery_id="72d3162e-cc78-11e3-81ab-4c9367dc0958", form=form
    )
    GitHub().verify(delivery.raw_headers, delivery.body, [SECRET], now=NOW)
    return GitHub().parse(delivery.raw_headers, delivery.body)


def only(push: Push) -> Change:
    (change,) = push.changes
    return change


def push_payload(**changes: Any) -> dict[str, Any]:
    return fixture("github") | changes


# ---------------------------------------------------------------------------------------- signatures


def test_the_vendors_own_vector_verifies() -> None:
    headers = {"x-hub-signature-256": (b"sha256=" + VECTOR,)}
    GitHub().verify(headers, b"Hello, World!", [b"It's a Secret to Everybody"], now=NOW)
    with pytest.raises(BadSignature):
        GitHub().verify(headers, b"Hello, World?", [b"It's a Secret to Everybody"], now=NOW)


def test_the_signature_of_old_is_never_enough() -> None:
    delivery = sign("github", fixture("github")).with_headers(x_hub_signature_256=None)
    assert "X-Hub-Signature" in delivery.headers
    with pytest.raises(BadSignature, match="SHA-1"):
        GitHub().verify(delivery.raw_headers, delivery.body, [SECRET], now=NOW)


def test_a_sha1_under_the_new_name_is_refused() -> None:
    body = b"{}"
    for value in (b"sha1=" + hmac.digest(SECRET, body, "sha1").hex().encode(), VECTOR):
        with pytest.raises(BadSignature, match="sha256="):
            GitHub().verify({"x-hub-signature-256": (value,)}, body, [SECRET], now=NOW)


def test_a_form_is_signed_as_it_was_sent_not_as_the_json_inside() -> None:
    delivery = sign("github", fixture("github"), form=True)
    GitHub().verify(delivery.raw_headers, delivery.body, [SECRET], now=NOW)
    inner = sign("github", fixture("github"))
    crossed = delivery.with_headers(x_hub_signature_256=inner.headers["X-Hub-Signature-256"])
    with pytest.raises(BadSignature):
        GitHub().verify(crossed.raw_headers, delivery.body, [SECRET], now=NOW)


def test_json_that_means_the_same_but_was_written_anew_does_not_verify() -> None:
    delivery = sign("github", b'{"a": 1}')
    with pytest.raises(BadSignature):
        GitHub().verify(delivery.raw_headers, b'{"a":1}', [SECRET], now=NOW)


# -------------------------------------------------------------------------------------------- pushes


@pytest.mark.parametrize("form", [False, True])
def test_a_push_becomes_a_change_of_its_branch(form: bool) -> None:
    payload = fixture("github")
    push = parse(payload, form=form)
    assert (push.forge, push.type, push.kind) == ("github", "push", EventKind.push)
    assert push.delivery_id == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    assert (push.repository, push.sender, push.reason) == ("acme/orders", "ada", "")
    assert only(push) == Change(
        kind=RefKind.branch,
        name="main",
        before=payload["before"],
        after=payload["after"],
        commit=payload["after"],
    )


def test_a_new_branch_without_commits_of_its_own_has_its_tip() -> None:
    payload = fixture("github_branch_create")
    change = only(parse(payload))
    assert payload["commits"] == []
    assert (change.name, change.created, change.commit) == ("feature/vat", True, payload["after"])


def test_a_deleted_branch_has_no_commit() -> None:
    change = only(parse(fixture("github_branch_delete")))
    assert (change.deleted, change.created, change.after, change.commit) == (True, False, ZERO, "")


def test_a_forced_push_says_so() -> None:
    assert only(parse(fixture("github_forced"))).forced


def test_an_annotated_tags_commit_is_the_one_it_points_to() -> None:
    payload = fixture("github_tag")
    change = only(parse(payload))
    assert (change.kind, change.name, change.created) == (RefKind.tag, "v1.4.0", True)
    assert change.after == payload["after"]
    assert change.commit == payload["head_commit"]["id"] != payload["after"]


def test_a_tag_of_which_the_commit_is_not_told_is_left_to_the_fetch() -> None:
    payload = fixture("github_tag") | {"head_commit": None}
    assert only(parse(payload)).commit == payload["after"]


def test_a_deleted_tag_has_no_commit() -> None:
    change = only(parse(fixture("github_tag_delete")))
    assert (change.kind, change.deleted, change.commit) == (RefKind.tag, True, "")


def test_a_tag_named_like_a_branch_stays_a_tag() -> None:
    assert only(parse(fixture("github_tag") | {"ref": "refs/tags/main"})).kind is RefKind.tag
    assert only(parse(push_payload(ref="refs/heads/refs/tags/v1"))).name == "refs/tags/v1"


def test_the_shape_of_old_is_still_a_push() -> None:
    push = parse(fixture("github_old"))
    assert (push.repository, push.sender) == ("acme/orders", "ada")
    assert only(push).commit == fixture("github_old")["after"]


def test_without_flags_the_zero_names_tell() -> None:
    bare = {
        key: value for key, value in push_payload().items() if key not in {"created", "deleted", "forced"}
    }
    assert only(parse(bare | {"before": ZERO})).created
    assert only(parse(bare | {"after": ZERO})).deleted
    assert not only(parse(bare)).forced


def test_whatever_says_deletion_never_deploys() -> None:
    assert only(parse(push_payload(deleted=True))).commit == ""
    assert only(parse(push_payload(after=ZERO, deleted=False))).commit == ""
    assert only(parse(push_payload(after="0" * 64, deleted=None))).commit == ""


def test_a_sha256_repository_is_as_good() -> None:
    assert only(parse(push_payload(before="0" * 64, after="ab" * 32))).commit == "ab" * 32


@pytest.mark.parametrize("ref", ["refs/notes/commits", "refs/pull/7/head", "refs/replace/x", "refs/stash"])
def test_refs_that_are_neither_branch_nor_tag_are_left_aside(ref: str) -> None:
    push = parse(push_payload(ref=ref))
    assert (push.kind, push.changes) == (EventKind.push, ())
    assert push.reason == f"ref_not_followed: {ref}"


@pytest.mark.parametrize(
    "name",
    [
        "gh-readonly-queue/main/pr-1-abc",
        "--upload-pack=x",
        "$(id)",
        "-oProxyCommand=x",
        "é",
        "a;b",
        "x" * 200,
    ],
)
def test_names_that_git_accepts_pass_however_hostile(name: str) -> None:
    assert only(parse(push_payload(ref=f"refs/heads/{name}"))).name == name


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "main",
        "heads/main",
        "refs/heads/",
        "refs/heads//x",
        "refs/heads/../../etc/passwd",
        "refs/heads/a..b",
        "refs/heads/a b",
        "refs/heads/a\nb",
        "refs/heads/a\0b",
        "refs/heads/x.lock",
        "refs/heads/@{u}",
        "refs/heads/a^b",
        "refs/heads/" + "x" * 70_000,
        "refs/notes/../x",
        "refs/",
        "REFS/HEADS/main",
        " refs/heads/main",
    ],
)
def test_names_that_git_refuses_are_malformed(ref: str) -> None:
    with pytest.raises(MalformedDelivery):
        parse(push_payload(ref=ref))


@pytest.mark.parametrize(
    "after", ["", None, "abc", "A" * 40, "g" * 40, "a" * 39, "a" * 41, "0" * 7, "HEAD", "a" * 40 + "\n"]
)
def test_an_object_name_is_a_full_one(after: str | None) -> None:
    with pytest.raises(MalformedDelivery):
        parse(push_payload(after=after))


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": None},
        {"repository": {}},
        {"repository": []},
        {"repository": {"full_name": 7}},
        {"repository": {"name": "orders", "owner": "acme"}},
        {"ref": None},
        {"ref": 7},
        {"ref": ["refs/heads/main"]},
        {"before": 0},
        {"after": {"sha": "x"}},
        {"created": "false"},
        {"deleted": 0},
        {"forced": []},
        {"sender": "ada"},
        {"sender": {"login": 7}},
        {"pusher": []},
        {"commits": {}},
        {"head_commit": []},
    ],
)
def test_wrong_types_are_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedDelivery):
        parse(push_payload(**changes))


def test_who_pushed_may_be_unknown() -> None:
    assert parse(push_payload(sender=None)).sender == "ada"
    assert parse(push_payload(sender=None, pusher=None)).sender == ""


def test_fields_that_nobody_documents_may_be_anything() -> None:
    assert only(parse(push_payload(surprise=[{}], organisation=7, installed="x"))).name == "main"


# -------------------------------------------------------------------------------------- other events


def test_a_ping_is_a_ping() -> None:
    push = parse(fixture("github_ping"), event="ping")
    assert (push.kind, push.type, push.reason) == (EventKind.ping, "ping", "")


@pytest.mark.parametrize(
    "event", ["create", "delete", "issues", "pull_request", "workflow_run", "release", "PUSH"]
)
def test_other_events_are_left_aside_with_a_reason(event: str) -> None:
    push = parse(fixture("github_create"), event=event)
    assert (push.kind, push.changes) == (EventKind.other, ())
    assert push.reason == f"event_not_a_push: {event}"


def test_without_its_event_header_nothing_is_read() -> None:
    with pytest.raises(MalformedDelivery, match="x-github-event"):
        GitHub().parse({"content-type": (b"application/json",)}, b"{}")
