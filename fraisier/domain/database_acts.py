"""Acts on the database of an environment: its lock, its revision, a backup, the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fraisier.domain.acts import Command
from fraisier.domain.migration import WayDown

if TYPE_CHECKING:
    from fraisier.domain.plan import Act


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDatabase:
    """Wait until no other deployment works on the database called `name`, at most `timeout` seconds."""

    name: str
    timeout: float

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"lock the database {self.name}    # against other deployments' migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskDatabase:
    """Ask the framework for the revision and for what is pending, judge it, and note it before it begins.

    What it does not tell is None. `has_down`: there is a command that goes down. `way` is where a rollback
    takes the database, if it is at the revision `expected`; nothing is pending then.
    """

    current: Command | None
    pending: Command | None
    has_down: bool
    way: WayDown | None = None
    expected: str = ""

    def describe(self) -> str:
        """For `fraisier plan`."""
        asked = (self.current, self.pending)
        lines = [_asked(each) for each in asked if each is not None]
        if any("\n" in line for line in lines):  # a program of ours
            return "ask for the database's revision, and for what is pending"
        return "\n".join(lines) or "note that a migration begins; its framework does not tell the revision"


def _asked(command: Command) -> str:
    return command.describe().partition("    # in ")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackUp:
    """Dump the database into `file`, verify the dump, and remove all but the newest `keep` in its folder.

    `always`: whatever is pending; else only where the verdict asks for it. `brand` reads what the command
    prints.
    """

    brand: str
    file: str
    keep: int
    always: bool

    def describe(self) -> str:
        """For `fraisier plan`."""
        when = "" if self.always else ", if what is pending cannot be taken back"
        return f"back up the database to {self.file}    # {self.brand}; verified{when}; keep {self.keep}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRevision:
    """Note where the database is after the migration, and let go of its lock."""

    def describe(self) -> str:
        """For `fraisier plan`."""
        return "note the database's revision, and unlock it"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeDatabaseBack:
    """Take the database back to the revision `to` ('' = to where the way down leads).

    `only_from`: where this is not empty, only from one of these revisions (a way down that was interrupted).
    """

    to: str
    down: tuple[Act, ...]
    only_from: tuple[str, ...] = ()

    def describe(self) -> str:
        """For `fraisier plan`."""
        return "\n".join(act.describe() for act in self.down)
