"""The forge is found from the headers, and a delivery that could be of two forges is refused."""

from __future__ import annotations

import pytest

from fraisier.domain.errors import UnknownForge
from fraisier.git.detect import find_forge
from tests.unit.signing import SECRET, SIGNING_TOKEN, fixture, forges, sign


def found(*names: str) -> str:
    return find_forge(dict.fromkeys(names, (b"x",)), forges())


@pytest.mark.parametrize(
    ("sender", "kind"),
    [
        ("github", "github"),
        ("ghes", "github"),
        ("gitlab", "gitlab"),
        ("gitlab_signed", "gitlab"),
        ("gitea", "gitea"),
        ("forgejo", "gitea"),
        ("gogs", "gitea"),
        ("bitbucket", "bitbucket"),
        ("bitbucket_server", "bitbucket_server"),
    ],
)
def test_each_forge_is_found_from_what_it_sends(sender: str, kind: str) -> None:
    secret = SIGNING_TOKEN if sender == "gitlab_signed" else SECRET
    assert find_forge(sign(sender, {}, secret).raw_headers, forges()) == kind


def test_gitea_and_its_kin_are_not_taken_for_github() -> None:
    for own in ("x-gitea-event", "x-forgejo-event", "x-gogs-event"):
        assert found(own, "x-github-event", "x-hub-signature-256") == "gitea"
    assert found("x-github-event") == "github"


@pytest.mark.parametrize(
    "names",
    [
        ("x-github-event", "x-gitlab-event"),
        ("x-github-event", "x-event-key"),
        ("x-gitlab-event", "x-event-key"),
        ("x-gitlab-token", "x-gitea-event"),
        ("x-gitea-event", "x-event-key"),
        ("x-gitea-event", "x-github-event", "x-gitlab-event"),
        ("x-gitea-event", "x-github-event", "x-github-hook-id"),
        ("x-gogs-event", "x-github-enterprise-host"),
    ],
)
def test_headers_of_two_forges_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(UnknownForge, match="and") as refused:
        found(*names)
    assert "/webhook/" not in refused.value.hint  # naming one there would not help: it is refused as well


@pytest.mark.parametrize("names", [(), ("content-type",), ("x-hub-signature-256",), ("x-hook-uuid",)])
def test_headers_of_no_forge_are_refused_with_the_names_that_would_do(names: tuple[str, ...]) -> None:
    with pytest.raises(UnknownForge, match=r"bitbucket, bitbucket_server, gitea, github, gitlab"):
        found(*names)


@pytest.mark.parametrize(
    ("event", "names", "kind"),
    [
        (b"repo:push", (), "bitbucket"),
        (b"repo:push", ("x-hook-uuid",), "bitbucket"),
        (b"repo:push", ("x-request-uuid", "x-request-id"), "bitbucket"),  # a proxy added X-Request-Id
        (b"repo:push", ("x-request-id",), "bitbucket_server"),
        (b"repo:push", ("x-bitbucket-type",), "bitbucket_server"),
        (b"repo:push", ("x-bitbucket-type", "x-request-uuid"), "bitbucket_server"),
        (b"pullrequest:created", (), "bitbucket"),
        (b"pullrequest:created", ("x-bitbucket-type",), "bitbucket_server"),
        (b"issue:created", ("x-hook-uuid",), "bitbucket"),
        (b"repo:refs_changed", (), "bitbucket_server"),
        (b"repo:refs_changed", ("x-request-id",), "bitbucket_server"),
        (b"mirror:repo_synchronized", (), "bitbucket_server"),
        (b"diagnostics:ping", ("x-request-id",), "bitbucket_server"),
        (b"pr:opened", (), "bitbucket_server"),
        (b"repo:comment:added", (), "bitbucket_server"),
        (b"repo:commit_comment_created", (), "bitbucket"),
        (b"\xff", (), "bitbucket"),
    ],
)
def test_the_two_bitbuckets_are_told_apart(event: bytes, names: tuple[str, ...], kind: str) -> None:
    headers = {"x-event-key": (event,), "x-hub-signature": (b"sha256=0",)} | dict.fromkeys(names, (b"x",))
    assert find_forge(headers, forges()) == kind


def test_a_pretended_header_of_gitea_gains_nothing() -> None:
    delivery = sign("github", fixture("github")).with_headers(x_gitea_event="push")
    with pytest.raises(UnknownForge):
        find_forge(delivery.raw_headers, forges())
