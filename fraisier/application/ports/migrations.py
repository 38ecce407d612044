"""A migration framework: what moves a database to a release and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fraisier.domain.fraise import Environment
from fraisier.domain.plan import Act
from fraisier.domain.secret import Secret

CommandEnv = Mapping[str, str | Secret]  # deployers.common.command_env(...)


class Migrations(Protocol):
    """One migration framework: the commands, as data, that move a database."""

    def up(self, environment: Environment, release_folder: str, env: CommandEnv) -> Sequence[Act]:
        """Bring the database to what the release wants."""
        ...

    def down(self, environment: Environment, release_folder: str, env: CommandEnv) -> Sequence[Act]:
        """Bring it back; empty where that was not declared possible."""
        ...
