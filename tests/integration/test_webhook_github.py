"""GitHub and GitHub Enterprise Server, from the wire to the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import environment, source
from tests.receiver import Station, configuration, station
from tests.unit.signing import SignedDelivery, fixture, sign

HERE = source(forge="github", repository="acme/orders")
COMMIT = "ad782ecdac770fc6eb9a62e44f90873fb97fb26b"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Station]:
    config = configuration(
        environment(source=HERE),
        environment(name="releases", branch="", tag="v*", source=HERE),
    )
    with station(tmp_path, config) as served:
        yield served


def test_a_push_becomes_a_deployment_of_its_commit(receiver: Station) -> None:
    answer = receiver.post(sign("github", fixture("github"), delivery_id="first"))
    assert answer.status_code == 202
    document = answer.json()
    assert document["event"]["forge"] == "github"
    assert document["event"]["repository"] == "acme/orders"
    assert document["event"]["sender"] == "ada"
    (deployment,) = document["deployments"]
    assert (deployment["fraise"], deployment["environment"]) == ("orders", "production")
    assert (deployment["ref"], deployment["commit"]) == ("refs/heads/main", COMMIT)
    assert receiver.deployments() == [("production", COMMIT, "pending")]
    (event,) = receiver.store.events()
    assert (event["id"], event["verdict"]) == (document["event_id"], "accepted")


def test_a_repeated_delivery_gets_the_first_ones_event(receiver: Station) -> None:
    delivery = sign("github", fixture("github"), delivery_id="same")
    first = receiver.post(delivery).json()
    again = receiver.post(delivery)
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    assert again.json()["event_id"] == first["event_id"]
    assert len(receiver.deployments()) == 1


def test_the_same_commit_in_another_delivery_asks_for_nothing_new(receiver: Station) -> None:
    assert receiver.post(sign("github", fixture("github"))).status_code == 202
    again = receiver.post(sign("github", fixture("github")))
    assert (again.status_code, again.json()["status"]) == (200, "ignored")
    assert len(receiver.deployments()) == 1


def test_a_deleted_branch_deploys_nothing(receiver: Station) -> None:
    answer = receiver.post(sign("github", fixture("github_branch_delete")))
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    assert not receiver.deployments()
    assert receiver.verdicts() == ["ignored"]


def test_a_tag_goes_to_the_environment_that_follows_tags(receiver: Station) -> None:
    answer = receiver.post(sign("github", fixture("github_tag")))
    assert answer.status_code == 202
    assert [each["environment"] for each in answer.json()["deployments"]] == ["releases"]


def test_a_wrong_secret_is_refused_and_leaves_no_trace(receiver: Station) -> None:
    answer = receiver.post(sign("github", fixture("github"), b"wrong"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "bad_signature")
    assert not receiver.verdicts()
    assert not receiver.deployments()


def test_a_push_of_another_repository_deploys_nothing(receiver: Station) -> None:
    foreign = fixture("github") | {"repository": {"full_name": "evil/orders"}}
    answer = receiver.post(sign("github", foreign))
    assert (answer.status_code, answer.json()["reason"]) == (200, "repository_not_configured")
    assert not receiver.deployments()


def test_a_ping_is_answered(receiver: Station) -> None:
    answer = receiver.post(sign("github", fixture("github_ping"), event="ping"))
    assert (answer.status_code, answer.json()["status"]) == (200, "pong")


def test_a_form_is_verified_as_it_was_sent(receiver: Station) -> None:
    assert receiver.post(sign("github", fixture("github"), form=True)).status_code == 202


def test_an_enterprise_server_is_github(receiver: Station) -> None:
    assert receiver.post(sign("ghes", fixture("github"))).json()["event"]["forge"] == "github"


@pytest.mark.parametrize(("name", "event"), [("github_create", "create"), ("github_issues", "issues")])
def test_other_events_are_recorded_and_ignored(receiver: Station, name: str, event: str) -> None:
    answer = receiver.post(sign("github", fixture(name), event=event))
    assert (answer.status_code, answer.json()["reason"]) == (200, f"event_not_a_push: {event}")
    assert receiver.verdicts() == ["ignored"]


def test_a_newer_push_supersedes_the_one_that_waits(receiver: Station) -> None:
    first = receiver.post(sign("github", fixture("github"))).json()
    second = receiver.post(sign("github", fixture("github") | {"after": "c" * 40})).json()
    assert second["superseded"] == [first["deployments"][0]["id"]]
    assert receiver.deployments() == [
        ("production", "c" * 40, "pending"),
        ("production", COMMIT, "superseded"),
    ]


def test_pushes_of_a_b_a_deploy_a_twice(receiver: Station) -> None:
    for commit in ("a" * 40, "b" * 40, "a" * 40):
        assert receiver.post(sign("github", fixture("github") | {"after": commit})).status_code == 202
    assert [commit[0] for _, commit, _ in receiver.deployments()] == ["a", "b", "a"]


def test_sha1_alone_is_never_enough(receiver: Station) -> None:
    delivery: SignedDelivery = sign("github", fixture("github")).with_headers(x_hub_signature_256=None)
    assert receiver.post(delivery).status_code == 401
