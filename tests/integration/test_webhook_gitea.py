"""Gitea, Forgejo and Gogs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import environment, source
from tests.receiver import Station, configuration, station
from tests.unit.signing import SECRET, fixture, sign

HERE = source(forge="gitea", repository="acme/orders")
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
    answer = receiver.post(sign("gitea", fixture("gitea"), delivery_id="first"))
    assert answer.status_code == 202
    document = answer.json()
    assert document["event"]["forge"] == "gitea"
    assert document["event"]["repository"] == "acme/orders"
    assert document["event"]["sender"] == "ada"
    (deployment,) = document["deployments"]
    assert (deployment["fraise"], deployment["environment"]) == ("orders", "production")
    assert (deployment["ref"], deployment["commit"]) == ("refs/heads/main", COMMIT)
    assert receiver.deployments() == [("production", COMMIT, "pending")]
    (event,) = receiver.store.events()
    assert (event["id"], event["verdict"]) == (document["event_id"], "accepted")


def test_a_repeated_delivery_gets_the_first_ones_event(receiver: Station) -> None:
    delivery = sign("gitea", fixture("gitea"), delivery_id="same")
    first = receiver.post(delivery).json()
    again = receiver.post(delivery)
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    assert again.json()["event_id"] == first["event_id"]
    assert len(receiver.deployments()) == 1


def test_the_same_commit_in_another_delivery_asks_for_nothing_new(receiver: Station) -> None:
    assert receiver.post(sign("gitea", fixture("gitea"))).status_code == 202
    again = receiver.post(sign("gitea", fixture("gitea")))
    assert (again.status_code, again.json()["status"]) == (200, "ignored")
    assert len(receiver.deployments()) == 1


def test_a_deleted_branch_deploys_nothing(receiver: Station) -> None:
    answer = receiver.post(sign("gitea", fixture("gitea_delete"), event="delete"))
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    assert not receiver.deployments()
    assert receiver.verdicts() == ["ignored"]


def test_a_tag_goes_to_the_environment_that_follows_tags(receiver: Station) -> None:
    answer = receiver.post(sign("gitea", fixture("gitea_tag")))
    assert answer.status_code == 202
    assert [each["environment"] for each in answer.json()["deployments"]] == ["releases"]


def test_a_wrong_secret_is_refused_and_leaves_no_trace(receiver: Station) -> None:
    answer = receiver.post(sign("gitea", fixture("gitea"), b"wrong"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "bad_signature")
    assert not receiver.verdicts()
    assert not receiver.deployments()


def test_a_push_of_another_repository_deploys_nothing(receiver: Station) -> None:
    foreign = fixture("gitea")
    foreign["repository"]["full_name"] = "evil/orders"
    answer = receiver.post(sign("gitea", foreign))
    assert (answer.status_code, answer.json()["reason"]) == (200, "repository_not_configured")
    assert not receiver.deployments()


@pytest.mark.parametrize("kin", ["gitea", "forgejo", "gogs"])
@pytest.mark.parametrize("path", ["/webhook", "/webhook/gitea", "/webhook?provider=gitea"])
def test_the_whole_family_is_gitea(receiver: Station, kin: str, path: str) -> None:
    answer = receiver.post(sign(kin, fixture(kin)), path)
    assert (answer.status_code, answer.json()["event"]["forge"]) == (202, "gitea")


def test_a_form_is_signed_over_the_json_inside(receiver: Station) -> None:
    assert receiver.post(sign("gitea", fixture("gitea"), form=True)).status_code == 202


def test_a_new_branch_is_deployed_by_its_push_not_by_its_creation(receiver: Station) -> None:
    assert receiver.post(sign("gitea", fixture("gitea_create"), event="create")).status_code == 200
    assert not receiver.deployments()


def test_empty_signature_headers_let_nobody_in(receiver: Station) -> None:
    delivery = sign("gitea", fixture("gitea"), SECRET)
    emptied = {name.replace("-", "_"): "" for name in delivery.headers if "signature" in name.lower()}
    assert receiver.post(delivery.with_headers(**emptied)).status_code == 401
