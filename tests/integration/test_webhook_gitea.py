"""Gitea, Forgejo and Gogs."""

from __future__ import annotations

from typing import ClassVar

import pytest

from tests.integration.webhook_flow import Flow
from tests.receiver import Station
from tests.unit.signing import fixture, sign


class TestGitea(Flow):
    """Gitea tells of a deleted branch by an event of its own."""

    forge = "gitea"
    deletion = "delete"
    events: ClassVar[dict[str, str]] = {"delete": "delete", "create": "create"}
    other_signatures = ("X-Gogs-Signature", "X-Hub-Signature-256")

    @pytest.mark.parametrize("kin", ["gitea", "forgejo", "gogs"])
    @pytest.mark.parametrize("path", ["/webhook", "/webhook/gitea", "/webhook?provider=gitea"])
    def test_the_whole_family_is_gitea(self, receiver: Station, kin: str, path: str) -> None:
        answer = receiver.post(sign(kin, fixture(kin)), path)
        assert (answer.status_code, answer.json()["event"]["forge"]) == (202, "gitea")

    def test_a_form_is_signed_over_the_json_inside(self, receiver: Station) -> None:
        assert receiver.post(self.delivery(form=True)).status_code == 202

    def test_a_new_branch_is_deployed_by_its_push_not_by_its_creation(self, receiver: Station) -> None:
        assert receiver.post(self.delivery("create")).status_code == 200
        assert not receiver.deployments()

    def test_empty_signature_headers_let_nobody_in(self, receiver: Station) -> None:
        delivery = self.delivery()
        emptied = {name.replace("-", "_"): "" for name in delivery.headers if "signature" in name.lower()}
        assert receiver.post(delivery.with_headers(**emptied)).status_code == 401
