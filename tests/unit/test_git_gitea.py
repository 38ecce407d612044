"""Gitea, Forgejo and Gogs."""

from __future__ import annotations

from typing import Any

import pytest

from fraisier.domain.errors import BadSignature, MalformedDelivery
from fraisier.domain.push import Change, EventKind, Push, RefKind
from fraisier.git.gitea import Gitea
from tests.unit.signing import NOW, SECRET, SignedDelivery, fixture, sign

ZERO = "0" * 40
FAMILY = ("gitea", "forgejo", "gogs")


def verify(delivery: SignedDelivery, *secrets: bytes) -> None:
    Gitea().verify(delivery.raw_headers, delivery.body, secrets or (SECRET,), now=NOW)


def parse(payload: Any, *, sender: str = "gitea", event: str = "push", form: bool = False) -> Push:
    delivery = sign(
        sender, payload, event=event, delivery_id="f6266f16-1bf3-46a5-9ea4-602e06ead473", form=form
    )
    verify(delivery)
    return Gitea().parse(delivery.raw_headers, delivery.body)


def only(push: Push) -> Change:
    (change,) = push.changes
    return change


# ---------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize("sender", FAMILY)
@pytest.mark.parametrize("form", [False, True])
def test_each_of_the_family_verifies_json_and_forms(sender: str, form: bool) -> None:
    delivery = sign(sender, fixture(sender), form=form)
    verify(delivery, b"another", SECRET)
    with pytest.raises(BadSignature):
        verify(delivery, b"another")


def test_a_form_may_also_be_signed_as_it_was_sent() -> None:
    form = sign("gitea", fixture("gitea"), form=True)
    as_sent = sign("gitea", form.body).headers["X-Gitea-Signature"]
    verify(form.with_headers(x_gitea_signature=as_sent))


def test_only_a_form_is_looked_into_for_what_was_signed() -> None:
    form = sign("gitea", fixture("gitea"), form=True)
    with pytest.raises(BadSignature):
        verify(form.with_headers(content_type="application/json"))


@pytest.mark.parametrize("body", [b"", b"payload=%", b"a=1", b"payload=%7B%7D&payload=%7B%7D"])
def test_a_broken_form_is_signed_by_nobody(body: bytes) -> None:
    form = sign("gitea", fixture("gitea"), form=True)
    with pytest.raises(BadSignature):
        verify(SignedDelivery(form.headers, body))


@pytest.mark.parametrize("sender", FAMILY)
def test_the_empty_headers_of_a_hook_without_secret_let_nobody_in(sender: str) -> None:
    delivery = sign(sender, fixture(sender), b"")
    empty = {name: "" for name in delivery.headers if name.endswith("-Signature")}
    without = SignedDelivery(dict(delivery.headers) | empty, delivery.body)
    with pytest.raises(BadSignature, match="missing or empty"):
        verify(without)
    with pytest.raises(BadSignature, match="no secret"):
        verify(delivery, b"")


def test_the_youngest_familys_signature_is_the_one_that_counts() -> None:
    delivery = sign("forgejo", fixture("forgejo"))
    for value in ("", "0" * 64):
        with pytest.raises(BadSignature):
            verify(delivery.with_headers(x_forgejo_signature=value))


def test_githubs_spelling_of_the_signature_is_enough() -> None:
    delivery = sign("gitea", fixture("gitea")).with_headers(x_gitea_signature=None, x_gogs_signature=None)
    verify(delivery)
    with pytest.raises(BadSignature):
        verify(delivery.with_headers(x_hub_signature_256=None))


# -------------------------------------------------------------------------------------------- pushes


@pytest.mark.parametrize("sender", FAMILY)
@pytest.mark.parametrize("form", [False, True])
def test_a_push_becomes_a_change_of_its_branch(sender: str, form: bool) -> None:
    payload = fixture(sender)
    push = parse(payload, sender=sender, form=form)
    assert (push.forge, push.type, push.kind) == ("gitea", "push", EventKind.push)
    assert push.delivery_id == "f6266f16-1bf3-46a5-9ea4-602e06ead473"
    assert (push.repository, push.sender) == ("acme/orders", "ada")
    assert only(push) == Change(
        kind=RefKind.branch,
        name="main",
        before=payload["before"],
        after=payload["after"],
        commit=payload["after"],
    )


def test_a_new_branch_is_created() -> None:
    change = only(parse(fixture("gitea_branch_create")))
    assert (change.name, change.created) == ("feature/vat", True)


def test_an_annotated_tags_commit_is_the_head_commit() -> None:
    payload = fixture("gitea_tag")
    change = only(parse(payload))
    assert (change.kind, change.created) == (RefKind.tag, True)
    assert change.commit == payload["head_commit"]["id"] != payload["after"]


def test_a_tags_deletion_is_a_push_to_the_zero_name() -> None:
    change = only(parse(fixture("gitea_tag_delete")))
    assert (change.kind, change.deleted, change.commit, change.after) == (RefKind.tag, True, "", ZERO)


@pytest.mark.parametrize(("name", "event"), [("gitea_create", "create"), ("gitea_delete", "delete")])
def test_what_comes_in_addition_to_a_push_is_left_aside(name: str, event: str) -> None:
    push = parse(fixture(name), event=event)
    assert (push.kind, push.reason) == (EventKind.other, f"event_not_a_push: {event}")


@pytest.mark.parametrize(
    "person", [{"username": "ada"}, {"login": "ada"}, {"login": "", "username": "ada"}, {"name": "ada"}]
)
def test_who_pushed_is_told_in_several_ways(person: dict[str, str]) -> None:
    assert parse(fixture("gogs") | {"sender": None, "pusher": person}).sender == "ada"


@pytest.mark.parametrize(
    "repository",
    [
        {"full_name": "acme/orders"},
        {"name": "orders", "owner": {"username": "acme"}},
        {"name": "orders", "owner": {"name": "acme"}, "full_name": ""},
    ],
)
def test_the_repository_is_told_in_several_ways(repository: dict[str, Any]) -> None:
    assert parse(fixture("gogs") | {"repository": repository}).repository == "acme/orders"


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": None},
        {"repository": {"name": "orders"}},
        {"repository": {"name": "orders", "owner": None}},
        {"ref": 7},
        {"after": ""},
        {"before": {}},
        {"commits": 7},
        {"head_commit": "x"},
        {"sender": [], "pusher": None},
        {"sender": {"login": []}},
    ],
)
def test_wrong_types_are_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedDelivery):
        parse(fixture("gitea") | changes)
