"""One locked file per worker: the kernel frees it when the process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from fraisier.database.private_folder import private_folder
from fraisier.domain.errors import Conflict

_PATIENCE = 0.5  # seconds; whoever looks at a lock holds it for microseconds


class WorkerLocks:
    """The workers of one installation, on one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, worker: str) -> None:
        """Hold the worker's lock until `release`, or until this process ends.

        Raises:
            Conflict: another process holds it: two workers have the same name.
        """
        if worker in self._held:
            return
        private_folder(self._folder)
        descriptor = os.open(self._path(worker), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        latest = time.monotonic() + _PATIENCE
        while not _try(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > latest:
                os.close(descriptor)
                message = f"cannot start the worker {worker!r}: another one of that name runs"
                raise Conflict(message, "Stop it, or give this one another name")
            time.sleep(0.001)
        self._held[worker] = descriptor

    def renew(self, worker: str) -> None:
        """Give a sign of life: `sweep` counts from the last one."""
        descriptor = self._held.get(worker)
        if descriptor is not None:
            os.utime(descriptor)

    def release(self, worker: str) -> None:
        """Give the lock back and remove its file."""
        descriptor = self._held.pop(worker, None)
        if descriptor is not None:
            self._path(worker).unlink(missing_ok=True)
            os.close(descriptor)

    def is_dead(self, worker: str) -> bool:
        """Whether the worker held a lock and no longer does. Without a file nothing is known: False."""
        return worker not in self._held and self._is_free(self._path(worker))

    def sweep(self, older_than: float) -> int:
        """Remove the files of dead workers whose last sign of life is `older_than` seconds old; how many."""
        latest = time.time() - older_than
        files = list(self._folder.glob("*.lock")) if self._folder.is_dir() else []
        removed = 0
        for path in files:
            with suppress(FileNotFoundError):  # another worker sweeps, too
                if path.stat().st_mtime < latest and self._is_free(path):
                    path.unlink()
                    removed += 1
        return removed

    def close(self) -> None:
        """Let go of the locks but leave the files: to others these workers have died."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    @staticmethod
    def _is_free(path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Shared, so that two who look do not take each other for the worker.
            return _try(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _path(self, worker: str) -> Path:
        return self._folder / f"{quote(worker, safe='')}.lock"


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
