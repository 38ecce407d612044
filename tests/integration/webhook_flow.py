"""What every forge's deliveries have in common, from the wire to the database.

A forge's test module names a subclass of `Flow`, whose name begins with `Test`, and adds what is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from tests.factories import environment, source
from tests.receiver import Station, configuration, station
from tests.unit.signing import SignedDelivery, fixture, sign

COMMIT = "ad782ecdac770fc6eb9a62e44f90873fb97fb26b"  # what the fixtures push


class Flow:
    """The deliveries of `forge`. `events` are its words for those of its fixtures that are no plain push."""

    forge: ClassVar[str]
    repository: ClassVar[str] = "acme/orders"
    deletion: ClassVar[str] = "branch_delete"  # the fixture of a deleted branch
    events: ClassVar[dict[str, str]] = {}
    other_signatures: ClassVar[tuple[str, ...]] = ()  # sent beside the forge's own

    @pytest.fixture
    def receiver(self, tmp_path: Path) -> Iterator[Station]:
        here = source(forge=self.forge, repository=self.repository)
        config = configuration(
            environment(source=here),
            environment(name="releases", branch="", tag="v*", source=here),
        )
        with station(tmp_path, config) as served:
            yield served

    def of_another_repository(self) -> dict[str, Any]:
        """A push of a repository that is not configured, signed with our secret."""
        payload = fixture(self.forge)
        payload["repository"]["full_name"] = "evil/orders"
        return payload

    def delivery(self, name: str = "", **how: Any) -> SignedDelivery:
        """The forge's fixture `name`, or its plain push, signed."""
        payload = fixture(f"{self.forge}_{name}" if name else self.forge)
        return sign(self.forge, payload, event=self.events.get(name, ""), **how)

    def test_a_push_becomes_a_deployment_of_its_commit(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery(delivery_id="first"))
        assert answer.status_code == 202
        document = answer.json()
        assert document["event"]["forge"] == self.forge
        assert document["event"]["repository"] == self.repository
        assert document["event"]["sender"] == "ada"
        (deployment,) = document["deployments"]
        assert (deployment["fraise"], deployment["environment"]) == ("orders", "production")
        assert (deployment["ref"], deployment["commit"]) == ("refs/heads/main", COMMIT)
        assert receiver.deployments() == [("production", COMMIT, "pending")]
        (event,) = receiver.store.events()
        assert (event["id"], event["verdict"]) == (document["event_id"], "accepted")

    def test_a_repeated_delivery_gets_the_first_ones_event(self, receiver: Station) -> None:
        delivery = self.delivery(delivery_id="same")
        first = receiver.post(delivery).json()
        again = receiver.post(delivery)
        assert (again.status_code, again.json()["status"]) == (200, "duplicate")
        assert again.json()["event_id"] == first["event_id"]
        assert len(receiver.deployments()) == 1

    def test_the_same_commit_in_another_delivery_asks_for_nothing_new(self, receiver: Station) -> None:
        assert receiver.post(self.delivery()).status_code == 202
        again = receiver.post(self.delivery())
        assert (again.status_code, again.json()["status"]) == (200, "ignored")
        assert len(receiver.deployments()) == 1

    def test_a_deleted_branch_deploys_nothing(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery(self.deletion))
        assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
        assert not receiver.deployments()
        assert receiver.verdicts() == ["ignored"]

    def test_a_tag_goes_to_the_environment_that_follows_tags(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery("tag"))
        assert answer.status_code == 202
        assert [each["environment"] for each in answer.json()["deployments"]] == ["releases"]

    def test_a_wrong_secret_is_refused_and_leaves_no_trace(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery(secret=b"wrong"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "bad_signature")
        assert not receiver.verdicts()
        assert not receiver.deployments()

    def test_a_push_of_another_repository_deploys_nothing(self, receiver: Station) -> None:
        answer = receiver.post(sign(self.forge, self.of_another_repository()))
        assert (answer.status_code, answer.json()["reason"]) == (200, "repository_not_configured")
        assert not receiver.deployments()

    def test_the_header_that_providers_names_is_the_one_that_authenticates(self, receiver: Station) -> None:
        listed = httpx.get(f"{receiver.served.url}/providers", timeout=30).json()["providers"]
        (named,) = [each["signature_header"] for each in listed if each["name"] == self.forge]
        proofs = (named, *self.other_signatures)
        without = self.delivery().with_headers(**{name.replace("-", "_"): None for name in proofs})
        assert receiver.post(self.delivery()).status_code == 202
        assert receiver.post(without).status_code == 401
