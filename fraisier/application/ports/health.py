"""A kind of health check: how a service is asked once."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fraisier.domain.acts import Command
from fraisier.domain.fraise import Environment, HealthCheck

Runner = Callable[[Command], int]  # runs a command as the environment's user; its output is kept


class Dial(Protocol):
    """A connection from the machine where the release runs: see `Host.connect`."""

    def __call__(self, address: str, *, timeout: float) -> socket.socket: ...


@dataclass(frozen=True, slots=True)
class Health:
    """The result of one probe."""

    passed: bool
    detail: str


class Prober(Protocol):
    """One kind of health check: a single probe, bounded by the check's `request_timeout`."""

    def probe(
        self, check: HealthCheck, environment: Environment, release_folder: str, run: Runner, dial: Dial
    ) -> Health:
        """Look once: `dial` connects from the machine where the release runs.

        Raises:
            StepFailed: it cannot be looked at all.
        """
        ...
