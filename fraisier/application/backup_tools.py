"""What making, trying and bringing back backups have in common: the brands, a folder of one's own, and
commands that tell what they did.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fraisier.application.hear import hear
from fraisier.application.ports import Cipher, Clock, Desk, DestinationBrand, SourceBrand, Store
from fraisier.domain.acts import Command
from fraisier.domain.backup import Artefact, BackupSpec, Destination, Source
from fraisier.domain.errors import Cause, FraisierError, StepFailed
from fraisier.domain.release import Layout

_Brand = TypeVar("_Brand")
CIPHER = "age"
STAGING = "staging"  # below the environment's folder of backups
YES = "yes"  # as a parameter of a run says it
# What says nothing about the backup: its place, its host or its time is to blame.
NOT_ITS_FAULT = frozenset(
    {Cause.disk, Cause.network, Cause.host, Cause.store, Cause.timeout, Cause.cancelled, Cause.preflight}
)


@dataclass(frozen=True, slots=True)
class BackupBrands:
    """What backups are made with, by name."""

    sources: Mapping[str, SourceBrand] = field(default_factory=dict)
    places: Mapping[str, DestinationBrand] = field(default_factory=dict)
    ciphers: Mapping[str, Cipher] = field(default_factory=dict)

    def source(self, source: Source) -> SourceBrand:
        """The brand of a source.

        Raises:
            StepFailed: preflight, where nobody has it any more.
        """
        return _brand(self.sources, source.kind, f"source {source.name}")

    def place(self, destination: Destination) -> DestinationBrand:
        """The brand of a destination; raises as `source`."""
        return _brand(self.places, destination.kind, f"destination {destination.name}")

    @property
    def cipher(self) -> Cipher:
        """What encrypts plain files; raises as `source`."""
        return _brand(self.ciphers, CIPHER, "encryption")


@dataclass(frozen=True, slots=True)
class BackupTools:
    """The brands, what is known of the copies, and the time."""

    brands: BackupBrands
    store: Store
    clock: Clock


def _brand(known: Mapping[str, _Brand], kind: str, what: str) -> _Brand:
    if kind not in known:
        message = f"cannot use the {what}: no installed package knows {kind!r}"
        raise StepFailed(Cause.preflight, message, "Install what was there when it was configured")
    return known[kind]


def spec_of(desk: Desk) -> BackupSpec:
    """What the environment's backups consist of.

    Raises:
        StepFailed: preflight, where it has none any more.
    """
    spec = desk.environment.backup
    if spec is None:
        message = f"cannot work on backups of {desk.environment.key}: it has none"
        raise StepFailed(Cause.preflight, message, "Its configuration was another when this was asked for")
    return spec


@contextmanager
def staging(desk: Desk) -> Iterator[str]:
    """An empty folder on the host, of this run alone; what a run before it has left there is removed."""
    folder = _folder(desk)
    user = desk.environment.user
    with desk.guard():
        desk.host.remove(folder, user=user)
        parent = posixpath.dirname(folder)
        if desk.host.kind(parent) == "missing":
            desk.host.make_folder(parent, mode=0o711)
        desk.host.make_folder(folder, user=user, mode=0o700)
    try:
        yield folder
    except BaseException:
        # Who was replaced must not, and who cannot, need not: the next run here does it.
        with suppress(FraisierError):
            _clear(desk, folder)
        raise
    _clear(desk, folder)


def _clear(desk: Desk, folder: str) -> None:
    with desk.guard():
        desk.host.remove(folder, user=desk.environment.user)


def _folder(desk: Desk) -> str:
    spec = spec_of(desk)
    key, claim = desk.environment.key, desk.claim
    base = spec.staging or posixpath.join(Layout(desk.environment.app_path).backups, STAGING)
    # No name has an @ in it.
    return posixpath.join(base, f"{key.fraise}@{key.environment}@{claim.job}@{claim.slot}")


def told(desk: Desk, command: Command, what: str, *, cause: Cause = Cause.backup) -> dict[str, Any]:
    """Run a command of a brand; returns the line of JSON that it printed last, {} where it printed nothing.

    Raises:
        StepFailed: `cause`, where it failed for no better known reason, or what it printed is none; and as
            `hear`. The message begins with "cannot" and `what`.
    """
    lines = answered(desk, command, what, cause=cause).strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StepFailed(cause, f"cannot {what}: what was done cannot be told from its output")
    return found


def answered(desk: Desk, command: Command, what: str, *, cause: Cause = Cause.backup) -> str:
    """What a command of a brand printed. It is run in the release's folder, if there is one.

    Raises:
        StepFailed: as `told`.
    """
    layout, release = Layout(desk.environment.app_path), desk.claim.release
    folder = layout.release(release) if release else "/"
    try:
        return hear(desk, replace(command, cwd=command.cwd or folder), doing=what)
    except StepFailed as error:
        if error.cause is not Cause.backup:
            raise
        raise StepFailed(cause, error.message, error.hint) from error


def artefact(found: Mapping[str, Any], source: Source, file: str, what: str) -> Artefact:
    """What a dump, or an encryption, says of the file that it wrote.

    Raises:
        StepFailed: backup, where it says nothing that can be relied on, or that the file is empty.
    """
    try:
        size, sha256 = int(found["bytes"]), str(found["sha256"])
        tables = {str(name): int(rows) for name, rows in dict(found.get("tables") or {}).items()}
    except (KeyError, TypeError, ValueError):
        raise StepFailed(Cause.backup, f"cannot {what}: its size and checksum were not told") from None
    if size <= 0:
        raise StepFailed(Cause.backup, f"cannot {what}: {file} is empty")
    if len(sha256) != 64:
        raise StepFailed(Cause.backup, f"cannot {what}: {file} has no checksum")
    return Artefact(source=source.name, kind=source.kind, file=file, bytes=size, sha256=sha256, tables=tables)
