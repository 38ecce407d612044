"""What every forge promises to the receiver: Fraisier's own five and those that third parties add."""

from __future__ import annotations

import copy
import hmac
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraisier.application.ports import Forge, Headers
from fraisier.domain.errors import BadSignature, DeliveryRefused, MalformedDelivery, UnsupportedMediaType
from fraisier.domain.push import Change, EventKind, Push, RefKind, is_ref_name, is_sha
from fraisier.git.detect import find_forge
from tests.unit.signing import (
    FIXTURES,
    KINDS,
    NOW,
    SECRET,
    SIGNING_TOKEN,
    SignedDelivery,
    fixture,
    forges,
    sign,
)

# ------------------------------------------------------------------------- a forge that a third party adds


class Soft:
    """A forge from another package: only the Protocol, nothing of Fraisier's own helpers."""

    kind = "soft"

    def recognises(self, headers: Headers) -> bool:
        return "x-soft-event" in headers

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:
        given_signatures = headers.get("x-soft-signature", ())
        expected = {hmac.digest(secret, body, "sha256").hex().encode() for secret in secrets if secret}
        if len(given_signatures) != 1 or given_signatures[0] not in expected:
            raise BadSignature("cannot verify the delivery: it is not signed", "Set the secret in Soft")

    def parse(self, headers: Headers, body: bytes) -> Push:
        if headers.get("content-type", (b"application/json",))[0] != b"application/json":
            raise UnsupportedMediaType("cannot read it: Soft sends JSON", "Send JSON")
        try:
            payload = json.loads(body)
            change = Change(
                kind=RefKind.branch, name=payload["branch"], after=payload["to"], commit=payload["to"]
            )
            if not is_ref_name(change.name) or not is_sha(change.commit):
                raise MalformedDelivery("cannot read it: the branch or the commit is none", "Send Soft's own")
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
            raise MalformedDelivery(
                "cannot read it: that is no payload of Soft", "Send Soft's own"
            ) from error
        return Push(
            forge=self.kind,
            type="soft:push",
            kind=EventKind.push,
            delivery_id="",
            repository=str(payload.get("repository", "acme/orders")),
            changes=(change,),
        )


def sign_soft(payload: Any, secret: bytes = SECRET) -> SignedDelivery:
    body = json.dumps(payload).encode()
    signature = hmac.digest(secret, body, "sha256").hex()
    headers = {"Content-Type": "application/json", "X-Soft-Event": "push", "X-Soft-Signature": signature}
    return SignedDelivery(headers, body)


ALL: dict[str, Forge] = forges() | {"soft": Soft()}
SIGNERS = (*KINDS, "ghes", "gitlab_signed", "forgejo", "gogs", "soft")
# The header of each that authenticates.
PROOF = {
    "github": "x-hub-signature-256",
    "ghes": "x-hub-signature-256",
    "gitlab": "x-gitlab-token",
    "gitlab_signed": "webhook-signature",
    "gitea": "x-gitea-signature",
    "forgejo": "x-forgejo-signature",
    "gogs": "x-gogs-signature",
    "bitbucket": "x-hub-signature",
    "bitbucket_server": "x-hub-signature",
    "soft": "x-soft-signature",
}
KIND = {"ghes": "github", "gitlab_signed": "gitlab", "forgejo": "gitea", "gogs": "gitea"}


def delivery_of(signer: str, payload: Any = None, secret: bytes | None = None) -> SignedDelivery:
    if signer == "soft":
        return sign_soft(payload or {"branch": "main", "to": "a" * 40}, secret or SECRET)
    key = secret or (SIGNING_TOKEN if signer == "gitlab_signed" else SECRET)
    kin = {"ghes": "github", "gitlab_signed": "gitlab"}.get(signer, signer)
    return sign(signer, fixture(kin) if payload is None else payload, key)


def secret_of(signer: str) -> bytes:
    return SIGNING_TOKEN if signer == "gitlab_signed" else SECRET


def forge_of(signer: str) -> Forge:
    return ALL[KIND.get(signer, signer)]


def verify(signer: str, headers: Headers, body: bytes, *secrets: bytes) -> None:
    forge_of(signer).verify(headers, body, secrets, now=NOW)


every_signer = pytest.mark.parametrize("signer", SIGNERS)


# ----------------------------------------------------------------------------------------- recognising


@every_signer
def test_exactly_one_forge_recognises_a_delivery(signer: str) -> None:
    assert find_forge(delivery_of(signer).raw_headers, ALL) == forge_of(signer).kind


@every_signer
def test_no_forge_recognises_headers_of_nobody(signer: str) -> None:
    assert not forge_of(signer).recognises({})
    assert not forge_of(signer).recognises({"content-type": (b"application/json",), "x-other": (b"push",)})


# ------------------------------------------------------------------------------------------- verifying


@every_signer
def test_any_of_the_configured_secrets_verifies(signer: str) -> None:
    delivery = delivery_of(signer)
    good = secret_of(signer)
    for secrets in ([good], [b"old", good], [good, b"new"], [b"", good]):
        verify(signer, delivery.raw_headers, delivery.body, *secrets)


@every_signer
@pytest.mark.parametrize("secrets", [(), (b"",), (b"", b"")])
def test_without_a_secret_nobody_is_let_in(signer: str, secrets: tuple[bytes, ...]) -> None:
    delivery = delivery_of(signer)
    with pytest.raises(BadSignature):
        verify(signer, delivery.raw_headers, delivery.body, *secrets)


@every_signer
def test_another_secret_does_not_verify(signer: str) -> None:
    delivery = delivery_of(signer)
    for other in (b"another", secret_of(signer)[:-1], secret_of(signer) + b" "):
        with pytest.raises(BadSignature):
            verify(signer, delivery.raw_headers, delivery.body, other)


# GitLab's secret token says nothing about the body; its signing token does.
@pytest.mark.parametrize("signer", [signer for signer in SIGNERS if signer != "gitlab"])
def test_a_body_that_was_changed_by_one_byte_does_not_verify(signer: str) -> None:
    delivery = delivery_of(signer)
    for body in (delivery.body + b" ", delivery.body[:-1], b" " + delivery.body[1:], b""):
        with pytest.raises(BadSignature):
            verify(signer, delivery.raw_headers, body, secret_of(signer))


@every_signer
def test_a_delivery_without_its_proof_is_refused(signer: str) -> None:
    headers = {
        name: values for name, values in delivery_of(signer).raw_headers.items() if "signature" not in name
    }
    headers.pop("x-gitlab-token", None)
    with pytest.raises(BadSignature):
        verify(signer, headers, delivery_of(signer).body, secret_of(signer))


@every_signer
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"sha256=",
        b"sha256=\xc3\xa9",
        b"\xff" * 64,
        "ü".encode() * 32,
        b"sha256=" + b"0" * 64,
        b"0" * 64,
        b"x" * 100_000,
    ],
)
def test_a_wrong_empty_huge_or_non_ascii_proof_is_refused(signer: str, value: bytes) -> None:
    delivery = delivery_of(signer)
    headers = {**delivery.raw_headers, PROOF[signer]: (value,)}
    with pytest.raises(BadSignature):
        verify(signer, headers, delivery.body, secret_of(signer))


@every_signer
def test_two_proofs_are_refused_even_if_they_are_right(signer: str) -> None:
    delivery = delivery_of(signer)
    good = delivery.raw_headers[PROOF[signer]][0]
    for values in ((good, b"sha256=0"), (b"sha256=0", good), (good, b""), (good, good)):
        with pytest.raises(BadSignature):
            verify(signer, {**delivery.raw_headers, PROOF[signer]: values}, delivery.body, secret_of(signer))


@every_signer
@given(value=st.lists(st.binary(max_size=100), max_size=3), body=st.binary(max_size=60))
@settings(max_examples=40, deadline=None)
def test_no_proof_causes_another_error_than_bad_signature(
    signer: str, value: list[bytes], body: bytes
) -> None:
    headers = {**delivery_of(signer).raw_headers, PROOF[signer]: tuple(value)}
    with pytest.raises(BadSignature):
        verify(signer, headers, body, secret_of(signer))


# --------------------------------------------------------------------------------------------- parsing


@every_signer
def test_a_push_says_what_the_receiver_needs(signer: str) -> None:
    delivery = delivery_of(signer)
    push = forge_of(signer).parse(delivery.raw_headers, delivery.body)
    assert (push.forge, push.kind) == (forge_of(signer).kind, EventKind.push)
    assert push.repository
    assert [(change.kind, change.name) for change in push.changes] == [(RefKind.branch, "main")]
    assert is_sha(push.changes[0].commit)


@pytest.mark.parametrize("signer", [signer for signer in SIGNERS if signer != "soft"])
def test_a_repeated_delivery_has_the_same_id(signer: str) -> None:
    delivery = delivery_of(signer)
    first = forge_of(signer).parse(delivery.raw_headers, delivery.body).delivery_id
    assert first
    assert forge_of(signer).parse(delivery.raw_headers, delivery.body).delivery_id == first
    another = delivery_of(signer)
    assert forge_of(signer).parse(another.raw_headers, another.body).delivery_id != first


@every_signer
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"x"', b"\xff", b"[" * 100_000, b"NaN", b"{}"])
def test_what_is_no_push_is_malformed(signer: str, body: bytes) -> None:
    with pytest.raises(MalformedDelivery):
        forge_of(signer).parse(delivery_of(signer).raw_headers, body)


@every_signer
@pytest.mark.parametrize("content_type", [b"text/plain", b"multipart/form-data", b"application/xml"])
def test_other_content_types_are_unsupported(signer: str, content_type: bytes) -> None:
    delivery = delivery_of(signer)
    with pytest.raises(UnsupportedMediaType):
        forge_of(signer).parse({**delivery.raw_headers, "content-type": (content_type,)}, delivery.body)


EVENT_HEADER = {
    "github": "x-github-event",
    "gitlab": "x-gitlab-event",
    "gitea": "x-gitea-event",
    "bitbucket": "x-event-key",
    "bitbucket_server": "x-event-key",
}
DELIVERY_HEADER = {
    "github": "x-github-delivery",
    "gitlab": "idempotency-key",
    "gitea": "x-gitea-delivery",
    "bitbucket": "x-request-uuid",
    "bitbucket_server": "x-request-id",
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_doubled_event_and_delivery_headers_are_malformed_unless_they_agree(kind: str) -> None:
    delivery = sign(kind, fixture(kind))
    for name in (EVENT_HEADER[kind], DELIVERY_HEADER[kind]):
        value = delivery.raw_headers[name][0]
        ALL[kind].parse({**delivery.raw_headers, name: (value, value)}, delivery.body)
        with pytest.raises(MalformedDelivery, match=name):
            ALL[kind].parse({**delivery.raw_headers, name: (value, b"another")}, delivery.body)


@every_kind
@pytest.mark.parametrize("value", [b"x" * 201, b"a\x00b", "é".encode(), b"a\x7fb", b"\xff"])
def test_ids_and_events_are_short_printable_ascii(kind: str, value: bytes) -> None:
    delivery = sign(kind, fixture(kind))
    for name in (EVENT_HEADER[kind], DELIVERY_HEADER[kind]):
        with pytest.raises(MalformedDelivery, match=name):
            ALL[kind].parse({**delivery.raw_headers, name: (value,)}, delivery.body)


@every_kind
def test_other_events_have_a_reason_and_change_nothing(kind: str) -> None:
    delivery = sign(kind, {"anything": [1, {"a": None}]}, event="something:else")
    push = ALL[kind].parse(delivery.raw_headers, delivery.body)
    assert (push.kind, push.changes, push.repository) == (EventKind.other, (), "")
    assert push.reason == "event_not_a_push: something:else"


@pytest.mark.parametrize(
    ("kind", "name", "event", "names"),
    [
        ("github", "github_ping", "ping", ("acme/orders", "ada")),
        ("github", "github_issues", "issues", ("acme/orders", "ada")),
        ("github", "github_create", "create", ("acme/orders", "ada")),
        ("gitlab", "gitlab_merge_request", "Merge Request Hook", ("acme/backend/orders", "ada")),
        ("gitlab", "gitlab_merge_request", "System Hook", ("acme/backend/orders", "ada")),
        ("gitlab", "gitlab_system_repository_update", "System Hook", ("acme/backend/orders", "Ada Adams")),
        ("gitea", "gitea_delete", "delete", ("acme/orders", "ada")),
        ("bitbucket", "bitbucket_pullrequest", "pullrequest:fulfilled", ("acme/orders", "ada")),
        ("bitbucket_server", "bitbucket_server_pullrequest", "pr:merged", ("ACME/orders", "ada")),
        ("bitbucket_server", "bitbucket_server", "repo:modified", ("ACME/orders", "ada")),
        ("bitbucket_server", "bitbucket_server_ping", "diagnostics:ping", ("", "")),
    ],
)
def test_what_is_no_push_tells_too_where_it_comes_from(
    kind: str, name: str, event: str, names: tuple[str, str]
) -> None:
    delivery = sign(kind, fixture(name), event=event)
    push = ALL[kind].parse(delivery.raw_headers, delivery.body)
    assert push.kind is not EventKind.push
    assert (push.repository, push.sender) == names


@every_kind
@pytest.mark.parametrize("value", [7, "x", [], [7], {"full_name": 7, "login": [], "path_with_namespace": {}}])
def test_what_is_no_push_is_not_refused_for_a_field_of_another_type(kind: str, value: Any) -> None:
    fields = ("repository", "project", "pullRequest", "sender", "pusher", "actor", "user", "user_name")
    delivery = sign(kind, dict.fromkeys(fields, value), event="something:else")
    push = ALL[kind].parse(delivery.raw_headers, delivery.body)
    assert (push.kind, push.repository) == (EventKind.other, "")


@every_kind
def test_forms_are_read_like_json(kind: str) -> None:
    form, plain = (sign(kind, fixture(kind), delivery_id="1", form=form) for form in (True, False))
    verify(kind, form.raw_headers, form.body, SECRET)
    assert ALL[kind].parse(form.raw_headers, form.body) == ALL[kind].parse(plain.raw_headers, plain.body)


# ------------------------------------------------------------------------------------ hostile payloads

PUSHES = [
    (kind, path.name.removesuffix("_webhook_payload.json"))
    for kind in KINDS
    for path in sorted(FIXTURES.glob(f"{kind}*_webhook_payload.json"))
    if kind != "bitbucket" or "server" not in path.name
]
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["refs/heads/a..b", "refs/heads/x", "refs/tags/x", "0" * 40, "a" * 40, "\0", "x" * 70_000]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field and item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def with_value(payload: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy that differs only there; what lies beside the path is shared."""
    if not path:
        return value
    changed = copy.copy(payload)
    changed[path[0]] = with_value(payload[path[0]], path[1:], value)
    return changed


def is_sound(push: Push) -> bool:
    """What the receiver relies on, whatever was sent."""
    return all(
        is_ref_name(change.name) and (change.commit == "" if change.deleted else is_sha(change.commit))
        for change in push.changes
    ) and (push.kind is EventKind.push or not push.changes)


def event_for(kind: str, name: str) -> str:
    special = {
        "github_ping": "ping",
        "gitlab_system_push": "System Hook",
        "gitlab_system_repository_update": "System Hook",
        "bitbucket_server_plugin": "repo:push",
        "bitbucket_server_mirror": "mirror:repo_synchronized",
        "bitbucket_server_mirror_limit": "mirror:repo_synchronized",
    }
    return special.get(name, "")


def parse_hostile(kind: str, name: str, payload: Any) -> None:
    delivery = sign(kind, payload, event=event_for(kind, name))
    with suppress(DeliveryRefused):
        assert is_sound(ALL[kind].parse(delivery.raw_headers, delivery.body))


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_field_is_parsed_soundly_or_refused(data: st.DataObject) -> None:
    kind, name = data.draw(st.sampled_from(PUSHES))
    payload = fixture(name)
    path = data.draw(st.sampled_from(list(places(payload))))
    parse_hostile(kind, name, with_value(payload, path, data.draw(JSON_VALUES)))


OTHERS: list[Any] = [None, True, -1, 1.5, "\0", "x", [], [7], {}, {"x": []}]
SHAPES = [*KINDS, "github_tag", "gitlab_system_push", "gitlab_old", "bitbucket_server_plugin"]


@pytest.mark.parametrize("name", SHAPES)
def test_every_field_of_every_other_type_is_parsed_soundly_or_refused(name: str) -> None:
    kind = next(kind for kind in reversed(KINDS) if name.startswith(kind))
    payload = fixture(name)
    for path in places(payload):
        if "links" not in path and "commits" not in path and not str(path[-1]).endswith("_url"):
            for value in OTHERS:
                parse_hostile(kind, name, with_value(payload, path, value))


@pytest.mark.parametrize(("kind", "name"), PUSHES)
def test_a_missing_field_is_parsed_soundly_or_refused(kind: str, name: str) -> None:
    for key in fixture(name):
        parse_hostile(kind, name, {k: v for k, v in fixture(name).items() if k != key})


@every_kind
@given(body=st.binary(max_size=100), content_type=st.binary(max_size=40), event=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_bytes_cause_another_error_than_a_refusal(
    kind: str, body: bytes, content_type: bytes, event: bytes
) -> None:
    headers = {"content-type": (content_type,), EVENT_HEADER[kind]: (event,), DELIVERY_HEADER[kind]: (event,)}
    with suppress(DeliveryRefused):
        ALL[kind].parse(headers, body)
    with suppress(DeliveryRefused):
        find_forge(headers, ALL)


@every_kind
@pytest.mark.parametrize(
    "name", ["--upload-pack=x", "-oProxyCommand=x", "$(id)", "`id`", ";id", "|id", "&&id", "'\"<>#%"]
)
def test_hostile_names_that_git_accepts_reach_the_receiver_unchanged(kind: str, name: str) -> None:
    delivery = sign(kind, _renamed(kind, name))
    (change,) = ALL[kind].parse(delivery.raw_headers, delivery.body).changes
    assert (change.name, change.ref) == (name, f"refs/heads/{name}")


@every_kind
@pytest.mark.parametrize(
    "name", ["../..", "a\nb", "a\0b", "x" * 70_000, "a b", "", "a..b", "\u007f", "x.lock", "/x", "x/"]
)
def test_names_that_git_refuses_are_malformed(kind: str, name: str) -> None:
    delivery = sign(kind, _renamed(kind, name))
    with pytest.raises(MalformedDelivery):
        ALL[kind].parse(delivery.raw_headers, delivery.body)


def _renamed(kind: str, name: str) -> dict[str, Any]:
    """The forge's push, of the branch `name`."""
    payload = fixture(kind)
    if kind == "bitbucket":
        payload["push"]["changes"][0]["new"]["name"] = name
    elif kind == "bitbucket_server":
        payload["changes"][0]["ref"]["id"] = f"refs/heads/{name}"
    else:
        payload["ref"] = f"refs/heads/{name}"
    return payload
