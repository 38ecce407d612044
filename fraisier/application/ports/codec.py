"""How an environment's configuration is kept with an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fraisier.domain.fraise import Environment


class EnvironmentCodec(Protocol):
    """An environment as text for the journal: secrets as references, resolved again when read."""

    def dump(self, environment: Environment) -> str: ...
    def load(self, text: str) -> Environment:
        """What `dump` wrote.

        Raises:
            UsageError: it is none, or a reference can no longer be resolved.
        """
        ...

    def load_place(self, text: str) -> Environment:
        """The same without its secrets, which may be gone: for where, as whom and what it was deployed.

        Raises:
            UsageError: it is none.
        """
        ...

    def secrets(self, environment: Environment, env_file: bytes | None = None) -> Sequence[str]:
        """Every value that must never be written, for redaction: of config, env, and the env_file."""
        ...
