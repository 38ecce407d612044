"""Anything else: a shell line that writes a dump to the file $FRAISIER_BACKUP, and one that reads from it.

It is verified as far as anybody can who does not know what is in it: the command succeeded, the file is not
empty, and its checksum is noted. A command that makes a snapshot elsewhere writes the snapshot's name into
the file.

What restores it is told where to by $FRAISIER_RESTORE_TO: a folder, or nothing for where it came from.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from fraisier.application.ports import Desk, Problem
from fraisier.backups.script import QUIETLY, script
from fraisier.domain.acts import Command
from fraisier.domain.backup import Source
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.secret import Secret

_SCRIPT = script(
    make='export FRAISIER_BACKUP="$part"\n/bin/sh -c "$2" >&2',
    verify="entries=1",
)
_RESTORE = 'FRAISIER_BACKUP=$1 FRAISIER_RESTORE_TO=$2 exec /bin/sh -c "$3"'
_ASK = f"""{QUIETLY}
cd "$1" && FRAISIER_RESTORE_TO=$1 quietly /bin/sh -c "$2"
"""


class BackupCommand:
    """`command` and `restore` of the source are the shell lines, performed in the release."""

    kind = "command"
    suffix = ".backup"

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """`url` is the shell line."""
        text = url.reveal() if isinstance(url, Secret) else url
        return _command(_SCRIPT, file, text, timeout=timeout)

    def dump_source(self, source: Source, file: str, *, timeout: float) -> Command:
        """The command in its frame."""
        return _command(_SCRIPT, file, source.command, timeout=timeout)

    def restore(self, source: Source, file: str, to: str, *, timeout: float) -> Command:
        """A line that does not look where to is not tried: it would overwrite what is in use.

        Raises:
            StepFailed: backup, where there is no such line.
        """
        if not source.restore:
            hint = "Say how with `restore:`, a shell line that reads $FRAISIER_BACKUP"
            raise StepFailed(Cause.backup, f"cannot bring {source.name} back: nobody said how", hint)
        if to and "FRAISIER_RESTORE_TO" not in source.restore:
            message = f"cannot try {source.name}: `restore` does not say that it heeds $FRAISIER_RESTORE_TO"
            hint = "Let it restore into that folder where the variable is not empty"
            raise StepFailed(Cause.backup, message, hint)
        return _command(_RESTORE, file, to, source.restore, timeout=timeout)

    def scratch(self, source: Source, folder: str, run: str) -> str:
        """A folder of its own."""
        return posixpath.join(folder, f"scratch-{source.name}-{run[:8]}")

    def make_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """Make it; those of earlier runs went with the folder that they were in."""
        return _command('mkdir -p -m 0700 -- "$1"', to, timeout=timeout)

    def drop_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """Remove it."""
        return _command('rm -rf -- "$1"', to, timeout=timeout)

    def count(self, source: Source, to: str, *, timeout: float) -> None:
        """Nobody knows what to count."""

    def beside(self, source: Source, to: str, *, timeout: float) -> None:
        """Nor this."""

    def ask(self, source: Source, to: str, *, timeout: float) -> Command:
        """`query` is a shell line, performed in the folder."""
        return _command(_ASK, to or ".", source.query, timeout=timeout)

    def problems(self, source: Source, desk: Desk) -> Sequence[Problem]:
        """None that could be known before."""
        return []


def _command(text: str, *words: str, timeout: float) -> Command:
    return Command(argv=("/bin/sh", "-c", text, "backup", *words), timeout=timeout, background=True)
