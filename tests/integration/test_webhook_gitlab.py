"""GitLab: project hooks and system hooks, token and signing token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fraisier.application.ports import ForgeInstance
from tests.factories import environment, source
from tests.receiver import Station, configuration, station
from tests.unit.signing import SECRET, SIGNING_TOKEN, fixture, sign

HERE = source(forge="gitlab", repository="acme/backend/orders")
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
    answer = receiver.post(sign("gitlab", fixture("gitlab"), delivery_id="first"))
    assert answer.status_code == 202
    document = answer.json()
    assert document["event"]["forge"] == "gitlab"
    assert document["event"]["repository"] == "acme/backend/orders"
    assert document["event"]["sender"] == "ada"
    (deployment,) = document["deployments"]
    assert (deployment["fraise"], deployment["environment"]) == ("orders", "production")
    assert (deployment["ref"], deployment["commit"]) == ("refs/heads/main", COMMIT)
    assert receiver.deployments() == [("production", COMMIT, "pending")]
    (event,) = receiver.store.events()
    assert (event["id"], event["verdict"]) == (document["event_id"], "accepted")


def test_a_repeated_delivery_gets_the_first_ones_event(receiver: Station) -> None:
    delivery = sign("gitlab", fixture("gitlab"), delivery_id="same")
    first = receiver.post(delivery).json()
    again = receiver.post(delivery)
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    assert again.json()["event_id"] == first["event_id"]
    assert len(receiver.deployments()) == 1


def test_the_same_commit_in_another_delivery_asks_for_nothing_new(receiver: Station) -> None:
    assert receiver.post(sign("gitlab", fixture("gitlab"))).status_code == 202
    again = receiver.post(sign("gitlab", fixture("gitlab")))
    assert (again.status_code, again.json()["status"]) == (200, "ignored")
    assert len(receiver.deployments()) == 1


def test_a_deleted_branch_deploys_nothing(receiver: Station) -> None:
    answer = receiver.post(sign("gitlab", fixture("gitlab_branch_delete")))
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    assert not receiver.deployments()
    assert receiver.verdicts() == ["ignored"]


def test_a_tag_goes_to_the_environment_that_follows_tags(receiver: Station) -> None:
    answer = receiver.post(sign("gitlab", fixture("gitlab_tag"), event="Tag Push Hook"))
    assert answer.status_code == 202
    assert [each["environment"] for each in answer.json()["deployments"]] == ["releases"]


def test_a_wrong_secret_is_refused_and_leaves_no_trace(receiver: Station) -> None:
    answer = receiver.post(sign("gitlab", fixture("gitlab"), b"wrong"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "bad_signature")
    assert not receiver.verdicts()
    assert not receiver.deployments()


def test_a_push_of_another_repository_deploys_nothing(receiver: Station) -> None:
    foreign = fixture("gitlab")
    foreign["project"]["path_with_namespace"] = "acme/orders"
    answer = receiver.post(sign("gitlab", foreign))
    assert (answer.status_code, answer.json()["reason"]) == (200, "repository_not_configured")
    assert not receiver.deployments()


def test_a_system_hooks_push_is_a_push(receiver: Station) -> None:
    answer = receiver.post(sign("gitlab", fixture("gitlab_system_push"), event="System Hook"))
    assert answer.status_code == 202


def test_a_system_hooks_other_events_are_ignored(receiver: Station) -> None:
    payload = fixture("gitlab_system_repository_update")
    answer = receiver.post(sign("gitlab", payload, event="System Hook"))
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")


def test_a_merge_request_is_ignored(receiver: Station) -> None:
    answer = receiver.post(sign("gitlab", fixture("gitlab_merge_request"), event="Merge Request Hook"))
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")


def test_a_signing_token_is_verified_with_the_present_time(receiver: Station, tmp_path: Path) -> None:
    instance = ForgeInstance(name="gitlab", kind="gitlab", secrets=(SECRET, SIGNING_TOKEN))
    receiver.served.app.reconfigure(configuration(environment(source=HERE), forges=(instance,)))
    stale = sign("gitlab_signed", fixture("gitlab"), SIGNING_TOKEN)
    assert receiver.post(stale).status_code == 401
    assert receiver.post(stale.with_headers(x_gitlab_token=SECRET.decode())).status_code == 401
