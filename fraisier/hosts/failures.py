"""What the operating system, or a tool, refuses, as a step's failure that a person can act on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.users import account


def cause_of(said: str) -> Cause:
    """Whether a tool's message (in the C locale) is about a full disk."""
    full = ("No space left on device", "Disk quota exceeded", "Wrote only")  # the last is tar's
    return Cause.disk if any(text in said for text in full) else Cause.host


@contextmanager
def telling(failure: str) -> Iterator[None]:
    """Turn an OSError into a step's failure that a person can act on."""
    try:
        yield
    except OSError as error:
        raise os_failure(failure, error) from error


def os_failure(failure: str, error: OSError) -> StepFailed:
    """The step's failure for an error of the operating system. A full disk or a fault is tried again."""
    text = f"{failure}: {error.strerror or error}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StepFailed(Cause.disk, text, "Free some space; Fraisier tries again")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        us = account("").name
        return StepFailed(Cause.preflight, text, f"Fraisier runs as {us}: let {us} write there, or own it")
    return StepFailed(Cause.host, text)
