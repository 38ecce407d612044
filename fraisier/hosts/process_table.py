"""Finding and ending every process of a session scope, where no cgroup keeps them together.

A process belongs to a scope if it is in the session or group of the scope's first process, or carries the
scope's cookie in its environment (a daemon that went into a session of its own still does), or descends from
one that does.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

COOKIE = "FRAISIER_SCOPE"  # the environment variable that marks a scope's processes
_POLL = 0.02
_PAGE = 1 << 16
_SECOND_LOOKS, _SECOND_LOOK = 10, 0.003  # seconds
_HIGH_WATER = re.compile(rb"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_KERNEL = 2  # the parent of the kernel's own threads, which never have an environment


@dataclass(frozen=True, slots=True)
class Process:
    """A line of the process table. `started` is in clock ticks since boot; with the pid it is unique."""

    pid: int
    parent: int
    group: int
    session: int
    started: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What a scope's processes are known by. `pid` 0: the first process never was recorded."""

    cookie: str
    pid: int = 0
    started: int = 0


def started_at(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None: it is gone."""
    found = _process(pid)
    return None if found is None else found.started


def most_resident(pid: int) -> int:
    """The most memory that `pid`, or any process below it, has had in RAM, in bytes; 0: nobody tells."""
    found, waiting = 0, [pid]
    while waiting:
        each = waiting.pop()
        said = _HIGH_WATER.search(_read(f"/proc/{each}/status") or b"")
        found = max(found, int(said[1]) * 1024 if said else 0)
        # proc_pid_task(5): there where the kernel was built with CONFIG_PROC_CHILDREN.
        waiting += map(int, (_read(f"/proc/{each}/task/{each}/children") or b"").split())
    return found


def members(marks: Marks) -> set[Process]:
    """Every living process of the scope, except ourselves."""
    table = {each.pid: each for each in map(_process, _pids()) if each is not None}
    found = {each for each in table.values() if _in_session(each, marks, table) or _has_cookie(each, marks)}
    found |= _looked_at_again(table.keys() - {each.pid for each in found}, table, marks)
    size = -1
    while size != len(found):
        size = len(found)
        pids = {each.pid for each in found}
        found |= {each for each in table.values() if each.parent in pids}
    return {each for each in found if each.pid != os.getpid()}


def _looked_at_again(pids: Iterable[int], table: Mapping[int, Process], marks: Marks) -> set[Process]:
    """Of the others those that are the scope's after all: while a program is being replaced by another one
    (execve), its environment is empty for a moment."""
    unsure = {
        table[pid]
        for pid in pids
        if table[pid].started >= marks.started and table[pid].parent != _KERNEL and _environment(pid) == b""
    }
    found: set[Process] = set()
    for _ in range(_SECOND_LOOKS):
        if not unsure:
            break
        time.sleep(_SECOND_LOOK)
        found |= {each for each in unsure if _has_cookie(each, marks)}
        unsure = {each for each in unsure if _environment(each.pid) == b""}
    return found


def end(marks: Marks, *, grace: float, limit: float) -> bool:
    """End every process of the scope: SIGTERM, after `grace` seconds SIGKILL until none is left.

    Returns False if some were still there after `limit` seconds.
    """
    began = time.monotonic()
    asked: set[Process] = set()
    while found := members(marks):
        passed = time.monotonic() - began
        if passed > limit:
            return False
        for each in found:
            if passed >= grace:
                _send(each, signal.SIGKILL)
            elif each not in asked:
                _send(each, signal.SIGTERM)
        asked |= found
        time.sleep(_POLL)
    return True


def _send(process: Process, number: signal.Signals) -> None:
    """Signal exactly this process, even if its pid has meanwhile been given to another."""
    with suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if started_at(process.pid) == process.started:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _in_session(process: Process, marks: Marks, table: dict[int, Process]) -> bool:
    if not marks.pid or marks.pid not in {process.session, process.group} or process.started < marks.started:
        return False
    leader = table.get(marks.pid)  # another one under this pid: the number was given out again
    return leader is None or leader.started == marks.started


def _has_cookie(process: Process, marks: Marks) -> bool:
    if process.started < marks.started:
        return False  # it was there before the first one that had it
    return f"{COOKIE}={marks.cookie}".encode() in (_environment(process.pid) or b"").split(b"\0")


def _environment(pid: int) -> bytes | None:
    """None: it is gone, or another user's, and then not of a scope that we may end."""
    return _read(f"/proc/{pid}/environ")


def _read(path: str) -> bytes | None:
    """A file of /proc, with as few calls as can be: there are as many as processes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = b""
        while data := os.read(descriptor, _PAGE):
            found += data
        return found
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 names, not paths


def _process(pid: int) -> Process | None:
    line = _read(f"/proc/{pid}/stat")
    if not line:
        return None
    # proc(5): the name, in parentheses, may hold anything; what follows are numbers.
    state, parent, group, session, *rest = line.rpartition(b")")[2].split()
    if state in {b"Z", b"X"}:
        return None
    return Process(pid, int(parent), int(group), int(session), int(rest[15]))
