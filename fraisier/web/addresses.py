"""Whose address a request comes from: the peer's, or what a trusted proxy says of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from fraisier.application.ports import Headers

_IPV6_SITE = 64  # bits; a whole /64 is usually one customer's, so it is one client to us


class Addresses:
    """Finds clients behind proxies. `X-Forwarded-For` counts only where a trusted proxy wrote it."""

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted = tuple(ip_network(each, strict=False) for each in trusted_proxies)

    def client(self, peer: str, headers: Headers) -> str:
        """The rightmost address of the chain that is no trusted proxy; '' for a peer without address."""
        if not self._trusted or not self._trusts(peer):
            return peer
        client = peer
        for hop in reversed(_hops(headers.get("x-forwarded-for", ()))):
            address = _parsed(hop)
            if address is None:
                break
            client = str(address)
            if not self._trusts(client):
                break
        return client

    def _trusts(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(_contains(network, address) for network in self._trusted)


def site(address: str) -> str:
    """What failures are counted by: an IPv4 address, or the /64 of an IPv6 one."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_SITE), strict=False))
    return str(parsed or address)


def _contains(network: IPv4Network | IPv6Network, address: IPv4Address | IPv6Address) -> bool:
    return network.version == address.version and address in network


def _hops(values: Sequence[bytes]) -> list[str]:
    return [hop.strip() for value in values for hop in value.decode("latin-1").split(",")]


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: bare, `[v6]`, with a port; IPv4 inside IPv6 becomes IPv4."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
