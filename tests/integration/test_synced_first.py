"""What an answer, or a switch, stands on is on disk before it: read from the system calls.

Killing a process proves nothing about a disk; the order of writes and syncs does.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.outside import all_ended, rows, serving
from tests.integration.site import Site, until

CALLS = "fsync,fdatasync,syncfs,rename,renameat,renameat2,pwrite64,write,writev,sendto,sendmsg,openat,close"
STARTED = re.compile(r"(\d+) +(\w+)\((.*)")
RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="watches system calls: needs strace")


@dataclass
class Call:
    """A system call. `began` and `ended` are lines of the trace, which are in the order of events."""

    name: str
    text: str
    began: int
    ended: int


class Trace:
    """The calls of a process and of all that it started."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def argv(self) -> tuple[str, ...]:
        """Words before a command. With -D the command stays our own child; -y shows paths."""
        options = ("-D", "-f", "-y", "-q", "-s", "8192", "-e", f"trace={CALLS}", "-e", "signal=none")
        return ("strace", *options, "-o", str(self.file))

    @property
    def is_written(self) -> bool:
        """Whether strace still lives."""
        mark = str(self.file).encode()
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if words[0] == b"strace" and mark in words:
                    return True
        return False

    def calls(self) -> list[Call]:
        """What was called so far, in the order of the ends."""
        pending: dict[tuple[str, str], Call] = {}
        found = []
        for number, line in enumerate(self.file.read_text("latin-1").splitlines()):
            if match := RESUMED.match(line):
                call = pending.pop((match[1], match[2]), None)
                if call is not None:
                    call.ended = number
                    call.text += match[3]
                    found.append(call)
            elif match := STARTED.match(line):
                call = Call(match[2], match[3], number, number)
                if line.endswith("<unfinished ...>"):
                    pending[match[1], match[2]] = call
                else:
                    found.append(call)
        return found


def find(calls: list[Call], names: str, *parts: str, after: int = -1) -> Call:
    """The first call of one of these names that has all the parts and begins after a line."""
    for call in calls:
        if call.name in names.split() and call.began > after and all(part in call.text for part in parts):
            return call
    raise AssertionError(f"no {names} with {parts} after line {after}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, extra='build: ["echo built > built"]')
    yield made
    made.fraisier.store.close()


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return Trace(tmp_path / "trace")


def deployed(site: Site, trace: Trace) -> tuple[dict[str, Any], str]:
    """Push and await the deployment under strace; its row and the id of the delivery."""
    with serving(site, before=trace.argv) as serve:
        serve.start()
        status, _ = serve.webhook(site.push({"VERSION": "one"}))
        assert status == 202
        (row,) = all_ended(site)
        assert row["status"] == "success", row
        serve.kill()
    until("strace to end", lambda: not trace.is_written)
    (event,) = rows(site, "SELECT delivery_id FROM tb_webhook_events")
    return row, event["delivery_id"]


def test_a_delivery_is_on_disk_before_it_is_answered(site, trace):
    _, delivery = deployed(site, trace)
    calls = trace.calls()
    written = find(calls, "pwrite64", "-wal>", delivery)
    synced = find(calls, "fdatasync fsync", "-wal>", after=written.ended)
    answered = find(calls, "write writev sendto sendmsg", "HTTP/1.1 202")
    assert synced.ended < answered.began


def test_a_release_is_on_disk_before_it_is_called_whole_and_whole_before_it_is_current(site, trace):
    row, _ = deployed(site, trace)
    calls, release = trace.calls(), row["release"]
    built = max(call.ended for call in calls if call.name == "write" and f"{release}/built>" in call.text)
    synced = find(calls, "syncfs", f"/releases/{release}>", after=built)
    marked = find(calls, "rename renameat renameat2", f".{release}.json.new", after=synced.ended)
    marker = find(calls, "fsync", f".{release}.json.new>")
    assert synced.ended < marker.began
    assert marker.ended < marked.began
    recorded = find(calls, "fsync", ".fraisier/releases>", after=marked.ended)
    switched = find(calls, "rename renameat renameat2", ".current.new")
    assert recorded.ended < switched.began
    find(calls, "fsync", f"{site.app}>", after=switched.ended)
