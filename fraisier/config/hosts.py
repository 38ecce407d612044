"""The hosts of an environment, and how hosts are reached."""

from __future__ import annotations

import os

from fraisier.application.settings import HostOptions
from fraisier.config.reading import Reader, did_you_mean
from fraisier.config.sections import Parsed

LOCALHOST = "localhost"
_LOCAL = frozenset({LOCALHOST, "127.0.0.1", "::1"})


def is_this_machine(host: str) -> bool:
    """Whether a name is one of this machine's own."""
    own = os.uname().nodename.lower()
    name = host.lower().rstrip(".")
    if name in _LOCAL or name == own:
        return True
    if name.partition(".")[0] != own.partition(".")[0]:
        return False
    from socket import getfqdn  # may ask a name server, so only where the first label fits

    return name == getfqdn().lower()


def hosts_of(environment: Parsed) -> tuple[str, ...]:
    """The hosts by one name each: this machine is `localhost`."""
    given = environment["hosts"] or (LOCALHOST,)
    return tuple(LOCALHOST if is_this_machine(host) else host for host in given)


def is_only_here(environment: Parsed) -> bool:
    """Whether it runs on this machine and no other."""
    return hosts_of(environment) == (LOCALHOST,)


def share_a_host(one: Parsed, other: Parsed) -> bool:
    """Whether two environments have a host in common."""
    return not {host.lower() for host in hosts_of(one)}.isdisjoint(host.lower() for host in hosts_of(other))


def options_of(root: Parsed) -> dict[str, HostOptions]:
    """How hosts are reached, where the ssh configuration does not say it."""
    return {
        name: HostOptions(
            address=keys["address"] or "",
            port=keys["port"] or 0,
            user=keys["user"] or "",
            identity_file=keys["identity_file"] or "",
            known_hosts=keys["known_hosts"] or "",
        )
        for name, keys in root["hosts"].items()
    }


def check(reader: Reader, environment: Parsed) -> None:
    """Report what does not go together."""
    if environment["proxy"] is not None and not is_only_here(environment):
        message = "is told on this machine only, and the releases are on another host; let the proxy dial "
        reader.refuse(environment.at("proxy"), f"{message}<app_path>/current.sock", at_key=True)
    if environment["build_on"] == "here" and is_only_here(environment):
        message = "has no meaning on this machine, which is where it is built anyway; leave it out"
        reader.refuse(environment.at("build_on"), message, at_key=True)


def check_options(reader: Reader, root: Parsed, used: set[str]) -> None:
    """Options of a host that no environment names are most likely a misspelt name."""
    for name, keys in root["hosts"].items():
        if name not in used:
            message = f"no environment names the host {name!r}{did_you_mean(name, sorted(used))}"
            reader.refuse(keys.node, f"{message}; name it in hosts of one, or leave it out", at_key=True)
