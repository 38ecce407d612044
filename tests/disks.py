"""Small disks of a test's own, to be filled to their last byte, or to lose what was not synced. They need root."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SIZE = 6 << 20  # bytes of a small disk
_IMAGE = 1 << 30  # bytes of one whose power is cut; its file takes no more than what is written
_PATIENCE = 10.0  # seconds for the processes of a dead machine to be gone

# From linux/fs/ext4/ext4.h: shut down at once, without flushing the journal. What was not synced is lost.
_EXT4_IOC_SHUTDOWN, _NOLOGFLUSH = 0x8004587D, 2


class Disk:
    """A small file system that can be filled to its last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes."""
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                file.truncate(max(0, file.tell() - leave))

    def free(self) -> None:
        """Give the space back."""
        (self.folder / "ballast").unlink()


@contextmanager
def disk(folder: Path, size: int = SIZE) -> Iterator[Disk]:
    """A small disk, mounted at `folder` for as long as this is entered."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder))
    try:
        if folder.name == "app":
            (folder / "releases").mkdir()  # or the ballast would be taken for somebody's files
        yield Disk(folder)
    finally:
        subprocess.run(("umount", "--lazy", folder), check=True)


class Machine:
    """An ext4 file system whose power can be cut. `places` are where folders of it are seen, by name."""

    def __init__(self, root: Path, places: Mapping[str, Path]) -> None:
        self._image, self._mounted, self._places = root / "image", root / "mounted", places
        self._mounted.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(_IMAGE)
        subprocess.run(("mkfs.ext4", "-q", "-F", self._image), check=True)

    def plug_in(self) -> None:
        """Mount what is on the disk."""
        _mount("-o", "loop", str(self._image), str(self._mounted))
        for name, place in self._places.items():
            (self._mounted / name).mkdir(exist_ok=True, mode=0o700)
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            _mount("--bind", str(self._mounted / name), str(place))

    def lose_power(self) -> None:
        """Lose what was not synced, and every process that works on the disk."""
        self.lose_unsynced()
        self.unplug()

    def lose_unsynced(self) -> None:
        """From now on nothing is read or written; what was not synced will never have been."""
        folder = os.open(self._mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(folder)

    def unplug(self) -> None:
        """End who uses it, and unmount it."""
        latest = time.monotonic() + _PATIENCE
        for place in (*self._places.values(), self._mounted):
            while os.path.ismount(place):
                _end_who_uses((*self._places.values(), self._mounted))
                done = subprocess.run(("umount", place), capture_output=True, text=True, check=False)
                assert done.returncode == 0 or time.monotonic() < latest, done.stderr
                time.sleep(0 if done.returncode == 0 else 0.02)


@contextmanager
def machine(root: Path, places: Mapping[str, Path]) -> Iterator[Machine]:
    """A disk whose power can be cut, for as long as this is entered; it is plugged in."""
    made = Machine(root, places)
    try:
        made.plug_in()
        yield made
    finally:
        made.unplug()


def _mount(*words: str) -> None:
    done = subprocess.run(("mount", *words), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


def _end_who_uses(folders: tuple[Path, ...]) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(entry.name) != os.getpid() and _uses(entry, folders):
                os.kill(int(entry.name), signal.SIGKILL)


def _uses(process: Path, folders: tuple[Path, ...]) -> bool:
    links = [process / "cwd", process / "exe", *(process / "fd").iterdir()]
    for link in links:
        with suppress(OSError):
            where = link.readlink()
            if any(where.is_relative_to(folder) for folder in folders):
                return True
    return False
