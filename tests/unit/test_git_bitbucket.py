"""Bitbucket Cloud."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fraisier.domain.errors import BadSignature, MalformedDelivery
from fraisier.domain.push import Change, EventKind, Push, RefKind
from fraisier.git.bitbucket import Bitbucket
from tests.unit.signing import NOW, SECRET, fixture, sign


def parse(payload: Any, *, event: str = "repo:push") -> Push:
    delivery = sign("bitbucket", payload, event=event, delivery_id="b3a8a0a5-6d42-4f0a-9d2c-0f1f6d2b8f10")
    Bitbucket().verify(delivery.raw_headers, delivery.body, [SECRET], now=NOW)
    return Bitbucket().parse(delivery.raw_headers, delivery.body)


def only(push: Push) -> Change:
    (change,) = push.changes
    return change


def with_change(**changes: Any) -> dict[str, Any]:
    payload = fixture("bitbucket")
    payload["push"]["changes"][0].update(changes)
    return payload


def test_the_hooks_uuid_authenticates_nobody() -> None:
    delivery = sign("bitbucket", fixture("bitbucket")).with_headers(x_hub_signature=None)
    with pytest.raises(BadSignature, match="missing"):
        Bitbucket().verify(delivery.raw_headers, delivery.body, [SECRET], now=NOW)


def test_the_signature_is_sha256_under_the_name_that_is_sha1_elsewhere() -> None:
    delivery = sign("bitbucket", fixture("bitbucket"))
    assert delivery.headers["X-Hub-Signature"].startswith("sha256=")
    sha1 = sign("github", fixture("bitbucket")).headers["X-Hub-Signature"]
    with pytest.raises(BadSignature, match="sha256="):
        Bitbucket().verify(
            delivery.with_headers(x_hub_signature=sha1).raw_headers, delivery.body, [SECRET], now=NOW
        )


def test_a_push_becomes_a_change_of_its_branch() -> None:
    payload = fixture("bitbucket")
    told = payload["push"]["changes"][0]
    push = parse(payload)
    assert (push.forge, push.type, push.kind) == ("bitbucket", "repo:push", EventKind.push)
    assert push.delivery_id == "b3a8a0a5-6d42-4f0a-9d2c-0f1f6d2b8f10"
    assert (push.repository, push.sender) == ("acme/orders", "ada")
    assert only(push) == Change(
        kind=RefKind.branch,
        name="main",
        before=told["old"]["target"]["hash"],
        after=told["new"]["target"]["hash"],
        commit=told["new"]["target"]["hash"],
    )


def test_one_push_carries_several_refs() -> None:
    changes = parse(fixture("bitbucket_several")).changes
    assert [(change.kind.value, change.name) for change in changes] == [
        ("branch", "main"),
        ("branch", "feature/vat"),
        ("branch", "old"),
        ("tag", "main"),
    ]
    assert [change.forced for change in changes] == [True, False, False, False]
    assert [change.created for change in changes] == [False, True, False, True]
    assert [change.deleted for change in changes] == [False, False, True, False]
    assert [bool(change.commit) for change in changes] == [True, True, False, True]


@pytest.mark.parametrize("name", ["bitbucket_branch_create", "bitbucket_tag"])
def test_what_has_no_old_state_is_created(name: str) -> None:
    change = only(parse(fixture(name)))
    assert (change.created, change.before) == (True, "")
    assert change.commit == change.after != ""


@pytest.mark.parametrize("name", ["bitbucket_branch_delete", "bitbucket_tag_delete"])
def test_what_has_no_new_state_is_deleted(name: str) -> None:
    change = only(parse(fixture(name)))
    assert (change.deleted, change.after, change.commit) == (True, "", "")


@pytest.mark.parametrize("push", [{"changes": []}, {"changes": None}, {}, None])
def test_a_push_may_carry_nothing(push: Any) -> None:
    parsed = parse(fixture("bitbucket") | {"push": push})
    assert (parsed.kind, parsed.changes, parsed.reason) == (EventKind.push, (), "no_changes")


def test_who_pushed_may_be_unknown() -> None:
    assert parse(fixture("bitbucket_nothing")).sender == ""
    assert parse(fixture("bitbucket") | {"actor": {"username": "ada-old"}}).sender == "ada-old"
    assert parse(fixture("bitbucket") | {"actor": {"display_name": "Ada Adams"}}).sender == "Ada Adams"


def test_refs_of_another_type_are_left_aside() -> None:
    payload = with_change()
    payload["push"]["changes"][0]["new"]["type"] = "bookmark"
    assert parse(payload).reason == "ref_not_followed: bookmark main"


@pytest.mark.parametrize("event", ["pullrequest:fulfilled", "repo:fork", "issue:created", "repo:updated"])
def test_other_events_are_left_aside_with_a_reason(event: str) -> None:
    push = parse(fixture("bitbucket_pullrequest"), event=event)
    assert (push.kind, push.reason) == (EventKind.other, f"event_not_a_push: {event}")


@pytest.mark.parametrize("name", ["", "a..b", "../..", "a b", "x\0", "x" * 70_000, "a\nb"])
def test_names_that_git_refuses_are_malformed(name: str) -> None:
    payload = with_change()
    payload["push"]["changes"][0]["new"]["name"] = name
    with pytest.raises(MalformedDelivery):
        parse(payload)


@pytest.mark.parametrize(
    "changes",
    [
        {"old": None, "new": None},
        {"new": []},
        {"new": {"name": "main", "target": {"hash": "a" * 40}}},
        {"new": "main"},
        {"new": {"type": "branch", "name": "main", "target": None}},
        {"new": {"type": "branch", "name": "main", "target": {"hash": "abc"}}},
        {"new": {"type": "branch", "name": 7, "target": {"hash": "a" * 40}}},
        {"new": {"type": 7, "name": "main", "target": {"hash": "a" * 40}}},
        {"new": {"type": "branch", "name": "main", "target": [{"hash": "a" * 40}]}},
        {"old": {"type": "branch", "name": "main", "target": {"hash": 7}}},
        {"forced": "yes"},
    ],
)
def test_wrong_types_in_a_change_are_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedDelivery):
        parse(with_change(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"push": []},
        {"push": {"changes": {}}},
        {"push": {"changes": [7]}},
        {"push": {"changes": [None]}},
        {"push": {"changes": [{}]}},
        {"repository": None},
        {"repository": {"full_name": None}},
        {"repository": {"full_name": 7}},
        {"actor": "ada"},
        {"actor": {"nickname": 7}},
    ],
)
def test_wrong_types_are_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedDelivery):
        parse(fixture("bitbucket") | changes)


def test_one_bad_change_refuses_the_whole_push() -> None:
    payload = copy.deepcopy(fixture("bitbucket_several"))
    payload["push"]["changes"][3]["new"]["target"]["hash"] = "HEAD"
    with pytest.raises(MalformedDelivery):
        parse(payload)
