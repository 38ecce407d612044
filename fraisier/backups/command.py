"""Any other database: `backup_command`, a shell line that writes a dump to the file $FRAISIER_BACKUP.

It is verified as far as anybody can who does not know what is in it: the command succeeded, the file is not
empty, and its checksum is noted. A command that makes a snapshot elsewhere writes the snapshot's name into
the file.
"""

from __future__ import annotations

from fraisier.backups.script import script
from fraisier.domain.acts import Command
from fraisier.domain.secret import Secret

_SCRIPT = script(
    make='export FRAISIER_BACKUP="$part"\n/bin/sh -c "$2" >&2',
    verify="entries=1",
)


class BackupCommand:
    """`url` is the shell line."""

    suffix = ".backup"

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """The command in its frame."""
        text = url.reveal() if isinstance(url, Secret) else url
        argv = ("/bin/sh", "-c", _SCRIPT, "backup", file, text)
        return Command(argv=argv, timeout=timeout, background=True)
