"""A migration framework: what moves a database to a release and back, and tells where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fraisier.domain.acts import Command
from fraisier.domain.fraise import Environment
from fraisier.domain.migration import Pending, WayDown
from fraisier.domain.plan import Act
from fraisier.domain.secret import Secret

CommandEnv = Mapping[str, str | Secret]  # deployers.common.command_env(...)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question's command printed to stdout, and its exit code."""

    code: int
    text: str


class CannotTell(Exception):
    """An answer from which nothing is learnt. `unreachable`: the database is, so it may be asked again."""

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


# EX_TEMPFAIL of sysexits(3): with this code a question says that the database cannot be reached.
UNREACHABLE = 75


class Migrations(Protocol):
    """One migration framework: the commands, as data, that move a database and ask for its revision.

    They run as the environment's user in `release_folder`, with `env` and the environment's env_file. A
    question changes nothing. What it prints to stderr is shown to people and never read. `asks_once`: what
    `pending` prints tells the revision, too, to `read_current`.
    """

    asks_once: bool

    def current(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command | None:
        """What asks for the database's revision; None: the framework does not tell.

        It has to work with a database that a newer release has migrated, too.
        """
        ...

    def read_current(self, answer: Answer) -> str:
        """The revision: one line, the same text for the same state, `BASE` where nothing was ever migrated.

        Raises:
            CannotTell: the answer is none.
        """
        ...

    def pending(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command | None:
        """What asks for the migrations that the database lacks; None: the framework does not tell."""
        ...

    def read_pending(self, answer: Answer) -> Sequence[Pending]:
        """Those migrations, in the order in which `up` performs them.

        Raises:
            CannotTell: the answer is none.
        """
        ...

    def up(self, environment: Environment, release_folder: str, env: CommandEnv) -> Sequence[Act]:
        """Bring the database to what the release wants."""
        ...

    def down(
        self, environment: Environment, release_folder: str, env: CommandEnv, way: WayDown
    ) -> Sequence[Act]:
        """Bring it back to `way.to`, with the release that went up; empty where that is never possible."""
        ...
