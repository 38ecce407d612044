"""Processes that end with Fraisier, even where Fraisier is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from functools import cache

from fraisier.hosts.users import STANDARD_PATH

# What watches the command. The kernel's promise begins when setpriv asks for it: who died before that is not
# our parent any more. SIGTERM is for the command, which tidies up; a shell that is told to ignore it would
# have the command ignore it, too. In the background a command has no input but what is kept for it.
_WATCH = """
[ "$PPID" = "$1" ] || exit 1
shift
trap 'kill -KILL 0' USR1
trap : TERM
exec {kept}<&0 </dev/null
"$@" <&{kept} {kept}<&- &
command=$!
exec {kept}<&-
while wait "$command"; code=$?; kill -0 "$command" 2>/dev/null; do :; done
exit "$code"
"""


def bound_to_us(inherited: Collection[int] = ()) -> tuple[str, ...]:
    """Words before a command that end it, and all that it started, when the thread that starts it dies.

    None where nothing can. The kernel sends the signal (prctl(2), PR_SET_PDEATHSIG) when the *thread* ends,
    so that thread has to wait for the command; and the command has to lead a process group of its own, which
    is killed whole: `git fetch` would leave its helpers, which hold its locks, behind. `inherited` are
    descriptors that the command keeps.
    """
    setpriv = _setpriv()
    if not setpriv:
        return ()
    kept = next(number for number in range(9, 2, -1) if number not in inherited)  # a shell knows one digit
    return (*setpriv, "/bin/sh", "-c", _WATCH.format(kept=kept), "sh", str(os.getpid()))


@cache
def _setpriv() -> tuple[str, ...]:
    found = shutil.which("setpriv", path=STANDARD_PATH)
    if found is None:
        return ()
    offered = subprocess.run((found, "--help"), capture_output=True, check=False, timeout=10)
    return (found, "--pdeathsig", "USR1", "--") if b"--pdeathsig" in offered.stdout else ()
