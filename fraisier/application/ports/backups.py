"""A kind of database that can be backed up: how a verified dump of it is made."""

from __future__ import annotations

from typing import Protocol

from fraisier.domain.acts import Command
from fraisier.domain.secret import Secret


class Dumper(Protocol):
    """One kind of database. Says what to run, as data.

    The command runs as the environment's user, writes the dump to `file` (or not at all: it is put in place
    when it has been verified and is on disk), and prints one line to stdout:
    `{"bytes": …, "sha256": "…", "entries": …}`, or `{"nothing": "why"}` where there is nothing to dump.
    """

    suffix: str

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """Dump the database at `url` into `file`; the URL, or its password, is no argument of any process."""
        ...
