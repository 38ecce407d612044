"""Bitbucket Server and Data Center, and the "post webhooks" plugin."""

from __future__ import annotations

from typing import Any

import pytest

from fraisier.domain.errors import BadSignature, MalformedDelivery
from fraisier.domain.push import Change, EventKind, Push, RefKind
from fraisier.git.bitbucket_server import BitbucketServer
from tests.unit.signing import NOW, SECRET, fixture, sign

ZERO = "0" * 40


def parse(payload: Any, *, event: str = "repo:refs_changed") -> Push:
    delivery = sign(
        "bitbucket_server", payload, event=event, delivery_id="4f0e3ba5-6b6a-4b3c-8c14-6b9f7d0d6a10"
    )
    BitbucketServer().verify(delivery.raw_headers, delivery.body, [SECRET], now=NOW)
    return BitbucketServer().parse(delivery.raw_headers, delivery.body)


def only(push: Push) -> Change:
    (change,) = push.changes
    return change


def with_change(**changes: Any) -> dict[str, Any]:
    payload = fixture("bitbucket_server")
    payload["changes"][0].update(changes)
    return payload


def test_a_push_becomes_a_change_of_its_branch() -> None:
    payload = fixture("bitbucket_server")
    told = payload["changes"][0]
    push = parse(payload)
    assert (push.forge, push.type, push.kind) == ("bitbucket_server", "repo:refs_changed", EventKind.push)
    assert push.delivery_id == "4f0e3ba5-6b6a-4b3c-8c14-6b9f7d0d6a10"
    assert (push.repository, push.sender) == ("ACME/orders", "ada")
    assert only(push) == Change(
        kind=RefKind.branch, name="main", before=told["fromHash"], after=told["toHash"], commit=told["toHash"]
    )


def test_a_personal_repository_belongs_to_its_user() -> None:
    assert parse(fixture("bitbucket_server_personal")).repository == "~ada/notes"


def test_one_push_carries_several_refs() -> None:
    changes = parse(fixture("bitbucket_server_several")).changes
    assert [(change.kind.value, change.name) for change in changes] == [
        ("branch", "main"),
        ("branch", "feature/vat"),
        ("branch", "old"),
        ("tag", "main"),
    ]
    assert [change.created for change in changes] == [False, True, False, True]
    assert [change.deleted for change in changes] == [False, False, True, False]
    assert [bool(change.commit) for change in changes] == [True, True, False, True]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("bitbucket_server_branch_create", RefKind.branch), ("bitbucket_server_tag", RefKind.tag)],
)
def test_an_add_creates(name: str, kind: RefKind) -> None:
    change = only(parse(fixture(name)))
    assert (change.kind, change.created, change.before) == (kind, True, ZERO)
    assert change.commit == change.after


@pytest.mark.parametrize("name", ["bitbucket_server_branch_delete", "bitbucket_server_tag_delete"])
def test_a_delete_has_no_commit(name: str) -> None:
    change = only(parse(fixture(name)))
    assert (change.deleted, change.after, change.commit) == (True, ZERO, "")


def test_a_deletion_is_one_by_its_type_or_by_its_hash() -> None:
    assert only(parse(with_change(type="DELETE"))).commit == ""
    assert only(parse(with_change(toHash=ZERO))).deleted
    assert only(parse(with_change(type=None, fromHash=ZERO))).created


def test_a_synchronised_mirror_tells_refs_too() -> None:
    push = parse(fixture("bitbucket_server_mirror"), event="mirror:repo_synchronized")
    assert (push.kind, push.sender, only(push).name) == (EventKind.push, "", "main")


def test_a_mirror_that_leaves_refs_out_says_so() -> None:
    push = parse(fixture("bitbucket_server_mirror_limit"), event="mirror:repo_synchronized")
    assert push.changes == ()
    assert push.reason.startswith("no_changes: more refs")


def test_the_plugins_dialect_is_the_clouds() -> None:
    push = parse(fixture("bitbucket_server_plugin"), event="repo:push")
    assert (push.repository, push.sender) == ("ACME/orders", "ada")
    assert [(change.name, change.deleted) for change in push.changes] == [
        ("main", False),
        ("feature/vat", True),
    ]
    bare = fixture("bitbucket_server_plugin") | {"repository": {"fullName": "ACME/orders"}}
    assert parse(bare, event="repo:push").repository == "ACME/orders"


def test_the_test_of_the_connection_is_a_ping_and_needs_the_signature() -> None:
    assert parse(fixture("bitbucket_server_ping"), event="diagnostics:ping").kind is EventKind.ping
    unsigned = sign("bitbucket_server", {"test": True}, event="diagnostics:ping").with_headers(
        x_hub_signature=None
    )
    with pytest.raises(BadSignature):
        BitbucketServer().verify(unsigned.raw_headers, unsigned.body, [SECRET], now=NOW)


@pytest.mark.parametrize("event", ["pr:merged", "repo:forked", "repo:comment:added", "project:modified"])
def test_other_events_are_left_aside_with_a_reason(event: str) -> None:
    push = parse(fixture("bitbucket_server_pullrequest"), event=event)
    assert (push.kind, push.reason) == (EventKind.other, f"event_not_a_push: {event}")


@pytest.mark.parametrize("changes", [[], None])
def test_a_push_may_carry_nothing(changes: Any) -> None:
    assert parse(fixture("bitbucket_server") | {"changes": changes}).reason == "no_changes"


def test_the_full_ref_counts_before_its_parts() -> None:
    assert (
        only(parse(with_change(ref={"id": "refs/tags/x", "displayId": "main", "type": "BRANCH"}))).kind
        is RefKind.tag
    )
    assert only(parse(with_change(ref=None, refId="refs/tags/x"))).name == "x"
    parts = with_change(ref={"displayId": "x", "type": "TAG"}, refId=None)
    assert only(parse(parts)).ref == "refs/tags/x"


@pytest.mark.parametrize("ref", ["refs/notes/commits", "refs/pull-requests/1/from"])
def test_refs_that_are_neither_branch_nor_tag_are_left_aside(ref: str) -> None:
    assert parse(with_change(ref={"id": ref})).reason == f"ref_not_followed: {ref}"


@pytest.mark.parametrize(
    "changes",
    [
        {"ref": None, "refId": None},
        {"ref": "refs/heads/main"},
        {"ref": {"id": 7}},
        {"ref": {"type": "BRANCH"}, "refId": None},
        {"ref": {"id": "refs/heads/a..b"}},
        {"ref": {"displayId": "a b", "type": "BRANCH"}, "refId": None},
        {"toHash": None},
        {"toHash": ""},
        {"toHash": 7},
        {"toHash": "abc"},
        {"fromHash": []},
        {"type": 7},
    ],
)
def test_wrong_types_in_a_change_are_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedDelivery):
        parse(with_change(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"changes": {}},
        {"changes": [7]},
        {"repository": None},
        {"repository": {"slug": "orders"}},
        {"repository": {"slug": "orders", "project": "ACME"}},
        {"repository": {"slug": 7, "project": {"key": "ACME"}}},
        {"actor": []},
        {"actor": {"name": 7}},
        {"refLimitExceeded": "yes"},
        {"toCommit": []},
    ],
)
def test_wrong_types_are_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedDelivery):
        parse(fixture("bitbucket_server") | changes)
