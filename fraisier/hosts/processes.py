"""Fraisier's own tools as processes: git and what git starts. Commands of fraises run in scopes instead."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import IO, cast

from fraisier.application.ports import Finished, Job, Program
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.bound import bound_to_us

POLL = 0.1  # seconds between two looks at `stop`
GRACE = 0.5  # seconds between SIGTERM, on which git removes its lock files, and SIGKILL
CHUNK = 1 << 16
NOT_FOUND = 127  # what a shell answers for a missing program
_STDOUT, _STDERR = 1, 2


class LocalProcesses:
    """Fills the `Processes` port with processes of this machine.

    A program leads a session, and so a process group, of its own: a Ctrl-C on Fraisier's terminal does not
    reach it, and it can be killed whole. Where `setpriv` (util-linux) is installed its group ends with us:
    the thread that starts it is the one that waits for it, and none of these methods leaves a program behind,
    so that the kernel's signal can only come when the whole of Fraisier was killed.
    """

    def run(self, program: Program, job: Job) -> int:
        """See `Processes.run`."""
        try:
            with self._started(program) as process:
                for _, chunk in _pump(process, program, job.stop):
                    job.output(chunk)
                return _exit_code(process)
        except FileNotFoundError as missing:
            job.output(f"{missing}\n".encode())
            return NOT_FOUND

    def capture(self, program: Program, stop: Event | None = None) -> Finished:
        """See `Processes.capture`."""
        written: dict[int, list[bytes]] = {_STDOUT: [], _STDERR: []}
        try:
            with self._started(program) as process:
                for which, chunk in _pump(process, program, stop or Event()):
                    written[which].append(chunk)
                code = _exit_code(process)
        except FileNotFoundError as missing:
            return Finished(code=NOT_FOUND, stdout=b"", stderr=str(missing).encode())
        return Finished(code=code, stdout=b"".join(written[_STDOUT]), stderr=b"".join(written[_STDERR]))

    @contextmanager
    def stream(self, program: Program, job: Job) -> Iterator[Iterator[bytes]]:
        """See `Processes.stream`."""
        try:
            with self._started(program) as process:
                yield _stdout(process, program, job)
        except FileNotFoundError as missing:
            raise StepFailed(Cause.host, f"cannot run {program.argv[0]}: {missing}") from missing

    @contextmanager
    def _started(self, program: Program) -> Iterator[subprocess.Popen[bytes]]:
        with _stdin(program.stdin) as given:
            process = subprocess.Popen(
                (*bound_to_us(program.inherit), *program.argv),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=program.cwd,
                env=dict(program.env),
                pass_fds=program.inherit,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            _end_group(process)


@contextmanager
def _stdin(data: bytes) -> Iterator[int]:
    """A file with all of the input: a pipe could block both sides when the program writes before it reads."""
    if not data:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("stdin"), "w+b") as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()


def _stdout(process: subprocess.Popen[bytes], program: Program, job: Job) -> Iterator[bytes]:
    for which, chunk in _pump(process, program, job.stop):
        if which == _STDOUT:
            yield chunk
        else:
            job.output(chunk)
    if code := _exit_code(process):
        raise StepFailed(Cause.host, f"cannot finish {program.argv[0]}: it exited with code {code}")


def _pump(process: subprocess.Popen[bytes], program: Program, stop: Event) -> Iterator[tuple[int, bytes]]:
    """What the program writes, until it has ended and nothing more is to be read.

    The program's own end counts, not the end of its pipes: something that it left in the background may
    hold those open.
    """
    check = _limits(program, stop)
    with selectors.DefaultSelector() as selector, _exit_event(process) as exit_event:
        selector.register(cast("IO[bytes]", process.stdout), selectors.EVENT_READ, _STDOUT)
        selector.register(cast("IO[bytes]", process.stderr), selectors.EVENT_READ, _STDERR)
        selector.register(exit_event, selectors.EVENT_READ, None)
        exited = False
        while True:
            ready = [key for key, _ in selector.select(0 if exited else POLL)]
            pipes = [key for key in ready if key.data]
            if exited and not pipes:
                return
            for key in pipes:
                if chunk := os.read(key.fd, CHUNK):
                    yield key.data, chunk
                else:
                    selector.unregister(key.fileobj)
            if not exited and len(pipes) < len(ready):
                exited = True
                selector.unregister(exit_event)
            check()


@contextmanager
def _exit_event(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """A descriptor that becomes readable when the process ends, before it is reaped."""
    descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _limits(program: Program, stop: Event) -> Callable[[], None]:
    deadline = time.monotonic() + program.timeout
    name = program.argv[0]

    def check() -> None:
        if stop.is_set():
            raise StepFailed(Cause.cancelled, f"cannot finish {name}: it was stopped")
        if time.monotonic() > deadline:
            raise StepFailed(Cause.timeout, f"cannot finish {name} within {program.timeout:g} s")

    return check


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """The exit code, once `_pump` has seen the end. The zombie stays: it keeps the group's number ours."""
    status = cast("os.waitid_result", os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT))
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of the process's group alive. The process is reaped last: until then no other group
    can get its number."""
    if not _has_ended(process, 0):
        os.killpg(process.pid, signal.SIGTERM)
        _has_ended(process, GRACE)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _has_ended(process: subprocess.Popen[bytes], within: float) -> bool:
    with _exit_event(process) as descriptor, selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(within))
