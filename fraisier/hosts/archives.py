"""Unpacks a tar stream into a folder as the user that the folder belongs to."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from fraisier.application.ports import Job
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.files import cause_of
from fraisier.hosts.short import as_somebody, identity, own_environment
from fraisier.hosts.users import Account

_LOOK = 100  # milliseconds between two looks at `job.stop`
_LONGEST_ERROR = 4096  # bytes


def unpack(archive: Iterable[bytes], folder: str, who: Account, job: Job) -> None:
    """Write a tar stream into `folder`, as `who`; root would follow a link that `who` put there.

    Raises:
        StepFailed: disk, host or cancelled.
    """
    with tempfile.TemporaryFile() as errors, _tar(folder, who, errors) as process:
        for chunk in archive:  # to its end even where tar has seen enough: git's exit code comes last
            if not _feed(process, chunk, job) and _wait(process, job) != 0:
                break
        if process.stdin is not None:
            process.stdin.close()
        if _wait(process, job) != 0:
            errors.seek(0)
            said = errors.read(_LONGEST_ERROR).decode("utf-8", "replace").strip()
            raise StepFailed(cause_of(said), f"cannot unpack the commit into {folder}: {said or 'tar ended'}")


@contextmanager
def _tar(folder: str, who: Account, errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    argv = ("tar", "--extract", "--file=-", "--no-same-owner", f"--directory={folder}")
    try:
        process = subprocess.Popen(
            (*as_somebody(who), *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
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
        raise StepFailed(Cause.cancelled, "cannot finish unpacking: it was cancelled")
