"""What the receiver makes of a delivery: whose it is, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fraisier.application.ports import Configuration, Delivery, ForgeInstance, Headers
from fraisier.application.receive_push import Letter, ReceivePush
from fraisier.domain.deployment import Trigger
from fraisier.domain.errors import BadSignature, MalformedDelivery, NotFound, UnknownForge
from fraisier.domain.fraise import EnvironmentKey
from fraisier.git.detect import find_forge
from fraisier.git.github import GitHub
from tests.factories import SHA_A, SHA_B, environment, source
from tests.receiver import RecordingStore, SystemClock, configuration, receive_push
from tests.unit.signing import SECRET, SignedDelivery, sign

OTHER = b"another secret altogether"
ZERO = "0" * 40


def push(**changes: Any) -> dict[str, Any]:
    """A push to main of acme/orders, as GitHub tells it."""
    base = {
        "ref": "refs/heads/main",
        "before": SHA_A,
        "after": SHA_B,
        "repository": {"full_name": "acme/orders"},
        "sender": {"login": "mona"},
        "commits": [],
    }
    return base | changes


def read(config: Configuration, delivery: SignedDelivery, addressed_to: str = "") -> Delivery:
    letter = Letter(
        headers=delivery.raw_headers, body=delivery.body, addressed_to=addressed_to, remote="192.0.2.1"
    )
    return receive_push(config).read(letter)


def github(**changes: Any) -> SignedDelivery:
    return sign("github", push(**changes))


def wished(delivery: Delivery) -> list[str]:
    return [str(wish.environment) for wish in delivery.wishes]


# ---------------------------------------------------------------------------------------------- routing


def test_a_push_to_a_followed_branch_asks_for_the_pushed_commit() -> None:
    delivery = read(configuration(environment()), github())
    (wish,) = delivery.wishes
    assert wish.environment == EnvironmentKey("orders", "production")
    assert (wish.ref, wish.commit, wish.tip) == ("refs/heads/main", SHA_B, SHA_B)
    assert (wish.trigger, wish.requested_by) == (Trigger.webhook, "mona")
    assert (delivery.reason, delivery.remote, delivery.payload) == ("", "192.0.2.1", github().body)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ref": "refs/heads/other"}, "ref_not_followed"),
        ({"ref": "refs/tags/main"}, "ref_not_followed"),
        ({"after": ZERO, "deleted": True, "head_commit": None}, "deleted"),
        ({"repository": {"full_name": "acme/orders-fork"}}, "repository_not_configured"),
        ({"repository": {"full_name": "evil/orders"}}, "repository_not_configured"),
        ({"ref": "refs/heads/--upload-pack=x"}, "ref_not_followed"),
        ({"ref": "refs/heads/$(id)"}, "ref_not_followed"),
    ],
)
def test_an_authentic_push_that_nobody_waits_for_is_ignored_with_a_reason(
    changes: dict[str, Any], reason: str
) -> None:
    delivery = read(configuration(environment()), github(**changes))
    assert not delivery.wishes
    assert delivery.reason == reason


@pytest.mark.parametrize("name", ["main\n", "a b", "../..", "a..b", "x" * 70_000, "main\x00", "-~^"])
def test_a_ref_that_git_refuses_is_malformed(name: str) -> None:
    with pytest.raises(MalformedDelivery):
        read(configuration(environment()), github(ref=f"refs/heads/{name}"))


def test_a_repository_is_the_same_in_any_case() -> None:
    assert read(configuration(environment()), github(repository={"full_name": "Acme/ORDERS"})).wishes


def test_every_environment_that_follows_the_branch_is_wished_for_once() -> None:
    config = configuration(
        environment(),
        environment(name="staging"),
        environment(name="tagged", branch="", tag="v*"),
        environment(fraise="billing"),
        environment(fraise="elsewhere", source=source(repository="acme/elsewhere")),
    )
    assert wished(read(config, github())) == ["orders/production", "orders/staging", "billing/production"]
    assert wished(read(config, github(ref="refs/tags/v1.0"))) == ["orders/tagged"]


def test_a_push_of_several_refs_asks_for_each_that_is_followed() -> None:
    def moved(name: str, kind: str, commit: str | None) -> dict[str, Any]:
        new = {"type": kind, "name": name, "target": {"hash": commit}} if commit else None
        return {"old": {"type": kind, "name": name, "target": {"hash": SHA_A}}, "new": new}

    changes = [moved("main", "branch", SHA_B), moved("staging", "branch", None), moved("v1", "tag", SHA_A)]
    payload = {"push": {"changes": changes}, "repository": {"full_name": "acme/orders"}, "actor": {}}
    mine = source(forge="bitbucket")
    config = configuration(
        environment(source=mine),
        environment(name="staging", branch="staging", source=mine),
        environment(name="tags", branch="", tag="v*", source=mine),
    )
    delivery = read(config, sign("bitbucket", payload))
    assert [(str(wish.environment), wish.commit) for wish in delivery.wishes] == [
        ("orders/production", SHA_B),
        ("orders/tags", SHA_A),
    ]


def test_the_branch_mapping_decides_instead_of_the_environments_branch() -> None:
    staging = environment(name="staging")
    config = configuration(environment(), staging, routes={"dev": (staging.key,)})
    assert wished(read(config, github())) == ["orders/production"]
    assert wished(read(config, github(ref="refs/heads/dev"))) == ["orders/staging"]
    assert wished(read(config, github(ref="refs/tags/dev"))) == []


def test_events_that_are_no_push_ask_for_nothing() -> None:
    config = configuration(environment())
    other = read(config, sign("github", push(), event="issues"))
    assert (other.wishes, other.reason) == ((), "event_not_a_push: issues")
    ping = read(config, sign("github", {"zen": "Keep it simple"}, event="ping"))
    assert (ping.wishes, ping.reason, ping.push.kind) == ((), "", "ping")


def test_a_new_configuration_counts_from_the_next_delivery_on() -> None:
    verb = receive_push(configuration(environment()))
    letter = Letter(headers=github().raw_headers, body=github().body)
    assert verb.read(letter).wishes
    verb.reconfigure(configuration(environment(branch="release")))
    assert verb.read(letter).reason == "ref_not_followed"


# --------------------------------------------------------------------------------------------- authority


def test_nothing_is_parsed_that_is_not_signed() -> None:
    unsigned = sign("github", b"no json at all", OTHER)
    with pytest.raises(BadSignature):
        read(configuration(environment()), unsigned)


def test_a_forge_without_a_secret_refuses_everything() -> None:
    bare = (
        ForgeInstance(name="github", kind="github"),
        ForgeInstance(name="gitea", kind="gitea", secrets=(b"",)),
    )
    config = configuration(environment(), forges=bare)
    for kind in ("github", "gitea", "gitlab"):
        for secret in (b"", SECRET):
            with pytest.raises(BadSignature):
                read(config, sign(kind, push(), secret))


def test_any_listed_secret_verifies_while_secrets_rotate() -> None:
    rotating = (ForgeInstance(name="github", kind="github", secrets=(OTHER, SECRET)),)
    config = configuration(environment(), forges=rotating)
    assert read(config, sign("github", push(), OTHER)).wishes
    assert read(config, sign("github", push(), SECRET)).wishes


def test_a_fraises_own_secret_speaks_for_that_fraise_only() -> None:
    billing = environment(fraise="billing", source=source(repository="acme/billing"))
    bare = (ForgeInstance(name="github", kind="github"),)
    config = configuration(environment(), billing, forges=bare, fraise_secrets={"orders": (OTHER,)})
    assert wished(read(config, sign("github", push(), OTHER))) == ["orders/production"]
    foreign = read(config, sign("github", push(repository={"full_name": "acme/billing"}), OTHER))
    assert (foreign.wishes, foreign.reason) == ((), "secret_of_another_fraise")


def test_the_forges_secret_speaks_for_fraises_with_their_own_too() -> None:
    config = configuration(environment(), fraise_secrets={"orders": (OTHER,)})
    assert read(config, github()).wishes
    assert read(config, sign("github", push(), OTHER)).wishes


def test_fraises_that_share_a_secret_are_both_spoken_for() -> None:
    billing = environment(fraise="billing")
    own = {"orders": (OTHER,), "billing": (OTHER,)}
    config = configuration(environment(), billing, fraise_secrets=own)
    assert wished(read(config, sign("github", push(), OTHER))) == ["orders/production", "billing/production"]


def test_a_forgery_is_not_looked_at_once_for_each_fraise_with_a_secret() -> None:
    looks: list[int] = []

    class Looking(GitHub):
        def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:
            looks.append(len(secrets))
            super().verify(headers, body, secrets, now=now)

    fraises = [environment(fraise=f"fraise-{number}") for number in range(20)]
    own = {each.fraise: (f"secret of {each.fraise}".encode(),) for each in fraises}
    config = configuration(*fraises, fraise_secrets=own)
    receive = ReceivePush(
        config,
        forges={"github": Looking()},
        find_forge=find_forge,
        record=RecordingStore().record,
        clock=SystemClock(),
    )
    forged = sign("github", push(), b"nobody's")
    with pytest.raises(BadSignature):
        receive.read(Letter(headers=forged.raw_headers, body=forged.body))
    assert looks == [1, 20]


def test_an_instance_of_a_forge_speaks_only_for_the_fraises_on_it() -> None:
    forges = (
        ForgeInstance(name="github", kind="github", secrets=(SECRET,)),
        ForgeInstance(name="work", kind="github", secrets=(OTHER,)),
    )
    at_work = environment(fraise="internal", source=source(forge="work"))
    config = configuration(environment(), at_work, forges=forges)
    assert wished(read(config, sign("github", push(), SECRET))) == ["orders/production"]
    assert wished(read(config, sign("github", push(), OTHER))) == ["internal/production"]
    assert wished(read(config, sign("github", push(), OTHER), "work")) == ["internal/production"]
    with pytest.raises(BadSignature):
        read(config, sign("github", push(), SECRET), "work")


def test_instances_that_share_a_secret_are_told_apart_by_the_repository() -> None:
    forges = tuple(ForgeInstance(name=name, kind="github", secrets=(SECRET,)) for name in ("one", "two"))
    config = configuration(
        environment(source=source(forge="one", repository="acme/first")),
        environment(fraise="second", source=source(forge="two")),
        forges=forges,
    )
    assert wished(read(config, github())) == ["second/production"]


# -------------------------------------------------------------------------------------------- addressing


def test_a_forge_that_nobody_knows_is_not_found() -> None:
    with pytest.raises(NotFound) as refused:
        read(configuration(environment()), github(), "sourcehut")
    assert "bitbucket_server" in refused.value.hint


def test_a_brand_or_an_instance_may_be_addressed() -> None:
    forges = (ForgeInstance(name="bitbucket", kind="bitbucket_server", secrets=(SECRET,)),)
    mine = environment(source=source(forge="bitbucket", repository="ACME/orders"))
    change = {
        "ref": {"id": "refs/heads/main", "displayId": "main", "type": "BRANCH"},
        "refId": "refs/heads/main",
        "fromHash": SHA_A,
        "toHash": SHA_B,
        "type": "UPDATE",
    }
    payload = {"changes": [change], "repository": {"slug": "orders", "project": {"key": "ACME"}}}
    delivery = sign("bitbucket_server", payload)
    for name in ("", "bitbucket", "bitbucket_server"):
        assert wished(read(configuration(mine, forges=forges), delivery, name)) == ["orders/production"]


@pytest.mark.parametrize("addressed_to", ["", "github", "gitlab"])
def test_headers_of_two_forges_are_refused_wherever_they_go(addressed_to: str) -> None:
    mixed = replace(github(), headers=github().headers | sign("gitlab", push()).headers)
    with pytest.raises(UnknownForge):
        read(configuration(environment()), mixed, addressed_to)


def test_headers_of_no_forge_are_refused() -> None:
    bare = SignedDelivery({"Content-Type": "application/json"}, json.dumps(push()).encode())
    with pytest.raises(UnknownForge):
        read(configuration(environment()), bare)


def test_forgejo_and_gogs_are_gitea_though_they_send_githubs_headers() -> None:
    mine = environment(source=source(forge="gitea"))
    for kin in ("gitea", "forgejo", "gogs"):
        delivery = read(configuration(mine), sign(kin, push()))
        assert (delivery.push.forge, wished(delivery)) == ("gitea", ["orders/production"])
