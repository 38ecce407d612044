"""Bitbucket Cloud, and Bitbucket Server with its plugin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import environment, source
from tests.receiver import Station, configuration, station
from tests.unit.signing import SECRET, fixture, sign

HERE = source(forge="bitbucket", repository="acme/orders")
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
    answer = receiver.post(sign("bitbucket", fixture("bitbucket"), delivery_id="first"))
    assert answer.status_code == 202
    document = answer.json()
    assert document["event"]["forge"] == "bitbucket"
    assert document["event"]["repository"] == "acme/orders"
    assert document["event"]["sender"] == "ada"
    (deployment,) = document["deployments"]
    assert (deployment["fraise"], deployment["environment"]) == ("orders", "production")
    assert (deployment["ref"], deployment["commit"]) == ("refs/heads/main", COMMIT)
    assert receiver.deployments() == [("production", COMMIT, "pending")]
    (event,) = receiver.store.events()
    assert (event["id"], event["verdict"]) == (document["event_id"], "accepted")


def test_a_repeated_delivery_gets_the_first_ones_event(receiver: Station) -> None:
    delivery = sign("bitbucket", fixture("bitbucket"), delivery_id="same")
    first = receiver.post(delivery).json()
    again = receiver.post(delivery)
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    assert again.json()["event_id"] == first["event_id"]
    assert len(receiver.deployments()) == 1


def test_the_same_commit_in_another_delivery_asks_for_nothing_new(receiver: Station) -> None:
    assert receiver.post(sign("bitbucket", fixture("bitbucket"))).status_code == 202
    again = receiver.post(sign("bitbucket", fixture("bitbucket")))
    assert (again.status_code, again.json()["status"]) == (200, "ignored")
    assert len(receiver.deployments()) == 1


def test_a_deleted_branch_deploys_nothing(receiver: Station) -> None:
    answer = receiver.post(sign("bitbucket", fixture("bitbucket_branch_delete")))
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    assert not receiver.deployments()
    assert receiver.verdicts() == ["ignored"]


def test_a_tag_goes_to_the_environment_that_follows_tags(receiver: Station) -> None:
    answer = receiver.post(sign("bitbucket", fixture("bitbucket_tag")))
    assert answer.status_code == 202
    assert [each["environment"] for each in answer.json()["deployments"]] == ["releases"]


def test_a_wrong_secret_is_refused_and_leaves_no_trace(receiver: Station) -> None:
    answer = receiver.post(sign("bitbucket", fixture("bitbucket"), b"wrong"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "bad_signature")
    assert not receiver.verdicts()
    assert not receiver.deployments()


def test_a_push_of_another_repository_deploys_nothing(receiver: Station) -> None:
    foreign = fixture("bitbucket")
    foreign["repository"]["full_name"] = "evil/orders"
    answer = receiver.post(sign("bitbucket", foreign))
    assert (answer.status_code, answer.json()["reason"]) == (200, "repository_not_configured")
    assert not receiver.deployments()


def test_a_push_of_several_refs_deploys_each_that_is_followed(receiver: Station) -> None:
    answer = receiver.post(sign("bitbucket", fixture("bitbucket_several")))
    assert answer.status_code == 202
    assert len(answer.json()["event"]["changes"]) > 1


def test_a_push_of_nothing_is_ignored(receiver: Station) -> None:
    answer = receiver.post(sign("bitbucket", fixture("bitbucket_nothing")))
    assert (answer.status_code, answer.json()["reason"]) == (200, "no_changes")


def test_a_pull_request_is_ignored(receiver: Station) -> None:
    answer = receiver.post(sign("bitbucket", fixture("bitbucket_pullrequest"), event="pullrequest:created"))
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")


def test_the_hooks_uuid_is_no_secret(receiver: Station) -> None:
    delivery = sign("bitbucket", fixture("bitbucket"), SECRET).with_headers(x_hub_signature=None)
    assert receiver.post(delivery).status_code == 401


# ------------------------------------------------------------------------------------------------ Server


@pytest.fixture
def server_receiver(tmp_path: Path) -> Iterator[Station]:
    theirs = source(forge="bitbucket_server", repository="ACME/orders")
    with station(tmp_path, configuration(environment(source=theirs))) as served:
        yield served


def test_a_servers_push_becomes_a_deployment(server_receiver: Station) -> None:
    answer = server_receiver.post(sign("bitbucket_server", fixture("bitbucket_server")))
    assert (answer.status_code, answer.json()["event"]["forge"]) == (202, "bitbucket_server")
    assert server_receiver.deployments() == [("production", COMMIT, "pending")]


def test_a_servers_test_is_answered(server_receiver: Station) -> None:
    ping = sign("bitbucket_server", fixture("bitbucket_server_ping"), event="diagnostics:ping")
    answer = server_receiver.post(ping)
    assert (answer.status_code, answer.json()["status"]) == (200, "pong")


def test_the_plugins_dialect_is_understood(server_receiver: Station) -> None:
    delivery = sign("bitbucket_server", fixture("bitbucket_server_plugin"), event="repo:push")
    answer = server_receiver.post(delivery, "/webhook/bitbucket_server")
    assert (answer.status_code, answer.json()["event"]["forge"]) == (202, "bitbucket_server")
