"""Fraisier's own tools as processes: their output, their end, and that nothing of them stays."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import pytest

from fraisier.application.ports import Job, Program
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.processes import LocalProcesses
from tests.processes import alive

ENV = {"PATH": os.environ["PATH"]}


def shell(line: str, **changes: object) -> Program:
    return Program(argv=("sh", "-c", line), env=ENV, **changes)  # type: ignore[arg-type]


def gone(pid: int, within: float = 2.0) -> bool:
    deadline = time.monotonic() + within
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def open_descriptors() -> int:
    gc.collect()  # what other tests of this process have left open is closed now, and not in between
    return len(list(Path("/proc/self/fd").iterdir()))


def listening() -> tuple[Job, list[bytes]]:
    chunks: list[bytes] = []
    return Job(stop=threading.Event(), output=chunks.append), chunks


def test_output_and_code_are_told() -> None:
    done = LocalProcesses().capture(shell("echo out; echo err >&2; exit 3"))
    assert (done.code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_a_large_input_does_not_block_a_program_that_writes_first() -> None:
    data = b"x" * 3_000_000
    assert LocalProcesses().capture(Program(argv=("cat",), env=ENV, stdin=data)).stdout == data


def test_a_missing_program_is_code_127() -> None:
    assert LocalProcesses().capture(Program(argv=("no-such-program",), env=ENV)).code == 127


def test_a_signal_shows_in_the_code() -> None:
    assert LocalProcesses().capture(shell("kill -9 $$")).code in (-9, 128 + 9)


def test_a_program_gets_no_other_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAISIER_SECRET", "x")
    assert b"FRAISIER_SECRET" not in LocalProcesses().capture(Program(argv=("env",), env=ENV)).stdout


@pytest.mark.parametrize(
    "line", ["sleep 60 & echo $!; wait", "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"]
)
def test_a_stop_ends_the_whole_group(line: str) -> None:
    job, chunks = listening()
    stopping = Job(stop=job.stop, output=lambda chunk: (chunks.append(chunk), job.stop.set())[0])
    began = time.monotonic()
    with pytest.raises(StepFailed) as caught:
        LocalProcesses().run(shell(line), stopping)
    assert caught.value.cause is Cause.cancelled
    assert time.monotonic() - began < 2
    assert gone(int(chunks[0]))


def test_a_timeout_ends_it() -> None:
    job, _ = listening()
    with pytest.raises(StepFailed) as caught:
        LocalProcesses().run(shell("sleep 60", timeout=0.2), job)
    assert caught.value.cause is Cause.timeout


def test_what_a_program_leaves_in_the_background_does_not_stay() -> None:
    job, chunks = listening()
    assert LocalProcesses().run(shell("sleep 60 & echo $!"), job) == 0
    assert gone(int(chunks[0]))


def test_a_stream_that_is_left_ends_the_program() -> None:
    job, _ = listening()
    with LocalProcesses().stream(shell("echo $$; exec yes"), job) as chunks:
        pid = int(next(chunks).split(b"\n")[0])
        assert alive(pid)
    assert gone(pid)


def test_a_stream_that_fails_does_not_just_end() -> None:
    job, errors = listening()
    with LocalProcesses().stream(shell("echo part; echo why >&2; exit 1"), job) as chunks:
        assert next(chunks) == b"part\n"
        with pytest.raises(StepFailed):
            list(chunks)
    assert errors == [b"why\n"]


def test_no_descriptor_stays_open() -> None:
    processes = LocalProcesses()
    processes.capture(shell("true", stdin=b"x"))
    before = open_descriptors()
    for _ in range(5):
        processes.capture(shell("true", stdin=b"x"))
        processes.capture(Program(argv=("no-such-program",), env=ENV, stdin=b"x"))
    assert open_descriptors() <= before
