"""GitHub and GitHub Enterprise Server, from the wire to the database."""

from __future__ import annotations

from typing import ClassVar

import pytest

from tests.integration.webhook_flow import COMMIT, Flow
from tests.receiver import Station
from tests.unit.signing import fixture, sign


class TestGitHub(Flow):
    """GitHub's own deliveries."""

    forge = "github"
    events: ClassVar[dict[str, str]] = {"ping": "ping", "create": "create", "issues": "issues"}

    def test_a_ping_is_answered(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery("ping"))
        assert (answer.status_code, answer.json()["status"]) == (200, "pong")

    def test_a_form_is_verified_as_it_was_sent(self, receiver: Station) -> None:
        assert receiver.post(self.delivery(form=True)).status_code == 202

    def test_an_enterprise_server_is_github(self, receiver: Station) -> None:
        assert receiver.post(sign("ghes", fixture("github"))).json()["event"]["forge"] == "github"

    @pytest.mark.parametrize("event", ["create", "issues"])
    def test_other_events_are_recorded_and_ignored(self, receiver: Station, event: str) -> None:
        answer = receiver.post(self.delivery(event))
        assert (answer.status_code, answer.json()["reason"]) == (200, f"event_not_a_push: {event}")
        assert receiver.verdicts() == ["ignored"]

    def test_a_newer_push_supersedes_the_one_that_waits(self, receiver: Station) -> None:
        first = receiver.post(self.delivery()).json()
        second = receiver.post(sign("github", fixture("github") | {"after": "c" * 40})).json()
        assert second["superseded"] == [first["deployments"][0]["id"]]
        assert receiver.deployments() == [
            ("production", "c" * 40, "pending"),
            ("production", COMMIT, "superseded"),
        ]

    def test_pushes_of_a_b_a_deploy_a_twice(self, receiver: Station) -> None:
        for commit in ("a" * 40, "b" * 40, "a" * 40):
            assert receiver.post(sign("github", fixture("github") | {"after": commit})).status_code == 202
        assert [commit[0] for _, commit, _ in receiver.deployments()] == ["a", "b", "a"]

    def test_sha1_alone_is_never_enough(self, receiver: Station) -> None:
        delivery = self.delivery().with_headers(x_hub_signature_256=None)
        assert receiver.post(delivery).status_code == 401
