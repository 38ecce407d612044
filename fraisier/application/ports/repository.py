"""The git repositories that fraises are deployed from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from fraisier.application.ports.host import Host
from fraisier.application.ports.processes import Job
from fraisier.domain.fraise import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a fetch found: the pinned commit, the ref's present tip ('' if the ref is gone)."""

    commit: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a commit needs besides git: submodules, LFS objects."""

    submodules: bool
    lfs: bool


@dataclass(frozen=True, slots=True)
class LoggedCommit:
    """A commit as a log shows it. `subject` is text from outside."""

    commit: str
    subject: str


@dataclass(frozen=True, slots=True)
class History:
    """Commits that one has and another has not: how many, and the newest of them."""

    total: int
    newest: Sequence[LoggedCommit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacking:
    """Where a release's files go. `folder` does not exist yet; `user` '' = Fraisier's own."""

    host: Host
    folder: str
    root: str = ""
    user: str = ""
    submodules: bool = False
    lfs: bool = False


class Repository(Protocol):
    """Bare mirrors of the configured repositories, locked against each other's fetches."""

    def fetch(self, source: Source, *, ref: str, commit: str, job: Job) -> Fetched:
        """Bring the mirror up to date and resolve what is to be deployed.

        `ref` is full, or '' for a bare commit; `commit` '' = the ref's tip. A tag's object is peeled.

        Raises:
            StepFailed: network or disk (retried), repository (credentials, not found), preflight (a URL or a
                token that cannot be used, no git), commit_not_found, commit_not_on_ref, cancelled.
        """
        ...

    def is_ancestor(self, source: Source, ancestor: str, descendant: str) -> bool:
        """Whether `ancestor` is reachable from `descendant`; False where either is unknown."""
        ...

    def changed_paths(self, source: Source, old: str, new: str) -> Sequence[str] | None:
        """Paths that differ between two commits; None where `old` is unknown."""
        ...

    def history(self, source: Source, *, old: str, new: str, limit: int) -> History | None:
        """The commits that `new` has and `old` has not, at most `limit` of them; fetches nothing.

        `old` may be '': all of them. None where the mirror does not have both.
        """
        ...

    def contents(self, source: Source, commit: str, root: str) -> Contents:
        """What the commit uses."""
        ...

    def has_path(self, source: Source, commit: str, path: str) -> bool:
        """Whether the commit has a file or folder there."""
        ...

    def unpack(self, source: Source, commit: str, unpack: Unpacking, job: Job) -> None:
        """Write the commit's files into a new folder on the host.

        Raises:
            StepFailed: as `fetch`, and host.
        """
        ...

    def tips(self, source: Source, refs: Sequence[str], *, stop: Event | None = None) -> Mapping[str, str]:
        """`git ls-remote`: ref -> commit (tags peeled, as in `Fetched.tip`), for those that exist.

        `refs` are full names or patterns of fnmatch over full names, e.g. `refs/tags/v*`.

        Raises:
            StepFailed: network or repository, cancelled when `stop` is set.
        """
        ...

    def prune(self, keep: Collection[Source], *, older_than: float) -> int:
        """Remove mirrors that no fraise uses and that were not fetched for `older_than` seconds."""
        ...
