"""Performs a run of a user's shell line."""

from __future__ import annotations

import posixpath
import time
from typing import TYPE_CHECKING, cast

from fraisier.application.ports import Desk
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.job import Job
from fraisier.domain.run import RunEnding, RunStatus

if TYPE_CHECKING:
    from fraisier.application.desk import RunDesk

MOST_ARTEFACTS = 1000  # paths that are listed with a run
_LISTING = 60.0  # seconds
_SLACK = 2  # seconds: a file's time has a coarser clock

# What a pattern matches and was changed since; `for … in $pattern` expands file names and nothing else, for
# IFS is empty and what comes out of it is not read as shell again (POSIX, 2.6).
_LIST = """
since=$(( $(date +%s) - $1 )); shift
IFS=
for pattern do
    for file in $pattern; do
        [ -e "$file" ] || continue
        at=$(stat -c %Y -- "$file") || continue
        [ "$at" -ge "$since" ] && printf '%s\\0' "$file"
    done
done
:
"""


def run_command(desk: Desk) -> RunEnding:
    """Run the job's line in the folder of the release; then look which files it made.

    Raises:
        StepFailed: as `Host.run`; preflight, where nothing was deployed.
    """
    mine = cast("RunDesk", desk)
    began = time.monotonic()
    code = mine.follow(Command.shell(desk.job.run, cwd=mine.folder, timeout=desk.job.timeout))
    if code != 0:
        said = f"exit code {code}" if code > 0 else f"signal {-code}"
        message = f"cannot finish `{desk.job.run}`: it ended with {said}"
        return RunEnding(
            status=RunStatus.failed,
            cause=Cause.run,
            error=message,
            hint=f"See what it printed: fraisier logs {desk.claim.id[:8]}",
            exit_code=code,
        )
    found = artefacts(mine, mine.folder, time.monotonic() - began)
    return RunEnding(status=RunStatus.success, exit_code=0, artefacts=found)


def artefacts(desk: Desk, folder: str, took: float) -> tuple[str, ...]:
    """Absolute paths of what the job's patterns match, as far as a run in `folder` has changed it.

    A run that did its work is a success, whether or not its files can be listed.
    """
    if not desk.job.artefacts:
        return ()
    try:
        said = desk.run(listing(desk.job, folder, took), shown=False)
    except StepFailed as failure:
        desk.say(f"[its files are not listed: {failure.message}]")
        return ()
    paths = paths_in(said.output, folder)
    if len(paths) > MOST_ARTEFACTS:
        desk.say(f"[{len(paths)} files match; the first {MOST_ARTEFACTS} are listed]")
    return paths[:MOST_ARTEFACTS]


def listing(job: Job, folder: str, took: float) -> Command:
    """Look which files a run has made that began `took` seconds ago, in the folder of its release."""
    words = ("/bin/sh", "-c", _LIST, "sh", str(int(took) + _SLACK), *job.artefacts)
    return Command(argv=words, cwd=folder, timeout=_LISTING)


def paths_in(said: bytes, folder: str) -> tuple[str, ...]:
    """Absolute paths of what `listing` printed."""
    names = said.decode("utf-8", "replace").split("\0")[:-1]
    return tuple(sorted({posixpath.normpath(posixpath.join(folder, name)) for name in names}))
