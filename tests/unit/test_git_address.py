"""Clone URLs: which are understood, and what a submodule's relative one means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.domain.errors import StepFailed
from fraisier.git.address import parse_address, relative_url


@pytest.mark.parametrize(
    ("url", "protocol", "host", "port"),
    [
        ("https://git.example.com/acme/orders.git", "https", "git.example.com", 443),
        ("https://me@Git.Example.com:8443/acme/orders", "https", "git.example.com", 8443),
        ("http://[::1]:3000/acme/orders.git", "http", "::1", 3000),
        ("ssh://git@git.example.com:2222/acme/orders.git", "ssh", "git.example.com", 2222),
        ("git@git.example.com:acme/orders.git", "ssh", "git.example.com", 22),
        ("git@[::1]:acme/orders.git", "ssh", "::1", 22),
        ("git.example.com:orders.git", "ssh", "git.example.com", 22),
        ("git://git.example.com/orders.git", "git", "git.example.com", 9418),
        ("file:///srv/git/orders.git", "file", "", 0),
        ("/srv/git/my orders.git", "file", "", 0),
    ],
)
def test_urls_are_taken_apart(url: str, protocol: str, host: str, port: int) -> None:
    address = parse_address(url)
    assert (address.protocol, address.host, address.port) == (protocol, host, port)


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("https://h/acme/orders.git", "../lib.git", "https://h/acme/lib.git"),
        ("https://h:8443/acme/orders.git/", "../../other/lib.git", "https://h:8443/other/lib.git"),
        ("https://h/acme/orders.git", "./lib.git", "https://h/acme/orders.git/lib.git"),
        ("git@h:acme/orders.git", "../lib.git", "git@h:acme/lib.git"),
        ("ssh://git@h:22/acme/orders.git", "../lib.git", "ssh://git@h:22/acme/lib.git"),
        ("/srv/git/orders.git", "../lib.git", "/srv/git/lib.git"),
        ("https://h/acme/orders.git", "git@other:lib.git", "git@other:lib.git"),
    ],
)
def test_relative_urls_are_those_of_gitmodules(base: str, url: str, expected: str) -> None:
    assert relative_url(parse_address(base), url) == expected


def test_a_relative_url_stays_on_its_host() -> None:
    with pytest.raises(StepFailed, match="leaves the host"):
        relative_url(parse_address("https://h/acme/orders.git"), "../../../evil.example.com/x")


def test_a_slug_can_be_read_and_differs_between_urls() -> None:
    first, second = (parse_address(f"https://{host}/acme/orders.git").slug for host in ("a", "b"))
    assert first.startswith("acme-orders-")
    assert first != second


@given(st.text(max_size=200))
def test_any_text_is_an_address_or_refused(url: str) -> None:
    try:
        address = parse_address(url)
    except StepFailed:
        return
    assert not address.url.startswith("-")
    assert "/" not in address.slug
    assert len(address.slug) < 100
