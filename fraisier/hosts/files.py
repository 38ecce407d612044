"""Files and folders on this machine: links and files switched atomically, and on disk when that returns.

Root never follows another user's paths: where a folder on the way belongs to somebody else, a link there
could lead anywhere. The last folder on the way is opened without following any; if it is ours, the act goes
through its descriptor, if it is theirs, they perform it: what they could not do does not happen.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from fraisier.application.ports import Finished
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.failures import cause_of, os_failure, telling
from fraisier.hosts.short import run_short
from fraisier.hosts.users import Account, account, account_of

LONGEST_ACT = 600.0  # seconds for removing a large folder as another user
_WAY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# What says that there is no such file, or none for us. All else says nothing about the file: a release whose
# marker could not be opened, for want of a descriptor or because a disk failed, is as whole as it was.
_NOT_FOR_US = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENXIO,
    errno.ENAMETOOLONG,
}
_libc = ctypes.CDLL(None, use_errno=True)


# -- looking


def kind(path: str) -> str:
    """'missing', 'file', 'folder', 'link' or 'other'."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    names = ((stat.S_ISLNK, "link"), (stat.S_ISDIR, "folder"), (stat.S_ISREG, "file"))
    return next((name for test, name in names if test(mode)), "other")


def read_link(path: str) -> str | None:
    """What a symbolic link contains; None where there is none."""
    try:
        return str(Path(path).readlink())
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOENT, errno.ENOTDIR}:
            return None
        raise StepFailed(Cause.host, f"cannot read the link {path}: {error.strerror}") from error


def names(folder: str) -> list[str]:
    """Names in a folder, sorted; empty where there is none."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 names, not paths
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StepFailed(Cause.host, f"cannot list {folder}: {error.strerror}") from error


def read(path: str, limit: int) -> bytes | None:
    """The first `limit` bytes of a regular file; None where there is none that we may read.

    Raises:
        StepFailed: host, if nobody can tell.
    """
    other = owner_on_the_way(path)
    if other is None or os.geteuid() != 0:
        return _read_here(path, limit, lured=other is not None)
    with reached(path) as (found, who):
        if who is None and _owner(found) == 0:
            return _read_here(found, limit, lured=False)
        done = run_short(("head", "-c", str(limit), "--", path), timeout=30, who=who or account_of(other))
        return done.stdout if done.code == 0 else None


def _read_here(path: str, limit: int, *, lured: bool) -> bytes | None:
    """`lured`: somebody else may have put a link there that leads to a file of ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NOT_FOR_US:
            return None
        raise os_failure(f"cannot read {path}", error) from error
    try:
        found = os.fstat(descriptor)
        refused = lured and found.st_uid == os.geteuid()
        with telling(f"cannot read {path}"):
            return None if refused or not stat.S_ISREG(found.st_mode) else _read_all(descriptor, limit)
    finally:
        os.close(descriptor)


def _owner(path: str) -> int | None:
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def _read_all(descriptor: int, limit: int) -> bytes:
    data = bytearray()
    while len(data) < limit and (chunk := os.read(descriptor, min(limit - len(data), 1 << 20))):
        data += chunk
    return bytes(data)


def free_bytes(path: str) -> int:
    """Free space for users that are not root, which is what a build has."""
    found = os.statvfs(nearest(path))
    return found.f_bavail * found.f_frsize


def writable(path: str) -> bool:
    """Whether we may create things in `path`, or in its nearest parent that exists."""
    found = nearest(path)
    return found.is_dir() and os.access(found, os.W_OK | os.X_OK, effective_ids=True)


def nearest(path: str) -> Path:
    """`path`, or its nearest parent that exists."""
    found = Path(path)
    while not exists(found) and found != found.parent:
        found = found.parent
    return found


def exists(path: Path) -> bool:
    """Whether we can see something there; links are followed."""
    try:
        path.stat()
    except OSError:  # a folder on the way that is closed to us, too
        return False
    return True


def owner_on_the_way(path: str) -> int | None:
    """The uid of the first part of `path` that belongs neither to root nor to us; None: there is none."""
    ours = {0, os.geteuid()}
    for part in reversed((PurePosixPath(path), *PurePosixPath(path).parents)):
        try:
            uid = os.lstat(part).st_uid
        except OSError:
            return None
        if uid not in ours:
            return uid
    return None


# -- the way to a path


@contextmanager
def reached(path: str) -> Iterator[tuple[str, Account | None]]:
    """`path` as it may be used while this is entered, and who has to use it (None: we ourselves)."""
    parent = str(PurePosixPath(path).parent)
    if os.geteuid() != 0 or (stranger := owner_on_the_way(parent)) is None:
        yield path, None
        return
    descriptor, rest = _walk(path)
    try:
        uid = stranger if rest is None else os.fstat(descriptor).st_uid
        yield (f"/proc/self/fd/{descriptor}/{rest}", None) if uid == 0 else (path, account_of(uid))
    finally:
        os.close(descriptor)


@contextmanager
def ours(path: str) -> Iterator[Path]:
    """`path`, for ourselves, while this is entered.

    Raises:
        StepFailed: owner, if the folder that it is in belongs to somebody else.
    """
    with reached(path) as (found, who):
        if who is not None:
            parent = PurePosixPath(path).parent
            message = f"cannot use {parent}: it, or the way to it, is {who.name}'s and not Fraisier's"
            raise StepFailed(Cause.owner, message, "If nobody needs it, remove it; Fraisier makes its own")
        yield Path(found)


def _walk(path: str) -> tuple[int, str | None]:
    """The last folder on the way to `path` that is there, opened, and the rest of the way.

    Below the first folder of another user no link is followed; where there is one, the rest is None.
    """
    names = PurePosixPath(path).parts
    descriptor, theirs = os.open(names[0], _WAY), False
    for position, name in enumerate(names[1:-1], 1):
        try:
            deeper = os.open(name, _WAY | (os.O_NOFOLLOW if theirs else 0), dir_fd=descriptor)
        except FileNotFoundError:
            return descriptor, "/".join(names[position:])
        except OSError:  # a link, or no folder
            return descriptor, None
        os.close(descriptor)
        descriptor = deeper
        theirs = theirs or os.fstat(descriptor).st_uid != 0
    return descriptor, names[-1]


# -- short acts


def make_folder(path: str, user: str, mode: int) -> None:
    """Create a folder and its parents; the last one belongs to `user` and has `mode`."""
    who = account(user)
    if not who.is_ours and os.geteuid() != 0:
        # Only root gives folders away; whoever may start units as anybody may have systemd do it.
        argv = ("install", "-d", "-o", who.name, "-g", str(who.gid), "-m", f"{mode:o}", "--", path)
        _do(account_of(0), argv, f"cannot create {path}")
        return
    with reached(path) as (found, other), telling(f"cannot create {path}"):
        if other is None:
            _make_folder(found, who, mode)
            return
        _do(other, ("mkdir", "-p", "-m", f"{mode:o}", "--", path), f"cannot create {path}")
        if other.uid != who.uid:
            _give(path, other, who)


def _make_folder(path: str, who: Account, mode: int) -> None:
    existed = Path(path).is_dir()
    Path(path).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not existed:
            os.fchmod(descriptor, mode)
        if not who.is_ours:
            os.fchown(descriptor, who.uid, who.gid)
    finally:
        os.close(descriptor)


def _give(path: str, owner: Account, heir: Account) -> None:
    """Give a folder that `owner` made to `heir`; only what is the owner's own can be given away."""
    with telling(f"cannot give {path} to {heir.name}"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_uid == owner.uid:
                os.fchown(descriptor, heir.uid, heir.gid)
        finally:
            os.close(descriptor)


def point(link: str, to: str) -> None:
    """Make `link` a symbolic link to `to`, atomically and durably; never inside what it pointed to."""
    with reached(link) as (found, other), telling(f"cannot make the link {link}"):
        if other is None:
            temporary = _beside(found)
            temporary.symlink_to(to)
            _put(temporary, found)
            return
        script = 'ln -sfn -- "$2" "$1.new" && mv -fT -- "$1.new" "$1" && sync -- "$3"'
        argv = ("/bin/sh", "-c", script, "sh", link, to, str(PurePosixPath(link).parent))
        _do(other, argv, f"cannot make the link {link}")


def write(path: str, data: bytes, mode: int, *, sync: bool = True) -> None:
    """Write a file, atomically and, unless told otherwise, durably."""
    with reached(path) as (found, other), telling(f"cannot write {path}"):
        if other is None:
            temporary = _beside(found)
            try:
                _write_new(temporary, data, mode, sync=sync)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            if sync:
                _put(temporary, found)
            else:
                temporary.replace(found)
            return
        script = 'cat >"$1.new" && chmod "$2" "$1.new" && sync -- "$1.new"'
        script += ' && mv -fT -- "$1.new" "$1" && sync -- "$3"'
        argv = ("/bin/sh", "-c", script, "sh", path, f"{mode:o}", str(PurePosixPath(path).parent))
        _do(other, argv, f"cannot write {path}", stdin=data)


def _write_new(path: Path, data: bytes, mode: int, *, sync: bool = True) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        if sync:
            os.fsync(file.fileno())


def _beside(path: str) -> Path:
    """A new name in the same folder: always the same one, so that a crash leaves at most one file."""
    found = Path(path)
    temporary = found.with_name(f".{found.name}.new")
    temporary.unlink(missing_ok=True)
    return temporary


def _put(temporary: Path, path: str) -> None:
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(temporary.parent)


def remove(path: str, user: str) -> None:
    """Remove a link, a file or a whole folder; links are removed, never followed. Missing is fine."""
    with reached(path) as (found, other), telling(f"cannot remove {path}"):
        if other is None:
            _remove(found, path, user)
            return
        if kind(path) == "folder" and (owner := os.lstat(path).st_uid) not in {0, other.uid}:
            _empty_as(account_of(owner), path)
        _do(other, ("rm", "-rf", "--", path), f"cannot remove {path}", timeout=LONGEST_ACT)


def _remove(found: str, path: str, user: str) -> None:
    if kind(found) == "folder":
        # Not synced: a folder of which a power loss brings a part back is removed again.
        if _empty(path, account(user) if user else account("")):
            Path(found).rmdir()  # may be closed to us: it need not be looked into
        else:
            _remove_tree(found)
        return
    Path(found).unlink(missing_ok=True)
    sync_folder(Path(found).parent)


def _empty(path: str, who: Account) -> bool:
    """Remove what only the folder's own user can; the folder itself lies in ours. Whether that was needed."""
    if os.geteuid() == 0 or who.is_ours or os.lstat(path).st_uid == os.geteuid():
        return False
    _empty_as(who, path)
    return True


def _empty_as(who: Account, path: str) -> None:
    script = 'chmod -R u+rwX -- "$1"; find "$1" -mindepth 1 -delete'
    _do(who, ("/bin/sh", "-c", script, "sh", path), f"cannot empty {path}", timeout=LONGEST_ACT)


def _remove_tree(path: str) -> None:
    # shutil.rmtree works on descriptors, so no link that is swapped in can lead it away.
    try:
        shutil.rmtree(path)
    except PermissionError:  # a build made a folder read-only, as Go's module cache does
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o700)
        shutil.rmtree(path)


def sync(folder: str) -> None:
    """Everything written to the file system of `folder` is on disk when this returns."""
    with telling(f"cannot sync {folder}"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _libc.syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """A folder's own entries are on disk when this returns."""
    if not folder.is_dir():
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _do(
    who: Account, argv: tuple[str, ...], failure: str, *, stdin: bytes = b"", timeout: float = 30
) -> Finished:
    done = run_short(argv, timeout=timeout, who=who, stdin=stdin)
    if done.code != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise StepFailed(cause_of(said), f"{failure} as {who.name}: {said or f'exit code {done.code}'}")
    return done
