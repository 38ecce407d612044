"""Tar streams into and out of a folder, as the user that the folder belongs to."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from fraisier.application.ports import Job
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.failures import cause_of
from fraisier.hosts.files import names
from fraisier.hosts.short import as_somebody, identity, own_environment
from fraisier.hosts.users import Account

_LOOK = 100  # milliseconds between two looks at `job.stop`
_LONGEST_ERROR = 4096  # bytes
_CHUNK = 1 << 18


def unpack(archive: Iterable[bytes], folder: str, who: Account, job: Job) -> None:
    """Write a tar stream into `folder`, as `who`; root would follow a link that `who` put there.

    Raises:
        StepFailed: disk, host or cancelled.
    """
    words = ("--extract", "--file=-", "--no-same-owner", f"--directory={folder}")
    with tempfile.TemporaryFile() as errors, _tar(words, who, errors) as process:
        for chunk in archive:  # to its end even where tar has seen enough: git's exit code comes last
            if not _feed(process, chunk, job) and _wait(process, job) != 0:
                break
        if process.stdin is not None:
            process.stdin.close()
        if _wait(process, job) != 0:
            errors.seek(0)
            said = errors.read(_LONGEST_ERROR).decode("utf-8", "replace").strip()
            raise StepFailed(cause_of(said), f"cannot unpack the commit into {folder}: {said or 'tar ended'}")


EMPTY = b"\0" * 10240  # a tar stream without anything


def pack_words(folder: str, names: Sequence[str], leave_out: Sequence[str]) -> tuple[str, ...]:
    """What tar is told to write what a folder holds, without the paths in `leave_out`.

    Not the folder itself: whoever unpacks it may not own the one that it is unpacked into. () for nothing.
    """
    left_out = [name.rstrip("/") for name in leave_out]
    wanted = [f"./{name}" for name in names if name not in left_out]
    without = [f"--exclude=./{name}" for name in left_out]
    if not wanted:
        return ()
    return (
        "--create",
        "--file=-",
        "--anchored",
        "--no-wildcards",
        *without,
        f"--directory={folder}",
        *wanted,
    )


def pack(folder: str, leave_out: Sequence[str], who: Account, job: Job) -> Iterator[bytes]:
    """A folder as a tar stream, read as `who`.

    Raises:
        StepFailed: host, cancelled.
    """
    words = pack_words(folder, names(folder), leave_out)
    if not words:
        yield EMPTY
        return
    with tempfile.TemporaryFile() as errors, _tar(words, who, errors, out=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 given as PIPE
        pipe = process.stdout.fileno()
        while True:
            _check(job)
            if not select.select([pipe], [], [], _LOOK / 1000)[0]:
                continue
            if not (data := os.read(pipe, _CHUNK)):
                break
            yield data
        if _wait(process, job) != 0:
            errors.seek(0)
            said = errors.read(_LONGEST_ERROR).decode("utf-8", "replace").strip()
            raise StepFailed(cause_of(said), f"cannot pack {folder}: {said or 'tar ended'}")


@contextmanager
def _tar(
    words: Sequence[str], who: Account, errors: IO[bytes], *, out: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            (*as_somebody(who), "tar", *words),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=errors,
            env=own_environment(),
            cwd="/",
            bufsize=0,
            umask=0o022,
            start_new_session=True,
            **identity(who),
        )
    except OSError as error:
        raise StepFailed(Cause.host, f"cannot start tar: {error}", "sudo apt-get install tar") from error
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _feed(process: subprocess.Popen[bytes], chunk: bytes, job: Job) -> bool:
    """Whether tar took the chunk; False: it has ended."""
    _check(job)
    if process.stdin is None or process.poll() is not None:
        return False
    descriptor, rest = process.stdin.fileno(), memoryview(chunk)
    os.set_blocking(descriptor, False)
    while rest:
        _check(job)
        if not select.select([], [descriptor], [], _LOOK / 1000)[1]:
            continue
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            return False
    return True


def _wait(process: subprocess.Popen[bytes], job: Job) -> int:
    if process.poll() is not None:
        return process.returncode
    # Not `process.wait(timeout)`: it sleeps between looks, up to 50 ms longer than tar needs.
    ended = os.pidfd_open(process.pid)
    try:
        while not select.select([ended], [], [], _LOOK / 1000)[0]:
            _check(job)
    finally:
        os.close(ended)
    return process.wait()


def _check(job: Job) -> None:
    if job.stop.is_set():
        raise StepFailed(Cause.cancelled, "cannot finish moving files: it was cancelled")
