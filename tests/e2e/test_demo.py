"""`fraisier demo` as a person runs it: its story, its end, and what an earlier one left behind."""

from __future__ import annotations

import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

DEMO = (sys.executable, "-m", "fraisier", "demo")
LIMIT = 120.0  # seconds; the demo itself takes about 20


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    path = Path(tempfile.mkdtemp(prefix="demo-"))
    yield path
    shutil.rmtree(path)


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that play in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            belongs = str(folder).encode() in (process / "environ").read_bytes()
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended meanwhile, or is another user's
            continue
        if belongs and line:
            found.append(line)
    return found


@contextmanager
def playing(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo in a pipe; killed if the test leaves it running."""
    demo = subprocess.Popen(
        (*DEMO, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield demo
    finally:
        demo.kill()
        demo.communicate()


def read_until(demo: subprocess.Popen[str], words: str) -> None:
    """Read what the demo tells until it says `words`."""
    assert demo.stdout is not None
    told, until = "", time.monotonic() + LIMIT
    while words not in told:
        assert time.monotonic() < until, told
        if select.select([demo.stdout], [], [], 1.0)[0]:
            piece = os.read(demo.stdout.fileno(), 4096).decode()
            assert piece, told
            told += piece


def play(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd="/")


def test_the_story_is_told_even_after_a_demo_that_was_killed(folder: Path) -> None:
    with playing("--folder", str(folder)) as killed:
        read_until(killed, "2. A second version")
    told = play((*DEMO, "--folder", str(folder)))
    assert told.returncode == 0, told.stdout + told.stderr
    assert re.findall(r"status (\w+)", told.stdout) == ["success", "success", "rolled_back", "success"]
    assert re.findall(r"says version (\d)", told.stdout) == ["1", "2", "2", "4"]
    assert told.stdout.count("webhook: 202 accepted") == 4
    assert "\x1b" not in told.stdout, "colours belong on terminals"
    assert processes_of(folder) == []


def test_ctrl_c_ends_every_process_of_the_demo(folder: Path) -> None:
    with playing("--folder", str(folder)) as demo:
        read_until(demo, "says version 1")
        assert processes_of(folder)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=LIMIT)
        assert demo.returncode == 130
    assert processes_of(folder) == []


def test_a_folder_that_holds_something_else_is_left_alone(folder: Path) -> None:
    (folder / "thesis.txt").write_text("years of work")
    refused = play((*DEMO, "--folder", str(folder)))
    assert refused.returncode == 2
    assert "cannot play the demo" in refused.stderr
    assert [entry.name for entry in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become somebody else"
)
def test_the_demo_needs_no_rights_and_no_writable_checkout() -> None:
    nobody = pwd.getpwnam("nobody")
    # The interpreter may lie in root's home. To read, the demo may pass everywhere; to write, nowhere.
    become = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--no-new-privs")
    told = play((*become, *reading, "--", *DEMO))
    assert told.returncode == 0, told.stdout + told.stderr
    where = re.search(r"all of it in (\S+)", told.stdout)
    assert where is not None
    assert not Path(where[1]).exists(), "a temporary folder goes with the demo"
    assert processes_of(Path(where[1])) == []
