"""Brings a backup from where it is kept to its host, and what is in it to its place, and compares."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from fraisier.application.backup_tools import BackupTools, answered, spec_of, told
from fraisier.application.ports import Desk
from fraisier.application.staged_file import read_staged
from fraisier.domain import manifest as manifests
from fraisier.domain.acts import Command
from fraisier.domain.backup import Artefact, Copy, Destination, Manifest, Source
from fraisier.domain.errors import Cause, StepFailed

_NO = frozenset({"", "0", "f", "false", "null"})  # what databases print for no


@dataclass(frozen=True, slots=True)
class Fetched:
    """A backup's files on the host: of each source the path of its dump, and what the manifest says of it."""

    manifest: Manifest
    files: Mapping[str, str]
    artefacts: Mapping[str, Artefact]


class BringBack:
    """One run's. All paths are on the environment's host."""

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools

    def fetch(self, desk: Desk, place: Destination, copy: Copy, folder: str) -> Fetched:
        """Bring a copy into an empty folder, compare its checksums there, and decrypt it.

        Raises:
            StepFailed: backup, where it is not what its manifest says; or as `Desk.run`.
        """
        brand = self._tools.brands.place(place)
        desk.say(f"{place.name}: fetching {copy.name}")
        brand.fetch(place, copy.name, folder, desk)
        content = read_staged(desk, posixpath.join(folder, manifests.MANIFEST), manifests.LONGEST + 1)
        if copy.manifest and sha256(content).hexdigest() != copy.manifest:
            raise StepFailed(
                Cause.backup, f"cannot bring back {copy.name}: its manifest is another than it was"
            )
        manifest = manifests.read(content, copy.name)
        self._compare(desk, manifest, folder)
        if manifest.encrypted:
            self._require_key(desk, manifest)
        names = {each.file: self._plain(desk, manifest, each, folder) for each in manifest.artefacts}
        first: dict[str, Artefact] = {}
        for each in manifest.artefacts:
            first.setdefault(each.source, each)
        files = {source: posixpath.join(folder, names[each.file]) for source, each in first.items()}
        return Fetched(manifest, files, first)

    def _compare(self, desk: Desk, manifest: Manifest, folder: str) -> None:
        names = [each.file for each in manifest.artefacts]
        command = Command(argv=("sha256sum", "--", *names), cwd=folder, timeout=desk.job.timeout)
        lines = answered(desk, command, f"look at what came of {manifest.name}").splitlines()
        found = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
        for each in manifest.artefacts:
            if found.get(each.file) != each.sha256:
                message = f"cannot bring back {manifest.name}: {each.file} came damaged"
                raise StepFailed(Cause.backup, message)

    def _require_key(self, desk: Desk, manifest: Manifest) -> None:
        """A key that is not there says nothing about the backup."""
        encryption = spec_of(desk).encryption
        if encryption is None or not encryption.identity:
            message = f"cannot decrypt {manifest.name}: the configuration names no key for it"
            hint = "Set encryption.identity to the path of an age identity"
            raise StepFailed(Cause.preflight, message, hint)
        for problem in self._tools.brands.cipher.problems(encryption, desk):
            raise StepFailed(Cause.preflight, problem.message, problem.hint)

    def _plain(self, desk: Desk, manifest: Manifest, each: Artefact, folder: str) -> str:
        """The name of its file, decrypted."""
        if not manifest.encrypted:
            return each.file
        encryption, cipher = spec_of(desk).encryption, self._tools.brands.cipher
        assert encryption is not None, "the key was asked for"  # noqa: S101
        plain = each.file.removesuffix(cipher.suffix)
        at, to = posixpath.join(folder, each.file), posixpath.join(folder, plain)
        told(desk, cipher.decrypt(encryption, at, to, timeout=desk.job.timeout), f"decrypt {each.file}")
        return plain

    def restore(self, desk: Desk, source: Source, file: str, to: str) -> None:
        """Bring a dump back into `to`; '' = where it came from.

        Raises:
            StepFailed: backup, where it does not come back as a whole; or as `Desk.run`.
        """
        command = self._tools.brands.source(source).restore(source, file, to, timeout=desk.job.timeout)
        told(desk, command, f"bring {source.name} back")

    def rows(self, desk: Desk, source: Source, to: str) -> Mapping[str, int] | None:
        """How many rows each table at `to` has; None where the brand has none to count.

        Raises:
            StepFailed: database, where it cannot be told.
        """
        command = self._tools.brands.source(source).count(source, to, timeout=desk.job.timeout)
        if command is None:
            return None
        what = f"count the rows of {source.name}"
        tables = told(desk, command, what, cause=Cause.database).get("tables")
        if not isinstance(tables, dict):
            raise StepFailed(Cause.database, f"cannot {what}: it does not tell them")
        return {str(name): int(rows) for name, rows in tables.items()}

    def beside(self, desk: Desk, source: Source, to: str) -> Mapping[str, int]:
        """How many things of which kind are at `to` that a restore would remove, and that have no rows.

        Raises:
            StepFailed: database, where it cannot be told.
        """
        command = self._tools.brands.source(source).beside(source, to, timeout=desk.job.timeout)
        if command is None:
            return {}
        what = f"see what there is of {source.name}"
        found = told(desk, command, what, cause=Cause.database).get("beside")
        if not isinstance(found, dict):
            raise StepFailed(Cause.database, f"cannot {what}: it does not tell")
        return {str(kind): int(number) for kind, number in found.items() if number}

    def wrong_with(self, desk: Desk, source: Source, made: Artefact, to: str) -> str:
        """'' or how what is at `to` differs from what was dumped, or why the user's query is not content."""
        return self.other_rows(desk, source, made, to) or self.unanswered(desk, source, to)

    def other_rows(self, desk: Desk, source: Source, made: Artefact, to: str) -> str:
        """'' or how the rows of what is at `to` differ from those of what was dumped."""
        if source.rows and made.tables:
            found = self.rows(desk, source, to) or {}
            for table, rows in made.tables.items():
                if found.get(table) != rows:
                    has = f"has {found[table]} rows" if table in found else "is not there"
                    return f"{source.name}: table {table} {has}, and had {rows} when it was dumped"
        return ""

    def unanswered(self, desk: Desk, source: Source, to: str) -> str:
        """'' or why the user's query, where there is one, is not content with what is at `to`."""
        if not source.query:
            return ""
        command = self._tools.brands.source(source).ask(source, to, timeout=desk.job.timeout)
        try:
            answer = answered(desk, command, f"ask {source.name}").strip()
        except StepFailed as error:
            if error.cause is not Cause.backup:
                raise
            return f"{source.name}: its query failed: {error.message.partition(': ')[2]}"
        if source.expect and answer != source.expect:
            return f"{source.name}: its query answered {answer[:100]!r}, and not {source.expect[:100]!r}"
        if not source.expect and answer.lower() in _NO:
            return f"{source.name}: its query answered {answer!r}"
        return ""
