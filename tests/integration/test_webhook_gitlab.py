"""GitLab: project hooks and system hooks, token and signing token."""

from __future__ import annotations

from typing import Any, ClassVar

from fraisier.application.ports import ForgeInstance
from tests.factories import environment, source
from tests.integration.webhook_flow import Flow
from tests.receiver import Station, configuration
from tests.unit.signing import SECRET, SIGNING_TOKEN, fixture, sign


class TestGitLab(Flow):
    """GitLab names the repository in `project`, with all its groups."""

    forge = "gitlab"
    repository = "acme/backend/orders"
    events: ClassVar[dict[str, str]] = {
        "tag": "Tag Push Hook",
        "merge_request": "Merge Request Hook",
        "system_push": "System Hook",
        "system_repository_update": "System Hook",
    }

    def of_another_repository(self) -> dict[str, Any]:
        payload = fixture(self.forge)
        payload["project"]["path_with_namespace"] = "acme/orders"
        return payload

    def test_a_system_hooks_push_is_a_push(self, receiver: Station) -> None:
        assert receiver.post(self.delivery("system_push")).status_code == 202

    def test_a_system_hooks_other_events_are_ignored(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery("system_repository_update"))
        assert (answer.status_code, answer.json()["status"]) == (200, "ignored")

    def test_a_merge_request_is_ignored(self, receiver: Station) -> None:
        answer = receiver.post(self.delivery("merge_request"))
        assert (answer.status_code, answer.json()["status"]) == (200, "ignored")

    def test_a_signing_token_is_verified_with_the_present_time(self, receiver: Station) -> None:
        instance = ForgeInstance(name="gitlab", kind="gitlab", secrets=(SECRET, SIGNING_TOKEN))
        here = source(forge=self.forge, repository=self.repository)
        receiver.served.app.reconfigure(configuration(environment(source=here), forges=(instance,)))
        stale = sign("gitlab_signed", fixture("gitlab"), SIGNING_TOKEN)
        assert receiver.post(stale).status_code == 401
        assert receiver.post(stale.with_headers(x_gitlab_token=SECRET.decode())).status_code == 401
