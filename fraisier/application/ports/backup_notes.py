"""What is known of the copies of backups: a part of every store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from fraisier.domain.backup import Copy, CopyNote
from fraisier.domain.fraise import EnvironmentKey

if TYPE_CHECKING:
    from fraisier.application.ports.runs import RunClaim
    from fraisier.application.ports.store import Row


class BackupNotes(Protocol):
    """As `Store`: each is one transaction, durable when it returns, and may raise StoreUnavailable."""

    def note_copies(
        self, environment: EnvironmentKey, notes: Sequence[CopyNote], *, by: RunClaim | None = None
    ) -> None:
        """Write down what is new. Copies that were not known are added; `pruned_at` 0.0: it is there again,
        though it was said to be removed. `by` is the run that found it.

        Raises:
            TokenOutdated: that is no longer its worker's: what it saw may be another by now.
        """
        ...

    def copies(self, environment: EnvironmentKey) -> Sequence[Copy]:
        """Those that no rule has removed, oldest first."""
        ...

    def pruned_copies(self, environment: EnvironmentKey, destination: str) -> Collection[str]:
        """Names of those that were removed from there, or were about to be."""
        ...

    def backups(
        self, fraise: str = "", environment: str = "", *, with_pruned: bool = False, limit: int = 1000
    ) -> Sequence[Row]:
        """Rows of v_backups, newest first in each environment."""
        ...
