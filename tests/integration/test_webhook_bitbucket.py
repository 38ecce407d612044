"""Bitbucket Cloud, and Bitbucket Server with its plugin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.factories import environment, source
from tests.integration.webhook_flow import COMMIT, Flow
from tests.receiver import Station, configuration, station
from tests.unit.signing import fixture, sign


class TestBitbucket(Flow):
    """Bitbucket Cloud."""

    forge = "bitbucket"
    events: ClassVar[dict[str, str]] = {"pullrequest": "pullrequest:created"}

    def test_a_push_of_several_refs_deploys_each_that_is_followed(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery("several"))
        assert answer.status_code == 202
        assert len(answer.json()["event"]["changes"]) > 1

    def test_a_push_of_nothing_is_ignored(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery("nothing"))
        assert (answer.status_code, answer.json()["reason"]) == (200, "no_changes")

    def test_a_pull_request_is_ignored(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery("pullrequest"))
        assert (answer.status_code, answer.json()["status"]) == (200, "ignored")

    def test_the_hooks_uuid_is_no_secret(self, receiver: Station) -> None:
        delivery = self.delivery().with_headers(x_hub_signature=None)
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
