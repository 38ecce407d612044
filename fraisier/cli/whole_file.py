"""A file that is either all there or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fraisier.domain.errors import Conflict, UsageError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file for us alone. Left without an error it is at `path`, on the disk; else nothing has happened.

    A file that was there before is replaced. Killed in the middle, `.NAME.….partial` is left beside it.

    Raises:
        UsageError: there can be no such file.
        Conflict: the disk is full, or broken.
    """
    final = path.resolve()
    descriptor, partial = _partial(final)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, final)
        _sync(final.parent)
    except BaseException as error:
        with suppress(OSError):
            Path(partial).unlink()
        if isinstance(error, OSError):
            raise Conflict(f"cannot write {path}: {error.strerror}", "Nothing was replaced") from error
        raise


def _partial(final: Path) -> tuple[int, str]:
    if final.exists() and not final.is_file():
        raise UsageError(f"cannot write {final}: it is no file", "Name a file, or - for stdout")
    try:
        return tempfile.mkstemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent)
    except OSError as error:
        message = f"cannot write {final}: {error.strerror}"
        raise UsageError(
            message, f"Check that {final.parent} exists and is writable for this user"
        ) from error


def _sync(folder: Path) -> None:
    """A renamed file is there after a power cut when its folder was synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
