"""Processes that end with Fraisier, even where Fraisier is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

from fraisier.hosts.users import STANDARD_PATH

# The kernel's promise begins when setpriv asks for it. Who died before that is not our parent any more.
_STILL_OURS = '[ "$PPID" = "$1" ] || exit 1; shift; exec "$@"'


def bound_to_us() -> tuple[str, ...]:
    """Words before a command that end it when the thread that starts it dies; none where nothing can.

    The kernel sends the signal (prctl(2), PR_SET_PDEATHSIG) when the *thread* ends, so that thread has to
    wait for the command.
    """
    setpriv = _setpriv()
    return (*setpriv, "/bin/sh", "-c", _STILL_OURS, "sh", str(os.getpid())) if setpriv else ()


@cache
def _setpriv() -> tuple[str, ...]:
    found = shutil.which("setpriv", path=STANDARD_PATH)
    if found is None:
        return ()
    offered = subprocess.run((found, "--help"), capture_output=True, check=False, timeout=10)
    return (found, "--pdeathsig", "KILL", "--") if b"--pdeathsig" in offered.stdout else ()
