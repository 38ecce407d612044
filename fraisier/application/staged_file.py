"""A small file in the folder where a backup is made or brought back.

The folder belongs to the environment's user and is closed to everybody else, a Fraisier that is not root too:
so its files are written and read by commands as that user.
"""

from __future__ import annotations

import base64

from fraisier.application.hear import hear
from fraisier.application.ports import Desk
from fraisier.domain.acts import Command

WRITE = """
umask 077
file=$1
shift
printf %s "$@" | base64 -d >"$file" && sync -- "$file" "$(dirname -- "$file")"
"""
READ = 'head -c "$2" -- "$1" | base64 -w 0'
_PIECE = 64 * 1024  # characters of a word; Linux takes 128 KiB: execve(2)
_QUICK = 60.0  # seconds


def write_staged(desk: Desk, path: str, content: bytes) -> None:
    """Write `content` to `path`, to the disk.

    Raises:
        StepFailed: as `hear`.
    """
    text = base64.b64encode(content).decode()
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    command = Command(argv=("sh", "-c", WRITE, "sh", path, *pieces), cwd="/", timeout=_QUICK)
    hear(desk, command, doing=f"write {path}")


def read_staged(desk: Desk, path: str, limit: int) -> bytes:
    """The first `limit` bytes of the file; b'' where it is not there.

    Raises:
        StepFailed: as `hear`.
    """
    command = Command(argv=("sh", "-c", READ, "sh", path, str(limit)), cwd="/", timeout=_QUICK)
    return base64.b64decode(hear(desk, command, doing=f"read {path}"))
