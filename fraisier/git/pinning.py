"""Which commit is meant, and whether it may be deployed: the one that was verified, on the ref that moved.

A commit that a person or a forge names is never fetched by its bare object name: forges answer such requests
also for commits that only a fork has, so that anyone's commit would count as one of the repository's. Only
the commits that a superproject pins for its submodules are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from fraisier.application.ports import Fetched, Job
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.push import RefKind, is_ref_name, is_sha
from fraisier.git.failures import Damaged, RefMissing
from fraisier.git.mirror import Mirror

ALL_REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_OBJECT_NAME = re.compile(r"[0-9a-f]{4,64}\Z")


class NotYet(StepFailed):
    """Not there now, but it may still come."""


class RefGone(NotYet):
    """The other side has no such ref: the mirror, which may never have had it either, is not to blame."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a deployment asks for. `ref` is full or ''; `commit` may be abbreviated, or '' = the ref's tip."""

    ref: str
    commit: str

    def check(self) -> None:
        """Refuse what git would take for something else than a branch, a tag or a commit.

        Raises:
            StepFailed: repository, commit_not_found.
        """
        names = (self.ref.removeprefix(kind.prefix) for kind in RefKind if self.ref.startswith(kind.prefix))
        if self.ref and not is_ref_name(next(names, "")):
            hint = "A ref is refs/heads/<branch> or refs/tags/<tag>"
            raise StepFailed(
                Cause.repository, f"cannot fetch {self.ref[:100]!r}: it is no branch or tag", hint
            )
        if self.commit and not _OBJECT_NAME.match(self.commit):
            hint = "Give at least 4 hexadecimal digits, in lower case"
            message = f"cannot find commit {self.commit[:100]!r}: it is no commit's name"
            raise StepFailed(Cause.commit_not_found, message, hint)
        if not self.ref and not self.commit:
            raise StepFailed(Cause.repository, "cannot fetch: neither a ref nor a commit was named")


@dataclass(frozen=True, slots=True)
class Pinning:
    """One search, with the mirror's lock held."""

    mirror: Mirror
    wanted: Wanted
    job: Job
    lock: int
    pinned_by_superproject: bool = False

    def __call__(self) -> Fetched:
        """Fetch what is needed and pin the commit.

        Raises:
            Damaged: the mirror is broken; the search may be repeated once it was marked so.
            StepFailed: see `Repository.fetch`.
        """
        if self.wanted.ref:
            return self._patiently(self._on_ref)
        return self._known() or self._patiently(self._anywhere)

    def _patiently(self, look: Callable[[], Fetched]) -> Fetched:
        for pause in self.mirror.patience.pauses:
            try:
                return look()
            except NotYet as reason:
                self.job.output(f"{reason.message}; looking again in {pause:g} s\n".encode())
            if self.job.stop.wait(pause):
                raise StepFailed(Cause.cancelled, "cannot fetch: stopped while waiting for the commit")
        try:
            return look()
        except RefGone:
            raise
        except NotYet:
            self._check_history()
            raise

    def _on_ref(self) -> Fetched:
        ref, commit = self.wanted.ref, self.wanted.commit
        try:
            self.mirror.update([f"+{ref}:{ref}"], self.job, self.lock)
        except RefMissing as gone:
            raise self._ref_is_gone(gone) from gone
        tip, found = self._resolve(ref, commit or ref)
        if not tip:
            raise self._no_tip()
        if not found:
            raise self._unknown(tip)
        if found != tip and not self.mirror.is_ancestor(found, tip):
            raise self._off_ref(found, tip)
        return Fetched(commit=found, tip=tip)

    def _known(self) -> Fetched | None:
        """A bare commit that an earlier fetch brought needs no other."""
        if not self.mirror.is_usable:
            return None
        (found,) = self._resolve(self.wanted.commit)
        return Fetched(commit=found, tip="") if found else None

    def _anywhere(self) -> Fetched:
        self.mirror.update(ALL_REFS, self.job, self.lock, prune=True)
        (found,) = self._resolve(self.wanted.commit)
        if not found and self.pinned_by_superproject:
            return self._by_name()
        if not found:
            raise self._unknown("")
        return Fetched(commit=found, tip="")

    def _by_name(self) -> Fetched:
        commit = self.wanted.commit
        self.mirror.update([f"+{commit}:refs/fraisier/pinned/{commit}"], self.job, self.lock)
        return Fetched(commit=commit, tip="")

    def _resolve(self, *names: str) -> list[str]:
        """Commits by ref or object name. What git took for a ref of that name is no abbreviation."""
        found = self.mirror.resolve(names)
        pairs = zip(names, found, strict=True)
        return [sha if "/" in name or is_sha(name) or sha.startswith(name) else "" for name, sha in pairs]

    def _check_history(self) -> None:
        """Before the commit is blamed for being absent: is anything else absent too?"""
        if self.wanted.ref and not self.mirror.has_whole_history(self.wanted.ref):
            raise Damaged("its history has holes")

    def _ref_is_gone(self, gone: StepFailed) -> StepFailed:
        where = f"{self.wanted.ref} does not exist in {self._name}"
        if not self.wanted.commit:
            return StepFailed(Cause.commit_not_found, f"cannot find a commit to deploy: {where}", gone.hint)
        return RefGone(
            Cause.commit_not_on_ref,
            f"cannot deploy {self._short}: {where}",
            "The branch or tag was deleted since; push it again, or deploy another one",
        )

    def _no_tip(self) -> Exception:
        if self.mirror.type_of(f"{self.wanted.ref}^{{}}") in {"tree", "blob"}:
            message = f"cannot deploy {self.wanted.ref} of {self._name}: it names no commit"
            return StepFailed(Cause.repository, message, "Tag a commit")
        return Damaged(f"{self.wanted.ref} was fetched and cannot be read")

    def _unknown(self, tip: str) -> StepFailed:
        at = f": {self.wanted.ref} is at {tip[:10]}" if tip else ""
        if is_sha(self.wanted.commit):
            message = f"cannot find commit {self._short} in {self._name}{at}"
            hint = "It was replaced by a force push, or never pushed; push again, or deploy what is there"
        else:
            message = f"cannot find one commit that begins with {self.wanted.commit} in {self._name}{at}"
            hint = "Give more digits of the commit's name; `git log` has them"
        return NotYet(Cause.commit_not_found, message, hint)

    def _off_ref(self, found: str, tip: str) -> StepFailed:
        message = f"cannot deploy {found[:10]}: {self.wanted.ref} of {self._name} is at {tip[:10]}"
        if self.mirror.is_ancestor(tip, found):
            hint = "The forge still shows the ref as it was before that commit; try again"
            return NotYet(Cause.commit_not_on_ref, f"{message}, before it", hint)
        hint = "The ref was force-pushed since, or the commit belongs to another branch; deploy what is there"
        return StepFailed(Cause.commit_not_on_ref, f"{message} and does not contain it", hint)

    @property
    def _short(self) -> str:
        return self.wanted.commit[:10]

    @property
    def _name(self) -> str:
        return self.mirror.source.repository or "the repository"
