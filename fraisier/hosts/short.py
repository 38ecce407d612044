"""Short commands of Fraisier's own on this machine: bounded in time, and gone when Fraisier is."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fraisier.application.ports import Finished
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.bound import bound_to_us
from fraisier.hosts.users import STANDARD_PATH, Account

MISSING = 127  # the exit code that shells give to a program that is not there


def run_short(
    argv: Sequence[str], *, timeout: float, who: Account | None = None, stdin: bytes = b""
) -> Finished:
    """Run to the end, as `who` (None: ourselves). Code 127 where the program is missing.

    Raises:
        StepFailed: timeout, after its whole process group was killed.
    """
    try:
        process = subprocess.Popen(
            (*bound_to_us(), *as_somebody(who), *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=own_environment(),
            cwd="/",
            start_new_session=True,
            umask=0o022,
            **identity(who),
        )
    except FileNotFoundError:
        return Finished(code=MISSING, stdout=b"", stderr=f"{argv[0]}: not found".encode())
    try:
        out, err = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        message = f"cannot finish `{shlex.join(argv)}` within {timeout:g} s"
        raise StepFailed(Cause.timeout, message, "Run it by hand to see what it waits for") from None
    finally:
        with suppress(ProcessLookupError):  # an unreaped process keeps the group's number ours
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return _finished(argv, process.returncode, out, err)


def _finished(argv: Sequence[str], code: int, out: bytes, err: bytes) -> Finished:
    if code == MISSING and shutil.which(argv[0]) is None:  # a shell's words are not ours
        err = f"{argv[0]}: not found".encode()
    return Finished(code=code, stdout=out, stderr=err)


def identity(who: Account | None) -> dict[str, Any]:
    """What makes `subprocess` start a process as `who`; nothing where that is us already."""
    if who is None or who.is_ours or os.geteuid() != 0:
        return {}
    return {"user": who.uid, "group": who.gid, "extra_groups": list(who.groups)}


def as_somebody(who: Account | None) -> tuple[str, ...]:
    """Words before a command that is to run as another user while we are not root: systemd, asked nicely."""
    if who is None or who.is_ours or os.geteuid() == 0:
        return ()
    options = ("--quiet", "--pipe", "--wait", "--collect", "--no-ask-password", "--service-type=exec")
    return ("systemd-run", *options, f"--uid={who.name}", "--")


def own_environment() -> dict[str, str]:
    """The environment of our own tools: no secret of ours, messages in English."""
    found = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    # Where our user manager listens. A service with User= is not told, and under sudo the variable names
    # the folder of another user.
    runtime = f"/run/user/{os.geteuid()}"
    if os.access(runtime, os.X_OK, effective_ids=True):
        found["XDG_RUNTIME_DIR"] = runtime
    return {"PATH": STANDARD_PATH, "HOME": "/", **found, "LC_ALL": "C.UTF-8"}
