"""Whether what runs is what is installed."""

from __future__ import annotations

import re
from pathlib import Path

import fraisier


class InstalledVersion:
    """Notices that another version of this package has been put on the disk."""

    _pattern = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)

    def __init__(self, path: str = fraisier.__file__) -> None:
        self._path = Path(path)
        self._stamp: tuple[int, int] | None = None
        self._changed = False

    def has_changed(self) -> bool:
        """Whether what is installed is another version than what runs."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                found = self._pattern.search(self._path.read_text(encoding="utf-8"))
                self._changed = found is not None and found[1] != fraisier.__version__
                self._stamp = stamp
        except OSError:
            return True  # in the middle of an upgrade
        return self._changed
