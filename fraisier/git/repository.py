"""The mirrors of the configured repositories: fills the `Repository` port with stock git."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event

from fraisier.application.ports import (
    Contents,
    Fetched,
    History,
    Job,
    LoggedCommit,
    Processes,
    Unpacking,
)
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.domain.push import is_ref_name
from fraisier.git import lfs
from fraisier.git.address import parse_address
from fraisier.git.archive import Part, tar_stream
from fraisier.git.command import Git, text
from fraisier.git.failures import Damaged
from fraisier.git.mirror import Mirror, Patience
from fraisier.git.pinning import Pinning, Wanted
from fraisier.git.submodules import DEEPEST, Submodule, gitlinks, submodules

ASK_TIMEOUT = 60.0  # seconds
_PEELED = "^{}"


class Mirrors:
    """Bare mirrors in `folder`, one per clone URL, shared by threads and processes.

    `environ` is Fraisier's own environment: PATH, HOME and proxy variables are passed on to git.
    """

    def __init__(
        self,
        folder: Path | str,
        processes: Processes,
        *,
        environ: Mapping[str, str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._git = Git(processes, Path(folder).absolute(), os.environ if environ is None else environ)
        self._patience = patience or Patience()

    def fetch(self, source: Source, *, ref: str, commit: str, job: Job) -> Fetched:
        """See `Repository.fetch`. An abbreviated commit is expanded where it is unambiguous."""
        return self._fetch(source, Wanted(ref, commit), job)

    def is_ancestor(self, source: Source, ancestor: str, descendant: str) -> bool:
        """See `Repository.is_ancestor`."""
        with self._reading(source) as mirror:
            return self._known(mirror, ancestor, descendant) and mirror.is_ancestor(ancestor, descendant)

    def changed_paths(self, source: Source, old: str, new: str) -> Sequence[str] | None:
        """See `Repository.changed_paths`. Both names of a file that was renamed are in it."""
        with self._reading(source) as mirror:
            if not self._known(mirror, old, new):
                return None
            args = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new, "--")
            done = mirror.read(*args)
            if done.code:
                raise StepFailed(Cause.repository, f"cannot compare commits: {text(done.stderr)}")
            return [os.fsdecode(path) for path in done.stdout.split(b"\0") if path]

    def history(self, source: Source, *, old: str, new: str, limit: int) -> History | None:
        """See `Repository.history`."""
        with self._reading(source) as mirror:
            if not self._known(mirror, *filter(None, (old, new))):
                return None
            wanted = (new, *((f"^{old}",) if old else ()))
            counted = mirror.read("rev-list", "--count", *wanted, "--")
            logged = mirror.read(
                "log", "-z", "--no-show-signature", f"--max-count={limit}", "--format=%H %s", *wanted, "--"
            )
            if counted.code or logged.code:
                said = text(counted.stderr or logged.stderr)
                raise StepFailed(Cause.repository, f"cannot compare commits: {said}")
            lines = (line.partition(" ") for line in text(logged.stdout).split("\0") if line)
            newest = [LoggedCommit(commit.strip(), subject) for commit, _, subject in lines]
            return History(int(counted.stdout), newest)

    def contents(self, source: Source, commit: str, root: str) -> Contents:
        """See `Repository.contents`."""
        with self._reading(source, commit) as mirror:
            below = _relative(root)
            return Contents(
                submodules=bool(gitlinks(mirror, commit, below)), lfs=lfs.uses_lfs(mirror, commit, below)
            )

    def has_path(self, source: Source, commit: str, path: str) -> bool:
        """See `Repository.has_path`. A path that leaves the repository is refused."""
        with self._reading(source) as mirror:
            if not self._known(mirror, commit):
                return False
            return bool(mirror.type_of(f"{commit}:{_relative(path)}"))

    def unpack(self, source: Source, commit: str, unpack: Unpacking, job: Job) -> None:
        """See `Repository.unpack`. The commit must have been fetched; submodules and LFS objects are now.

        Attributes for exports (export-ignore, export-subst) do not apply: a release is the whole commit.
        """
        with self._reading(source, commit) as mirror:
            root = _relative(unpack.root)
            if root and mirror.type_of(f"{commit}:{root}") != "tree":
                message = f"cannot unpack {commit[:10]}: it has no folder {root}"
                raise StepFailed(Cause.repository, message, "Check root: of the environment")
            parts = list(self._parts(Part(mirror=mirror, commit=commit, root=root), unpack, job))
            _hand_over(parts, unpack, job)

    def tips(self, source: Source, refs: Sequence[str], *, stop: Event | None = None) -> Mapping[str, str]:
        """See `Repository.tips`."""
        for ref in refs:
            _check_pattern(ref)
        if not refs:
            return {}
        patterns = [pattern for ref in refs for pattern in (ref, ref + _PEELED)]
        args = ("ls-remote", "--quiet", "--", source.clone_url, *patterns)
        lines = text(self._git.ask(source, *args, timeout=ASK_TIMEOUT, stop=stop)).splitlines()
        pairs = (line.split("\t", 1) for line in lines if "\t" in line)
        found = {ref: name for name, ref in pairs}
        # git matches the tails of names; asked was for whole ones
        named = (ref for ref in found if any(fnmatchcase(ref, wanted) for wanted in refs))
        return {ref: found.get(ref + _PEELED, found[ref]) for ref in named if not ref.endswith(_PEELED)}

    def prune(self, keep: Collection[Source], *, older_than: float) -> int:
        """See `Repository.prune`. Also packs the mirrors that stay. Those in use are left for next time."""
        kept = {self._mirror(source).slug for source in keep if source.clone_url}
        oldest = time.time() - older_than
        removed = 0
        for lock in sorted(self._git.folder.glob("*.lock")):
            mirror = Mirror(self._git, lock.stem, _NO_SOURCE, self._patience)
            with mirror.held_now() as ours:
                if ours and mirror.slug not in kept and mirror.last_fetch < oldest:
                    mirror.remove()
                    removed += 1
                elif ours:
                    mirror.tidy()
        return removed

    def _fetch(self, source: Source, wanted: Wanted, job: Job, *, by_superproject: bool = False) -> Fetched:
        wanted.check()
        mirror = self._mirror(source)
        with mirror.held(job) as lock:
            search = Pinning(mirror, wanted, job, lock, by_superproject)
            try:
                return search()
            except Damaged as damage:
                job.output(f"the mirror is damaged ({damage}); cloning anew\n".encode())
                mirror.mark_damaged()
            try:
                return search()
            except Damaged as damage:
                raise _unreadable(source, damage) from damage

    def _mirror(self, source: Source) -> Mirror:
        return Mirror(self._git, parse_address(source.clone_url).slug, source, self._patience)

    @contextmanager
    def _reading(self, source: Source, needed: str = "") -> Iterator[Mirror]:
        """A mirror found broken is marked by then; the failure is one that is tried again.

        So is the lack of a `needed` commit: since its fetch, another environment's may have made a new
        mirror, which has that one's refs only.
        """
        mirror = self._mirror(source)
        try:
            if needed and not self._known(mirror, needed):
                message = f"cannot read {needed[:10]}: the mirror of {source.repository} does not have it"
                raise StepFailed(Cause.disk, message, "It is fetched again at the next try")
            yield mirror
        except Damaged as damage:
            raise _unreadable(source, damage) from damage

    def _known(self, mirror: Mirror, *commits: str) -> bool:
        return mirror.path.exists() and all(commits) and all(mirror.resolve(commits))

    def _parts(self, part: Part, unpack: Unpacking, job: Job, depth: int = 0) -> Iterator[Part]:
        """The part itself, then its submodules, with everything fetched that they need."""
        mirror, commit = part.mirror, part.commit
        with_lfs = unpack.lfs and lfs.uses_lfs(mirror, commit, part.root)
        if with_lfs:
            with mirror.held(job) as lock:
                lfs.fetch_objects(mirror, commit, job, lock)
        yield replace(part, settings=lfs.SMUDGE) if with_lfs else part
        if not unpack.submodules:
            return
        if depth > DEEPEST:
            message = f"cannot unpack submodules more than {DEEPEST} deep"
            raise StepFailed(Cause.repository, message, "Does one contain itself?")
        for submodule in submodules(mirror, commit, part.root):
            yield from self._parts(self._fetched(part, submodule, job), unpack, job, depth + 1)

    def _fetched(self, part: Part, submodule: Submodule, job: Job) -> Part:
        wanted = Wanted("", submodule.commit)
        fetched = self._fetch(submodule.source, wanted, job, by_superproject=True)
        path = submodule.path.removeprefix(f"{part.root}/" if part.root else "")
        return Part(
            mirror=self._mirror(submodule.source), commit=fetched.commit, prefix=f"{part.prefix}{path}/"
        )


_NO_SOURCE = Source(forge="", repository="", clone_url="")


def _hand_over(parts: Sequence[Part], unpack: Unpacking, job: Job) -> None:
    """Let the host unpack the parts. What broke the stream is told, not what the host made of its end."""
    broken: list[Exception] = []

    def watched(archive: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from archive
        except (Damaged, StepFailed) as failed:
            broken.append(failed)
            raise

    with closing(tar_stream(parts, job)) as archive:
        try:
            unpack.host.unpack(watched(archive), unpack.folder, user=unpack.user, job=job)
        except (Damaged, StepFailed) as failed:
            raise (broken or [failed])[0] from failed
    if broken:
        raise broken[0]


def _relative(path: str) -> str:
    """A path inside a commit as git spells it; '' = all of it.

    Raises:
        StepFailed: repository, for one that leaves it.
    """
    normal = posixpath.normpath(path or ".")
    if normal.startswith(("/", "../")) or normal == ".." or "\0" in normal:
        message = f"cannot look for {path[:100]!r}: it lies outside the repository"
        raise StepFailed(Cause.repository, message, "Give a path relative to the repository's top")
    return "" if normal == "." else normal


def _check_pattern(ref: str) -> None:
    """A full ref's name, or a pattern of such: with its wildcards taken out it is a name, too."""
    if not ref.startswith("refs/") or not is_ref_name(ref.translate(_WITHOUT_WILDCARDS)):
        raise StepFailed(Cause.repository, f"cannot ask for {ref[:100]!r}: it is no full name of a ref")


_WILDCARDS = "*?[]!"
_WITHOUT_WILDCARDS = str.maketrans(_WILDCARDS, "x" * len(_WILDCARDS))


def _unreadable(source: Source, damage: Damaged) -> StepFailed:
    message = f"cannot read the mirror of {source.repository}: {damage}"
    return StepFailed(Cause.disk, message, "It is damaged, and cloned anew at the next try")
