"""Whether a process lives. One that has ended and that nobody waits for is a zombie, for ever where the first
process of a machine does not reap (CI's does not): it counts as ended."""

from pathlib import Path


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
