"""Makes a backup: dumps every source, keeps the dumps at every destination, looks at them there, and
then lets go of what is too old.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from fraisier.application.backup_tools import BackupTools, artefact, spec_of, staging, told
from fraisier.application.look_at_copies import LookAtCopies
from fraisier.application.ports import Desk
from fraisier.application.prune_backups import PruneBackups
from fraisier.application.staged_file import write_staged
from fraisier.domain import manifest as manifests
from fraisier.domain.backup import (
    Artefact,
    CopyNote,
    CopyState,
    Destination,
    Manifest,
    Source,
    backup_name,
)
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.run import RunEnding, RunStatus


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup, and what became of it at each destination: '' = it is whole there."""

    manifest: Manifest
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all its files together."""
        return sum(each.bytes for each in self.manifest.artefacts)

    @property
    def failures(self) -> Mapping[str, str]:
        """Destinations that do not have it, and why."""
        return {name: why for name, why in self.places.items() if why}


class MakeBackup:
    """Performs the runs of JobKind.backup."""

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools
        self._prune = PruneBackups(tools)

    def __call__(self, desk: Desk) -> RunEnding:
        """Make one, keep it, prune.

        Raises:
            StepFailed: a source cannot be dumped; or as `Desk.run`.
        """
        spec = spec_of(desk)
        kept = KeepBackup(self._tools)(desk, spec.sources)
        pruned: dict[str, list[str]] = {}
        unpruned: dict[str, str] = {}
        for place in (each for each in spec.destinations if not kept.places[each.name]):
            try:
                pruned[place.name] = self._prune.at(desk, place)
            except StepFailed as error:
                if error.cause is Cause.cancelled:
                    raise
                desk.say(f"{place.name}: {error.message}")
                unpruned[place.name] = error.message
        return _ending(kept, {name: names for name, names in pruned.items() if names}, unpruned)


def _ending(kept: Kept, pruned: Mapping[str, list[str]], unpruned: Mapping[str, str]) -> RunEnding:
    detail = {
        "backup": kept.manifest.name,
        "bytes": kept.bytes,
        "destinations": {name: why or "whole" for name, why in kept.places.items()},
        "pruned": pruned,
    }
    if not kept.failures and not unpruned:
        return RunEnding(status=RunStatus.success, exit_code=0, detail=detail)
    what = f"keep backup {kept.manifest.name}" if kept.failures else "prune"
    where = kept.failures or unpruned
    good = [name for name in kept.places if name not in kept.failures]
    return RunEnding(
        status=RunStatus.failed,
        cause=Cause.backup,
        error=f"cannot {what} at {', '.join(where)}: {next(iter(where.values()))}",
        hint=f"{kept.manifest.name} is whole at {', '.join(good)}"
        if good
        else "No destination has it; see the run's output",
        detail=detail,
    )


class KeepBackup:
    """Dumps sources, and brings what was dumped to every destination."""

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools
        self._look = LookAtCopies(tools)

    def __call__(self, desk: Desk, sources: tuple[Source, ...], *, safety: bool = False) -> Kept:
        """A new backup of these sources; `safety`: of what a restore is about to replace.

        A destination that fails does not keep the others from it.

        Raises:
            StepFailed: a source cannot be dumped, and then nothing is kept anywhere; or as `Desk.run`.
        """
        made_at = self._tools.clock.now()
        with staging(desk) as folder:
            artefacts = [each for source in sources for each in self._dumped(desk, source, folder)]
            manifest = Manifest(
                name=backup_name(made_at, desk.claim.id),
                fraise=desk.environment.fraise,
                environment=desk.environment.name,
                made_at=made_at,
                artefacts=tuple(artefacts),
                encrypted=spec_of(desk).encryption is not None,
                safety=safety,
            )
            content = manifests.write(manifest)
            write_staged(desk, posixpath.join(folder, manifests.MANIFEST), content)
            places = {
                place.name: self._keep(desk, place, folder, manifest, content)
                for place in spec_of(desk).destinations
            }
        return Kept(manifest, places)

    def _dumped(self, desk: Desk, source: Source, folder: str) -> list[Artefact]:
        brand = self._tools.brands.source(source)
        what = f"back up {source.name}"
        desk.say(f"{source.name}: dumping")
        file = source.name + brand.suffix
        path = posixpath.join(folder, file)
        found = told(desk, brand.dump_source(source, path, timeout=desk.job.timeout), what)
        if "nothing" in found:
            raise StepFailed(Cause.backup, f"cannot {what}: {str(found['nothing'])[:200]}")
        for line in found.get("told") or ():
            desk.say(f"{source.name}: {line}")
        made = [artefact(found, source, file, what)]
        made += [artefact(each, source, file + str(each["suffix"]), what) for each in found.get("more") or ()]
        desk.say(f"{source.name}: {sum(each.bytes for each in made)} bytes")
        return [self._encrypted(desk, source, each, folder) for each in made]

    def _encrypted(self, desk: Desk, source: Source, plain: Artefact, folder: str) -> Artefact:
        encryption = spec_of(desk).encryption
        if encryption is None:
            return plain
        what = f"encrypt {plain.file}"
        file = plain.file + self._tools.brands.cipher.suffix
        at, to = posixpath.join(folder, plain.file), posixpath.join(folder, file)
        command = self._tools.brands.cipher.encrypt(encryption, at, to, timeout=desk.job.timeout)
        return replace(artefact(told(desk, command, what), source, file, what), tables=plain.tables)

    def _keep(self, desk: Desk, place: Destination, folder: str, manifest: Manifest, content: bytes) -> str:
        """'' or why the destination has it not, or not whole."""
        try:
            self._look.require(desk, place)
            self._tools.brands.place(place).store(place, manifest.name, folder, desk)
            wrong = self._look.wrong_with(desk, place, manifest, content)
        except StepFailed as error:
            if error.cause is Cause.cancelled:
                raise
            desk.say(f"{place.name}: {error.message}")
            return error.message
        note = CopyNote(
            destination=place.name,
            name=manifest.name,
            made_at=manifest.made_at,
            bytes=sum(each.bytes for each in manifest.artefacts) + len(content),
            manifest=sha256(content).hexdigest(),
            state=CopyState.damaged if wrong else CopyState.whole,
            detail=wrong,
            looked_at=self._tools.clock.now(),
            safety=manifest.safety,
        )
        self._tools.store.note_copies(desk.environment.key, [note], by=desk.claim)
        desk.say(f"{place.name}: {wrong or f'{manifest.name} is whole'}")
        return wrong
