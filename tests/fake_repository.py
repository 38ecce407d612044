"""A git repository in a dictionary, for tests of the verbs; the real one has its own tests with git."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Mapping, Sequence
from threading import Event

from fraisier.application.ports import Contents, Fetched, History, Job, LoggedCommit, Unpacking
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source


class FakeRepository:
    """Commits in the order of one line of history; `tip` is the newest unless set."""

    def __init__(self) -> None:
        self.line: list[str] = []
        self.files: dict[str, dict[str, str]] = {}
        self.tip = ""
        self.failures: list[StepFailed] = []
        self.fetches = 0
        self.changed: list[str] | None = None
        self.needs = Contents(submodules=False, lfs=False)

    def commit(self, sha: str, **files: str) -> str:
        self.line.append(sha)
        self.files[sha] = files or {"app.txt": sha}
        self.tip = sha
        return sha

    def fetch(self, source: Source, *, ref: str, commit: str, job: Job) -> Fetched:
        self.fetches += 1
        if self.failures:
            raise self.failures.pop(0)
        wanted = commit or self.tip
        if wanted not in self.files:
            raise StepFailed(Cause.commit_not_found, f"cannot find commit {wanted}")
        return Fetched(commit=wanted, tip=self.tip)

    def is_ancestor(self, source: Source, ancestor: str, descendant: str) -> bool:
        known = ancestor in self.line and descendant in self.line
        return known and self.line.index(ancestor) <= self.line.index(descendant)

    def changed_paths(self, source: Source, old: str, new: str) -> Sequence[str] | None:
        return self.changed

    def history(self, source: Source, *, old: str, new: str, limit: int) -> History | None:
        if new not in self.line or (old and old not in self.line):
            return None
        found = self.line[: self.line.index(new) + 1]
        found = [each for each in found if not old or self.line.index(each) > self.line.index(old)]
        return History(len(found), [LoggedCommit(each, f"commit {each[:4]}") for each in found[::-1][:limit]])

    def contents(self, source: Source, commit: str, root: str) -> Contents:
        return self.needs

    def has_path(self, source: Source, commit: str, path: str) -> bool:
        return any(name.startswith(path) for name in self.files[commit])

    def unpack(self, source: Source, commit: str, unpack: Unpacking, job: Job) -> None:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for name, text in self.files[commit].items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text.encode())
                tar.addfile(entry, io.BytesIO(text.encode()))
        unpack.host.unpack(iter([data.getvalue()]), unpack.folder, user=unpack.user, job=job)

    def tips(self, source: Source, refs: Sequence[str], *, stop: Event | None = None) -> Mapping[str, str]:
        return dict.fromkeys(refs, self.tip)

    def prune(self, keep: Collection[Source], *, older_than: float) -> int:
        return 0
