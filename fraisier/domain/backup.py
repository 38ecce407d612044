"""What is backed up, where to, how long it is kept, and how it is tried. Times are seconds, sizes bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from fraisier.domain.secret import Secret

# 20261123T101500Z-1a2b3c4d: when it was begun (UTC), and the end of its run's id.
NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something that is backed up: a brand ("postgresql", "folder", …) and where it is.

    `url` is a database's. `path` is that of a folder, absolute or in the release. `command` is a shell line
    that writes into the file $FRAISIER_BACKUP, and `restore` one that reads from it. `exclude` are patterns
    of a folder's paths. `query` is SQL that is asked of what was restored, or a shell line that looks at it;
    it has to answer `expect`, or, where that is '', anything but nothing, 0 and false. `rows` says that every
    table must have as many rows as when the backup was made. What keys a brand has besides is in `options`.
    """

    name: str
    kind: str
    url: str | Secret = ""
    path: str = ""
    command: str = ""
    restore: str = ""
    exclude: tuple[str, ...] = ()
    query: str = ""
    expect: str = ""
    rows: bool = True
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where backups are kept: a brand ("folder", "rsync", "s3", "restic", …) and its place there.

    `place` is a folder, `[user@]host:folder`, `s3://bucket/prefix`, or a restic repository; what keys a brand
    has besides is in `options`.
    """

    name: str
    kind: str
    place: str
    options: Mapping[str, str | Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many backups are kept: the newest ones, and the newest of each of so many days, weeks, months.

    What any of the rules keeps is kept. All 0: everything is.
    """

    last: int = 7
    daily: int = 0
    weekly: int = 0
    monthly: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """Files are encrypted for these recipients of age; `identity` is the path, on the host, of a key to read
    them with, which only verifying and restoring need.
    """

    recipients: tuple[str, ...]
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSpec:
    """What a `backup` fraise does. `verified_within`: how old the newest verified backup may become.

    `staging` is the folder on the host where backups are made, and brought back to be verified; '' = a folder
    below the environment's app_path.
    """

    sources: tuple[Source, ...]
    destinations: tuple[Destination, ...]
    retention: Retention = field(default_factory=Retention)
    encryption: Encryption | None = None
    verified_within: float = 8 * 86400.0
    staging: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One file of a backup. `tables` has the rows of each table of a database, where the brand tells them."""

    source: str
    kind: str
    file: str  # its name in the backup's folder
    bytes: int
    sha256: str
    tables: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup consists of: the file `manifest.json` that lies beside its artefacts, written last."""

    name: str  # see NAME
    fraise: str
    environment: str
    made_at: float  # Unix seconds; when it was begun
    artefacts: tuple[Artefact, ...]
    encrypted: bool = False
    safety: bool = False  # made before a restore; no rule removes it


class CopyState(StrEnum):
    """What was found when a copy was last looked at."""

    unknown = "unknown"  # it is there, and nobody has looked at it yet, or it could not be read
    whole = "whole"  # every file has the size and the checksum that its manifest says
    damaged = "damaged"  # a file is missing, shorter, empty or other than it was
    gone = "gone"  # it is not there any more, and it was not Fraisier that removed it


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One backup at one destination, as it is known. Times are Unix seconds, sizes bytes.

    `manifest` is the manifest's sha256; '' = not read yet. `detail` says what is wrong with it.
    `verified_at` is when it was last brought back and found good, None: never; `flaw` what was wrong when it
    was last brought back, '' = nothing. `safety`: made before a restore replaced what it holds; no rule
    removes it.
    """

    destination: str
    name: str
    made_at: float
    bytes: int = 0
    manifest: str = ""
    state: CopyState = CopyState.unknown
    detail: str = ""
    looked_at: float | None = None
    verified_at: float | None = None
    flaw: str = ""
    safety: bool = False

    @property
    def is_good(self) -> bool:
        """Whether it may stand for others, so that they may go."""
        return self.state is CopyState.whole and not self.flaw


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyNote:
    """What is new about a copy; None: as it was known."""

    destination: str
    name: str
    made_at: float | None = None
    bytes: int | None = None
    manifest: str | None = None
    state: CopyState | None = None
    detail: str | None = None
    looked_at: float | None = None
    verified_at: float | None = None
    verified_run: str | None = None
    flaw: str | None = None
    safety: bool | None = None
    pruned_at: float | None = None


def backup_name(made_at: float, run: str) -> str:
    """See NAME."""
    return f"{datetime.fromtimestamp(made_at, UTC):%Y%m%dT%H%M%SZ}-{run.replace('-', '')[-8:]}"


def made_at_of(name: str) -> float:
    """Unix seconds; 0.0 where the name is none."""
    if not NAME.match(name):
        return 0.0
    try:
        return datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
