"""For the unit tests: they should cost little, on a slow disk too."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_ENOUGH = 1 << 30  # bytes; a container's may be tiny

# Each of xdist's workers would compile all tests anew, which takes it longer than to collect them.
sys.dont_write_bytecode = False


def _has_room(folder: Path) -> bool:
    """Whether files of tests, some of which are executed, can be there."""
    if not os.access(folder, os.W_OK):
        return False
    system = os.statvfs(folder)
    return not system.f_flag & os.ST_NOEXEC and system.f_bavail * system.f_frsize > _ENOUGH


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what lives until the end: thousands of tests and their modules."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Have what pytest looks through at its end be whole again."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def memory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder in memory where there is room: a test of a rule need not wait for a disk to sync.

    What syncs before what is watched by tests of its own, on a disk. It is reached by a link, because
    fraises.yaml refuses what is below /dev. Each of its tests leaves nothing there unless it fails.
    """
    above = Path(tempfile.mkdtemp(prefix="fraisier-unit-"))
    folder = above / "t"
    real = Path(tempfile.mkdtemp(prefix="fraisier-unit-", dir=_MEMORY)) if _has_room(_MEMORY) else above / "d"
    real.mkdir(mode=0o700, exist_ok=True)
    folder.symlink_to(real)
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = usual
    if not request.session.testsfailed:
        shutil.rmtree(real, ignore_errors=True)
        shutil.rmtree(above, ignore_errors=True)


@pytest.fixture(scope="session")
def _numbers() -> Iterator[int]:
    return count()


@pytest.fixture
def tmp_path(memory: Path, _numbers: Iterator[int], request: pytest.FixtureRequest) -> Iterator[Path]:
    """pytest's, in memory; what a failed test leaves there stays."""
    failed = request.session.testsfailed
    path = memory / f"{re.sub(r'[^a-z_]+', '_', request.node.name)[:24]}{next(_numbers)}"
    path.mkdir()
    yield path
    if request.session.testsfailed == failed:
        shutil.rmtree(path, ignore_errors=True)
