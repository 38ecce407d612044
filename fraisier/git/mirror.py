"""One repository's bare mirror: its folder, its lock, and how it is made, mended and brought up to date.

Beside `<slug>.git` lie `<slug>.lock`, on which everyone who writes holds a flock, and, while they are
needed, `<slug>.new` (a clone in the making), `<slug>.old` and `<slug>.damaged` (a mark: clone anew).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fraisier.application.ports import Finished, Job
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.git.command import Git, text
from fraisier.git.failures import Damaged, Unexplained, is_damage, last_words

WAIT = 0.05  # seconds between two tries to get the lock
# A release is the whole commit: what an archive would leave out or fill in stays as it is.
_ATTRIBUTES = "* -export-ignore -export-subst\n"
_LOCKED = ("File exists", ".lock")  # "Unable to create '….lock': File exists."


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited, in seconds: for one transfer, and between looks for a commit.

    Forges replicate lazily: a hook may come before its commit can be fetched.
    """

    transfer: float = 1800.0
    pauses: tuple[float, ...] = (1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Mirror:
    """The mirror of one source. Methods that write must be called inside `held`."""

    git: Git
    slug: str
    source: Source
    patience: Patience

    @property
    def path(self) -> Path:
        """The bare repository."""
        return self._beside(".git")

    @property
    def is_usable(self) -> bool:
        """Whether it was made, and is not known to be damaged."""
        return self.path.exists() and not self._mark.exists()

    @contextmanager
    def held(self, job: Job) -> Iterator[int]:
        """Be the only one who writes; yields the locked file. Waits for others, unless stopped.

        Raises:
            StepFailed: cancelled, while waiting; host, where somebody holds the lock for longer than two
                transfers may take; disk, where the folder cannot be written.
        """
        descriptor = self._locked(_Waiting(job, self._beside(".lock"), 2 * self.patience.transfer))
        try:
            os.utime(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def held_now(self) -> Iterator[bool]:
        """As `held`, but yields False at once where someone else writes."""

        def give_up() -> None:
            raise BlockingIOError

        try:
            descriptor = self._locked(give_up)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def update(self, refspecs: Sequence[str], job: Job, lock: int, *, prune: bool = False) -> None:
        """Fetch; make the mirror first where there is none or it is damaged.

        Raises:
            Damaged: it turned out to be; calling again makes a new one.
            StepFailed: as `Git.fetch`.
        """
        if not self.is_usable:
            self._make(refspecs, job, lock)
            return
        try:
            said = self._fetch(self.path, refspecs, job, lock, prune=prune)
        except Unexplained as failed:
            # What is neither the network's, the forge's nor the disk's fault is blamed on the mirror, once.
            raise self._damaged(failed.message) from failed
        if is_damage(said):  # git fetches again what it cannot read, and keeps the broken pack
            raise self._damaged(said)

    def read(self, *args: str, stdin: bytes = b"") -> Finished:
        """Look into the mirror, offline. Damage that shows is marked, so that the next `update` mends it.

        Raises:
            Damaged: the mirror cannot be read.
        """
        done = self.git.read(self.path, *args, stdin=stdin)
        if is_damage(stderr := text(done.stderr)):
            raise self._damaged(stderr)
        return done

    @contextmanager
    def archive(self, args: Sequence[str], job: Job, *, settings: Sequence[str]) -> Iterator[Iterator[bytes]]:
        """The output of a `git archive` as it comes.

        Raises:
            Damaged: while it is read: the mirror is broken.
            StepFailed: repository, where git refuses otherwise; cancelled.
        """
        heard: list[bytes] = []
        listening = Job(stop=job.stop, output=heard.append)
        with self.git.stream(self.path, args, listening, settings=settings) as chunks:
            yield self._checked(chunks, heard)

    def mark_damaged(self) -> None:
        """Have the next `update` make a new mirror. Needs no lock."""
        if self.path.exists():
            self._mark.touch()

    def resolve(self, names: Sequence[str]) -> list[str]:
        """The commits that names mean; '' for what is unknown, ambiguous or no commit. One process."""
        asked = "".join(f"{name}^{{commit}}\n" for name in names).encode()
        answers = text(self.read("cat-file", "--batch-check", stdin=asked).stdout).splitlines()
        found = [words[0] if words[1:2] == ["commit"] else "" for words in map(str.split, answers)]
        if len(found) != len(names):
            raise self._damaged("it does not answer")
        return found

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether one commit of the mirror is reachable from another.

        Raises:
            Damaged: neither yes nor no.
        """
        done = self.read("merge-base", "--is-ancestor", ancestor, descendant)
        if done.code not in {0, 1}:
            raise self._damaged(text(done.stderr))
        return done.code == 0

    def has_whole_history(self, name: str) -> bool:
        """Whether every commit before `name` is there."""
        return self.read("rev-list", "--count", name, "--").code == 0

    def type_of(self, name: str) -> str:
        """commit, tree, blob or tag; '' where there is nothing of that name."""
        return text(self.read("cat-file", "-t", name).stdout).strip()

    def remove(self) -> None:
        """Delete all of it, the lock's file last. Only inside `held_now`."""
        for suffix in (".git", ".new", ".old"):
            shutil.rmtree(self._beside(suffix), ignore_errors=True)
        self._mark.unlink(missing_ok=True)
        self._beside(".lock").unlink(missing_ok=True)

    def tidy(self) -> None:
        """Pack what many fetches have left, when it is much. Only inside `held_now`."""
        _remove_leftovers(self.path)
        settings = ("gc.auto=6700", "gc.autoPackLimit=50", "gc.autoDetach=false")
        with suppress(StepFailed):  # it took too long: git begins again where it is next asked to
            done = self.git.read(self.path, "gc", "--auto", "--quiet", settings=settings)
            if done.code and is_damage(text(done.stderr)):
                self.mark_damaged()

    @property
    def last_fetch(self) -> float:
        """Unix time of the last `held`; 0 before the first."""
        lock = self._beside(".lock")
        return lock.stat().st_mtime if lock.exists() else 0.0

    @property
    def _mark(self) -> Path:
        return self._beside(".damaged")

    def _beside(self, suffix: str) -> Path:
        return self.git.folder / (self.slug + suffix)

    def _damaged(self, stderr: str) -> Damaged:
        self.mark_damaged()
        return Damaged(stderr)

    def _checked(self, chunks: Iterator[bytes], heard: list[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except StepFailed as failed:
            if failed.cause is not Cause.host:
                raise
            stderr = text(b"".join(heard))
            if is_damage(stderr):
                raise self._damaged(stderr) from failed
            raise StepFailed(Cause.repository, f"cannot unpack the commit: {last_words(stderr)}") from failed

    def _locked(self, wait: Callable[[], None]) -> int:
        path = self._beside(".lock")
        while True:
            descriptor = _open_lock(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_file_of(descriptor, path):  # else its owner has removed it meanwhile
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                wait()
            except BaseException:
                os.close(descriptor)
                raise
            else:
                os.close(descriptor)

    def _make(self, refspecs: Sequence[str], job: Job, lock: int) -> None:
        """Clone beside and rename: at any moment a kill leaves the old mirror, a whole new one, or none."""
        new, old = self._beside(".new"), self._beside(".old")
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        try:
            self._clone(new, refspecs, job, lock)
        except Damaged as damage:
            hint = "The repository itself seems to be damaged: run `git fsck` where it is kept"
            message = f"cannot clone {self.source.repository}: {damage}"
            raise StepFailed(Cause.repository, message, hint) from damage
        except StepFailed:
            shutil.rmtree(new, ignore_errors=True)  # on a full disk every byte counts
            raise
        if self.path.exists():
            self.path.rename(old)
        new.rename(self.path)
        self._mark.unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)

    def _clone(self, new: Path, refspecs: Sequence[str], job: Job, lock: int) -> None:
        """Git does not tell beforehand which kind of object names the other side has."""
        self._init(new, "sha1")
        try:
            self._fetch(new, refspecs, job, lock)
        except Unexplained as failed:
            if "mismatched algorithms" not in failed.message:
                raise
            shutil.rmtree(new)
            self._init(new, "sha256")
            self._fetch(new, refspecs, job, lock)

    def _init(self, new: Path, names: str) -> None:
        options = ("--quiet", "--bare", "--template=", f"--object-format={names}")
        done = self.git.read(new, "init", *options, "--", str(new))
        if done.code:
            raise StepFailed(
                Cause.disk, f"cannot make a mirror of {self.source.repository}: {text(done.stderr)}"
            )
        info = new / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(_ATTRIBUTES)

    def _fetch(
        self, folder: Path, refspecs: Sequence[str], job: Job, lock: int, *, prune: bool = False
    ) -> str:
        options = ["--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force"]
        args = [f"--git-dir={folder}", "fetch", *options, *(["--prune"] if prune else [])]
        args += ["--", self.source.clone_url, *refspecs]
        try:
            return self.git.fetch(self.source, args, job, timeout=self.patience.transfer, lock=lock)
        except Damaged as damage:
            if not all(word in damage.stderr for word in _LOCKED):
                raise
            # Whoever made the lock file was killed: we hold the lock that all of them need.
            _remove_leftovers(folder)
            return self.git.fetch(self.source, args, job, timeout=self.patience.transfer, lock=lock)
        except StepFailed as failed:
            if failed.cause is Cause.disk:
                _remove_leftovers(folder)
            raise


class _Waiting:
    """What is done while someone else writes: say so once, look at the stop, and lose patience in the end.

    Whoever was stopped (SIGSTOP) in a fetch never lets go, and must not hold its successor for ever.
    """

    def __init__(self, job: Job, lock: Path, patience: float) -> None:
        self._job = job
        self._lock = lock
        self._patience = patience
        self._until = time.monotonic() + patience
        self._said = False

    def __call__(self) -> None:
        if not self._said:
            self._job.output(b"waiting for another fetch of this repository\n")
            self._said = True
        if self._job.stop.wait(WAIT):
            raise StepFailed(Cause.cancelled, "cannot fetch: stopped while waiting for another fetch")
        if time.monotonic() > self._until:
            message = f"cannot fetch: another process has held {self._lock} for {self._patience:g} s"
            hint = f"See which one, and whether it is stopped: fuser -v {self._lock}"
            raise StepFailed(Cause.host, message, hint)


def _open_lock(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as failed:
        message = f"cannot use the folder of the mirrors, {path.parent}: {failed.strerror}"
        raise StepFailed(Cause.disk, message, "Is it Fraisier's own, on a disk with space?") from failed


def _is_file_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove_leftovers(folder: Path) -> None:
    """What a killed git leaves: lock files, and halves of packs."""
    leftovers: list[Path] = []
    for pattern in ("*.lock", "refs/**/*.lock", "objects/**/*.lock", "objects/**/tmp_*"):
        leftovers += folder.glob(pattern)
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
