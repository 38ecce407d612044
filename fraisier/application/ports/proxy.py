"""A brand of proxy that is told where traffic goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from fraisier.application.ports.target import Problem
from fraisier.domain.fraise import Environment


class Proxy(Protocol):
    """One brand of proxy in front of releases that listen on TCP ports."""

    kind: str

    def point(self, environment: Environment, address: str) -> None:
        """Send all new requests to `address` (host:port) and no others; those under way are left alone.

        Without an address: to no release's instance, but to what was served before there were any, where the
        proxy knows that. The same once more changes nothing. It outlives a restart of the proxy.

        Raises:
            StepFailed: host, where the proxy does not answer; preflight, where it does not know the address.
        """
        ...

    def problems(self, environment: Environment) -> Sequence[Problem]:
        """What would keep `point` from working."""
        ...


@runtime_checkable
class OpenProxy(Protocol):
    """A proxy that tells where traffic goes, so that `fraisier status --verify` can compare."""

    def points_to(self, environment: Environment) -> Sequence[str]:
        """Where new requests go: host:port of each, as `listen:` writes it where that is one of them.

        Raises:
            StepFailed: the proxy does not answer.
        """
        ...
