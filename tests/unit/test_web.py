"""The HTTP side: answers, errors, addresses, limits, what others may see."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraisier.application.ports import Delivery, ForgeInstance, Received
from fraisier.domain.errors import StoreUnavailable
from fraisier.domain.window import parse
from fraisier.web.addresses import Addresses, site
from fraisier.web.limits import FailedAuthentications
from tests.factories import SHA_A, SHA_B, environment
from tests.fakes import FakeClock
from tests.receiver import RecordingStore, application, call, configuration, deliver
from tests.unit.signing import SECRET, sign
from tests.unit.test_receive_push import push


def bad_signature(app: Any, **request: Any) -> int:
    return deliver(app, sign("github", push(), b"wrong"), **request).status_code


# ----------------------------------------------------------------------------------------------- answers


def test_an_accepted_push_is_answered_with_all_that_follows_from_it() -> None:
    answer = deliver(application(configuration(environment())), sign("github", push(), delivery_id="d-1"))
    assert answer.status_code == 202
    document = answer.json()
    assert set(document) == {"status", "event_id", "event", "deployments", "superseded"}
    assert document["status"] == "accepted"
    assert document["event"] == {
        "forge": "github",
        "type": "push",
        "repository": "acme/orders",
        "sender": "mona",
        "delivery_id": "d-1",
        "changes": [
            {
                "kind": "branch",
                "name": "main",
                "before": SHA_A,
                "after": SHA_B,
                "commit": SHA_B,
                "created": False,
                "deleted": False,
                "forced": False,
            }
        ],
    }
    (deployment,) = document["deployments"]
    assert set(deployment) == {"id", "fraise", "environment", "ref", "commit"}
    assert (deployment["fraise"], deployment["ref"], deployment["commit"]) == (
        "orders",
        "refs/heads/main",
        SHA_B,
    )


@pytest.mark.parametrize(
    ("delivery", "status", "reason"),
    [
        (sign("github", push(ref="refs/heads/other")), "ignored", "ref_not_followed"),
        (sign("github", {"zen": "x"}, event="ping"), "pong", ""),
        (sign("github", push(), event="star"), "ignored", "event_not_a_push: star"),
    ],
)
def test_what_is_authentic_and_deploys_nothing_is_answered_with_200(
    delivery: Any, status: str, reason: str
) -> None:
    answer = deliver(application(), delivery)
    assert answer.status_code == 200
    document = answer.json()
    assert set(document) == {"status", "event_id", "event", "reason"}
    assert (document["status"], document["reason"]) == (status, reason)


@pytest.mark.parametrize(
    "path",
    [
        "/webhook",
        "/webhook/",
        "/webhook/github",
        "/webhook?provider=github",
        "/webhook/github/?provider=github",
    ],
)
def test_the_forge_may_be_named_in_path_or_query(path: str) -> None:
    assert deliver(application(configuration(environment())), sign("github", push()), path).status_code == 202


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/webhook/sourcehut", 404, "not_found"),
        ("/webhook/github/more", 404, "not_found"),
        ("/webhook?provider=sourcehut", 400, "unknown_forge"),
        ("/webhook/github?provider=gitlab", 400, "unknown_forge"),
        ("/webhook?provider=gitlab&provider=github", 400, "unknown_forge"),
        ("/webhook/gitlab", 401, "bad_signature"),
        ("/elsewhere", 404, "not_found"),
        ("/health", 405, "method_not_allowed"),
    ],
)
def test_a_wrong_address_is_refused_with_a_hint(path: str, status: int, code: str) -> None:
    answer = deliver(application(), sign("github", push()), path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"].startswith("cannot ")
    assert error["hint"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_a_webhook_is_posted(method: str) -> None:
    answer = call(application(), method, "/webhook")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"[]", 400),
        ({}, b"{", 400),
        ({}, b"[" * 100_000, 400),
        ({}, b'{"ref": NaN}', 400),
        ({}, b'{"ref": "\xff"}', 400),
        ({}, b'{"ref": "refs/heads/\\ud800"}', 400),
        ({}, b'{"ref": 1, "ref": "refs/heads/main"}', 400),
        ({}, b'{"ref": ' + b"9" * 100_000 + b"}", 400),
        ({}, b"", 400),
        ({"content_type": "text/plain"}, b"{}", 415),
        ({"content_encoding": "gzip"}, b"\x1f\x8b" + b"\0" * 100, 415),
        ({"x_github_event": None, "x_github_hook_id": None}, b"{}", 400),
    ],
)
def test_signed_nonsense_is_refused_and_never_recorded(
    headers: dict[str, str | None], body: bytes, status: int
) -> None:
    store = RecordingStore()
    delivery = sign("github", body).with_headers(**headers)
    assert deliver(application(store=store), delivery).status_code == status
    assert not store.deliveries


@pytest.mark.parametrize(
    "value", ["", "sha256=", "sha256=é", "sha256=" + "0" * 64, "sha1=" + "0" * 40, "x" * 5000]
)
def test_a_wrong_signature_is_a_401(value: str) -> None:
    delivery = sign("github", push())
    headers = {**delivery.headers, "X-Hub-Signature-256": value}
    answer = call(
        application(),
        "POST",
        "/webhook",
        content=delivery.body,
        headers=[(name.encode(), text.encode()) for name, text in headers.items()],
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "bad_signature")


def test_a_doubled_signature_is_a_401() -> None:
    delivery = sign("github", push())
    headers = [*delivery.headers.items(), ("X-Hub-Signature-256", "sha256=" + "0" * 64)]
    answer = call(application(), "POST", "/webhook", content=delivery.body, headers=headers)
    assert answer.status_code == 401


def test_a_store_that_cannot_store_is_a_503_with_retry_after() -> None:
    store = RecordingStore()
    store.failure = StoreUnavailable("cannot use the database", "Free some space")
    answer = deliver(application(store=store), sign("github", push()))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "store_unavailable"


def test_the_unexpected_is_a_500_as_json_that_tells_nothing() -> None:
    class Broken(RecordingStore):
        async def record(self, delivery: Delivery) -> Received:
            raise RuntimeError(SECRET.decode())

    answer = deliver(application(store=Broken()), sign("github", push()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert SECRET.decode() not in answer.text


@pytest.mark.parametrize("path", ["/webhook", "/health", "/ready", "/metrics", "/providers", "/nothing"])
def test_no_answer_is_kept_or_guessed_at(path: str) -> None:
    headers = call(application(), "GET", path).headers
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


# ------------------------------------------------------------------------------------------------ limits


def test_failures_are_limited_per_address_and_authentic_pushes_never() -> None:
    app = application(configuration(environment(), failed_auth_limit="3/minute"))
    assert [bad_signature(app) for _ in range(5)] == [401, 401, 401, 429, 429]
    assert bad_signature(app, client="192.0.2.7") == 401
    assert deliver(app, sign("github", push())).status_code == 202
    answer = deliver(app, sign("github", push(), b"wrong"))
    assert answer.json()["error"]["code"] == "too_many_failures"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_the_window_of_failures_moves() -> None:
    clock = FakeClock()
    failures = FailedAuthentications("2/minute", monotonic=clock.monotonic)
    assert failures.count("a") == 0
    clock.advance(40)
    assert failures.count("a") == 0
    assert failures.count("a") == 20
    clock.advance(21)
    assert failures.count("a") == 0
    assert failures.count("a") == 39


def test_failures_from_everywhere_are_remembered_in_bounded_memory() -> None:
    failures = FailedAuthentications("2/minute", monotonic=FakeClock().monotonic)
    for number in range(25_000):
        failures.count(str(number))
    assert len(failures) == 10_000


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.5, 10.0.0.9"], "203.0.113.5"),
        ("10.0.0.1", ["203.0.113.5:4711"], "203.0.113.5"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, nonsense, 10.0.0.9"], "10.0.0.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("192.0.2.1", ["203.0.113.5"], "192.0.2.1"),
        ("", ["203.0.113.5"], ""),
    ],
)
def test_the_client_is_the_rightmost_hop_that_is_no_trusted_proxy(
    peer: str, forwarded: list[str], client: str
) -> None:
    headers = {"x-forwarded-for": tuple(each.encode() for each in forwarded)}
    assert Addresses(["10.0.0.0/8"]).client(peer, headers) == client


def test_nobody_is_believed_who_is_no_configured_proxy() -> None:
    app = application(configuration(failed_auth_limit="1/minute"))
    delivery = sign("github", push(), b"wrong")
    statuses = [
        deliver(app, delivery.with_headers(x_forwarded_for=f"203.0.113.{number}")).status_code
        for number in range(3)
    ]
    assert statuses == [401, 429, 429]


def test_one_customers_ipv6_addresses_are_one() -> None:
    assert site("2001:db8::1") == site("2001:db8::ffff:2") != site("2001:db8:0:1::1")
    assert site("::ffff:192.0.2.1") == site("192.0.2.1") == "192.0.2.1"


# ----------------------------------------------------------------------------------------- what is shown


def test_health_tells_that_it_is_alive_and_which_version() -> None:
    answer = call(application(), "GET", "/health")
    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "version"}
    assert call(application(), "HEAD", "/health").status_code == 200


def test_ready_names_every_part_that_is_not() -> None:
    store = RecordingStore()
    app = application(store=store)
    assert call(app, "GET", "/ready").json() == {
        "status": "ok",
        "database": "ok",
        "worker": "ok",
        "config": "ok",
        "deployments": "ok",
        "holds": "ok",
    }
    store.workers = []
    store.failure = StoreUnavailable("cannot use the database", "Free some space")
    app.keep_configuration("cannot use the configuration: fraises.yaml:3:1: oh")
    answer = call(app, "GET", "/ready")
    assert answer.status_code == 503
    parts = answer.json()
    assert "Free some space" in parts["database"]
    assert "no worker" in parts["worker"]
    assert "fraises.yaml:3:1" in parts["config"]
    app.reconfigure(configuration())
    assert call(app, "GET", "/ready").json()["config"] == "ok"


WAITING = {
    "id": "d1",
    "fraise_id": "orders",
    "environment": "production",
    "status": "pending",
    "trigger": "webhook",
    "force": False,
    "labels": [],
}
PAUSED = {
    "fraise_id": "orders",
    "environment": "production",
    "paused": True,
    "paused_by": "anna",
    "paused_at": "2026-11-23T07:00:00.000000Z",
    "paused_reason": "moving",
}


def test_ready_tells_what_is_held_back_which_is_no_fault() -> None:
    store = RecordingStore()
    store.waiting, store.environments = [WAITING], [PAUSED]
    answer = call(application(store=store), "GET", "/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert answer.json()["holds"] == "orders/production is paused by anna since 2026-11-23 07:00 UTC: moving"
    store.waiting = [{**WAITING, "trigger": "rollback"}]
    assert call(application(store=store), "GET", "/ready").json()["holds"] == "ok"


def test_ready_tells_until_when_a_window_is_closed() -> None:
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    past = (datetime.now(UTC) - timedelta(days=2)).weekday()
    closed = environment(allowed=(parse(f"{days[past]} 08:00-09:00 UTC"),))
    store = RecordingStore()
    store.waiting, store.environments = [WAITING], [{**PAUSED, "paused": False}]
    shown = call(application(configuration(closed), store=store), "GET", "/ready").json()["holds"]
    assert shown.startswith(
        f"orders/production is outside of its allowed times ({days[past]} 08:00-09:00 UTC)"
    )
    assert shown.endswith("08:00 UTC")


def test_ready_tells_what_waits_for_another_machine_and_stays_ready() -> None:
    store = RecordingStore()
    store.waiting = [{**WAITING, "labels": ["web1", "gpu"]}]
    answer = call(application(store=store), "GET", "/ready")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    why = "orders/production waits: no live worker has the labels [web1, gpu]"
    assert answer.json()["deployments"] == why


def test_metrics_count_what_came_and_what_waits() -> None:
    app = application(configuration(environment()))
    deliver(app, sign("github", push()))
    deliver(app, sign("github", push(ref="refs/heads/other")))
    bad_signature(app)
    text = call(app, "GET", "/metrics").text
    assert 'fraisier_webhook_events_total{forge="github",verdict="accepted"} 1.0' in text
    assert 'fraisier_webhook_events_total{forge="github",verdict="ignored"} 1.0' in text
    assert 'fraisier_webhook_refused_total{code="bad_signature"} 1.0' in text
    assert 'fraisier_deployments{status="success"} 5.0' in text
    assert "fraisier_deployments_waiting 2.0" in text
    assert "fraisier_webhook_seconds_count 2.0" in text
    assert "fraisier_bodies_in_flight_bytes 0.0" in text
    assert 'fraisier_alert{environment="production",fraise="orders",job="load",kind="missed"} 1.0' in text
    assert 'fraisier_runs_total{status="failed"} 3.0' in text
    assert "fraisier_alerts_raised_total 4.0" in text


def test_providers_lists_forges_without_their_secrets() -> None:
    forges = (
        ForgeInstance(name="work", kind="gitlab", secrets=(SECRET,)),
        ForgeInstance(name="github", kind="github"),
    )
    config = configuration(environment(), forges=forges, fraise_secrets={"orders": (b"hush, hush",)})
    answer = call(application(config), "GET", "/providers")
    work, github = answer.json()["providers"]
    assert (work["name"], work["kind"], work["path"], work["secret_set"]) == (
        "work",
        "gitlab",
        "/webhook/work",
        True,
    )
    assert (github["secret_set"], github["fraises_with_own_secret"]) == (False, ["orders"])
    assert SECRET.decode() not in answer.text
    assert "hush" not in answer.text


def test_a_changed_configuration_changes_what_is_let_in() -> None:
    app = application(configuration(environment()))
    app.reconfigure(configuration(environment(), max_body=10))
    assert deliver(app, sign("github", push())).status_code == 413


def test_surrogates_in_a_name_do_not_break_the_answer() -> None:
    answer = deliver(application(), sign("github", push()), "/webhook/%ed%a0%80")
    assert answer.status_code == 404
    assert json.loads(answer.content)
