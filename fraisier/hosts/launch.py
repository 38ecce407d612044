"""Starts a long command in its scope, hands it its environment unseen, and follows it to its end.

What starts is a shell with an empty environment that reads from a pipe. It greets; only then, and under the
environment's lock, it is told what to run. So nothing runs whose scope a successor could not have found, and
no secret is in an argument, in a unit's properties or in a file. A worker that dies first tells nothing: the
shell reads the end of the pipe instead, and ends.
"""

from __future__ import annotations

import os
import resource
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from fraisier.application.ports import Job
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts import process_table
from fraisier.hosts.scopes import GRACE, Kind, Scope
from fraisier.hosts.short import identity, own_environment
from fraisier.hosts.users import STANDARD_PATH, Account

START_LIMIT = 30.0  # seconds that systemd may take to start a scope
NICENESS = 10  # of commands in the background: they get what others leave, a tenth where all want all
_LOOK = 100  # milliseconds between two looks at `job.stop`
_CHUNK = 1 << 16  # bytes
_DRAIN = 2.0  # seconds for output that is still in the pipe when the command has ended
_SIGNALS = range(1, 65)


class Outcome(Enum):
    """How following a command came to its end."""

    exited = auto()
    cancelled = auto()
    timeout = auto()


@dataclass(frozen=True, slots=True)
class Order:
    """What the shell is told to run."""

    argv: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    background: bool = False
    nice: str | None = None  # the program on another machine; '' = it has none

    def script(self) -> bytes:
        """One compound command: a shell runs none of it before it has read all of it."""
        exports = (f"export {name}={shlex.quote(value)}" for name, value in self.environment.items())
        lines = (
            "{",
            *exports,
            "umask 022",
            f"cd -- {shlex.quote(self.cwd)} || exit 126",
            "unset PWD OLDPWD SHLVL",
            # Not exec: systemd-run tells signals and exit codes apart no better than this shell does.
            f"{shlex.join((*self._nice(), *self.argv))} </dev/null",
            "exit $?",
            "}",
        )
        return "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n"

    def _nice(self) -> tuple[str, ...]:
        found = shutil.which("nice", path=STANDARD_PATH) if self.nice is None else self.nice
        nice = found if self.background else None
        return (nice, "-n", str(NICENESS)) if nice else ()


class Launched:
    """A scope whose shell has been started. Close it, whatever happens."""

    def __init__(self, scope: Scope, who: Account) -> None:
        """Start the shell.

        Raises:
            StepFailed: host, if nothing can be started.
        """
        self.scope = scope
        environment = own_environment() if scope.kind is not Kind.session else _cookie(scope)
        try:
            self._process = subprocess.Popen(
                _argv(scope, who),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                env=environment,
                cwd="/",
                start_new_session=True,
                **(identity(who) if scope.kind is Kind.session else {}),
            )
        except OSError as error:
            raise StepFailed(Cause.host, f"cannot start a command: {error}") from error
        self._out = self._stream_number(self._process.stdout)
        self._in = self._stream_number(self._process.stdin)
        self._pid_descriptor = os.pidfd_open(self._process.pid)
        self._cgroup = _cgroup(scope)

    @staticmethod
    def _stream_number(stream: object) -> int:
        return stream.fileno()  # type: ignore[attr-defined,no-any-return]  # given as PIPE, so never None

    @property
    def pid(self) -> int:
        """The first process: of the session, or of systemd-run."""
        return self._process.pid

    def wait_until_ready(self, job: Job) -> None:
        """Return when the shell has greeted from inside its scope.

        Raises:
            StepFailed: cancelled, or host with what systemd said instead.
        """
        greeting = f"ready {self.scope.cookie}\n".encode()
        self._tell(b"printf 'ready %s\\n' " + self.scope.cookie.encode() + b"\n")
        said, until = b"", time.monotonic() + START_LIMIT
        while not said.endswith(greeting):
            if job.stop.is_set():
                raise StepFailed(Cause.cancelled, "cannot start the command: it was cancelled")
            data = self._read_one() if self._readable() else None
            if data == b"" or time.monotonic() > until:
                raise _not_started(said)
            said += data or b""

    def _readable(self) -> bool:
        return bool(select.select([self._out], [], [], _LOOK / 1000)[0])

    def _read_one(self) -> bytes:
        # Byte by byte, so that nothing after the greeting is taken for a part of it.
        return os.read(self._out, 1)

    def tell(self, order: Order) -> None:
        """Tell the shell what to run; call only while holding the environment's lock."""
        self._tell(order.script())
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _tell(self, text: bytes) -> None:
        try:
            while text:
                text = text[os.write(self._in, text) :]
        except BrokenPipeError:
            return  # it has ended already; what it said tells why

    def follow(self, job: Job, timeout: float | None) -> Outcome:
        """Hand output over as it comes, until the command exits, is to stop, or has had its time."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        poller = select.poll()
        poller.register(self._out, select.POLLIN)
        poller.register(self._pid_descriptor, select.POLLIN)
        look_again = 0.0
        while not job.stop.is_set():
            if time.monotonic() >= until:
                return Outcome.timeout
            if time.monotonic() >= look_again:
                look_again = time.monotonic() + _LOOK / 1000
                self._look_at_memory(job.used)
            ready = {descriptor for descriptor, _ in poller.poll(_LOOK)}
            # The exit first: what a command left in the background may write for ever.
            if self._pid_descriptor in ready:
                return Outcome.exited
            if self._out in ready and not self._hand_over(job.output):
                poller.unregister(self._out)
        return Outcome.cancelled

    def _hand_over(self, output: Callable[[bytes], None]) -> bool:
        data = os.read(self._out, _CHUNK)
        if data:
            output(data)
        return bool(data)

    def drain(self, output: Callable[[bytes], None]) -> None:
        """Hand over what was still in the pipe; a process that got away may hold it open for ever."""
        os.set_blocking(self._out, False)
        until = time.monotonic() + _DRAIN
        try:
            while time.monotonic() < until and self._hand_over(output):
                pass
        except BlockingIOError:
            return

    def tell_memory(self, used: Callable[[int], None]) -> None:
        """Say how much memory a session's processes took, once they ended: the most that any of them did.

        Linux counts what we had ourselves when we forked (getrusage(2), ru_maxrss survives execve): only what
        is above that is theirs.
        """
        if self.scope.kind is not Kind.session or self._process.returncode is not None:
            return
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
        except ChildProcessError:
            return
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
            used(usage.ru_maxrss * 1024)

    def _look_at_memory(self, used: Callable[[int], None]) -> None:
        """While it runs: the peak of a unit's cgroup, or of the largest process of a session."""
        if self._cgroup:
            with suppress(OSError, ValueError):  # a kernel before 5.19, or the cgroup has just gone
                used(int(Path(self._cgroup, "memory.peak").read_bytes()))
        elif size := process_table.most_resident(self._process.pid):
            used(size)

    def has_left_nothing(self) -> bool:
        """Whether systemd-run says that the unit succeeded: then its cgroup is empty, without a look.

        In other cases, and of a session, nobody knows: systemd-run also fails when it loses the manager.
        """
        return self.scope.kind is not Kind.session and self._process.poll() == 0

    def exit_code(self) -> int:
        """The command's exit code; negative: the signal that ended it."""
        code = self._process.wait()
        return 128 - code if code - 128 in _SIGNALS else code

    def close(self) -> None:
        """Let go of the pipes and reap the first process. The scope must have been ended before."""
        os.close(self._pid_descriptor)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:  # a systemd-run that waits for a manager that does not answer
            self._process.kill()
            self._process.wait()


def _cgroup(scope: Scope) -> str:
    """The folder of a transient unit's cgroup; '' of a session."""
    if scope.kind is Kind.session:
        return ""
    own = f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service/app.slice"
    return f"/sys/fs/cgroup/{'system.slice' if scope.kind is Kind.system else own}/{scope.unit}"


def _not_started(said: bytes) -> StepFailed:
    text = said.decode("utf-8", "replace").strip() or f"nothing was started within {START_LIMIT:g} s"
    hint = "Fraisier needs root, or a polkit rule: see `fraisier init --service`"
    return StepFailed(Cause.host, f"cannot start a command in a scope of its own: {text}", hint)


def _cookie(scope: Scope) -> dict[str, str]:
    return {process_table.COOKIE: scope.cookie, "PATH": STANDARD_PATH}


def _argv(scope: Scope, who: Account) -> tuple[str, ...]:
    if scope.kind is Kind.session:
        return ("/bin/sh",)
    other = () if who.is_ours else (f"--uid={who.name}",)
    return (
        "systemd-run",
        f"--{scope.kind}",
        *("--quiet", "--pipe", "--wait", "--collect", "--no-ask-password", "--service-type=exec"),
        f"--unit={scope.unit}",
        "--description=A command of a deployment by Fraisier",
        "--property=KillMode=control-group",
        f"--property=TimeoutStopSec={GRACE:g}",
        *other,
        "--",
        shutil.which("env", path=STANDARD_PATH) or "/usr/bin/env",
        "-i",
        "/bin/sh",
    )
