"""Fraisier's own tools (git, ssh), and what anything long reports to while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Job:
    """What something long reports to while it runs: where output goes, and whether to stop.

    `stop` is set by a cancel, a lost lease or a shutdown; whoever waits must look at it often (within
    0.2 s) and end what it started. `output` takes raw bytes; it redacts by itself. `used` is told how much
    memory a command took at the most, in bytes, where the system tells: perhaps never, perhaps several times.
    """

    stop: threading.Event
    output: Callable[[bytes], None]
    used: Callable[[int], None] = lambda _bytes: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A short command that ended."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A tool that Fraisier runs for itself (git, ssh): not a command of a fraise.

    `argv` goes to the system as it is, never through a shell. `env` is the whole environment. `inherit`
    names open file descriptors that the program keeps. `timeout` in seconds.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = "/"
    stdin: bytes = b""
    timeout: float = 60.0
    inherit: tuple[int, ...] = ()


class Processes(Protocol):
    """Runs Fraisier's own tools, each in a process group of its own that never outlives the call.

    All of them look at `stop` at least every 0.1 s. A missing program ends with code 127.
    """

    def run(self, program: Program, job: Job) -> int:
        """Run to the end; stdout and stderr go to `job.output`. Returns the exit code (negative, or 128 and
        more: a signal).

        Raises:
            StepFailed: cancelled or timeout; the whole group is gone then.
        """
        ...

    def capture(self, program: Program, stop: threading.Event | None = None) -> Finished:
        """Run to the end and return what it wrote.

        Raises:
            StepFailed: as `run`.
        """
        ...

    def stream(self, program: Program, job: Job) -> AbstractContextManager[Iterator[bytes]]:
        """Read stdout while the program runs; stderr goes to `job.output`.

        The iterator ends only after exit code 0. Leaving the context ends the program.

        Raises:
            StepFailed: host, where it exits with another code; cancelled or timeout as `run`.
        """
        ...
