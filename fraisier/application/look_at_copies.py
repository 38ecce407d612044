"""Looks at the copies of backups where they are kept: which are there, and whether each is what it was."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from hashlib import sha256

from fraisier.application.backup_tools import YES, BackupTools
from fraisier.application.ports import Desk
from fraisier.domain import manifest as manifests
from fraisier.domain.backup import NAME, Copy, CopyNote, CopyState, Destination, Manifest
from fraisier.domain.errors import Cause, StepFailed

Found = Mapping[str, tuple[int, str]]  # file -> its size in bytes and its sha256


class _Damaged(Exception):
    """What is there is not what was stored: nobody has to ask again."""


class LookAtCopies:
    """One destination at a time. What is found is noted at once."""

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools

    def whats_there(self, desk: Desk, place: Destination) -> list[Copy]:
        """The destination's copies, after comparing what is known with what is there, oldest first.

        Those that nobody knew are noted as unknown, those that are missing as gone.

        Raises:
            StepFailed: the destination cannot be read, or has lost all at once; or as `Desk.run`.
        """
        key, store = desk.environment.key, self._tools.store
        known = {copy.name: copy for copy in self._of(desk, place)}  # first: what comes meanwhile is not gone
        there = self._seen(desk, place, known.values())
        removed = set(store.pruned_copies(key, place.name))
        notes = [
            CopyNote(
                destination=place.name,
                name=name,
                state=CopyState.unknown,
                pruned_at=0.0 if name in removed else None,
            )
            for name in sorted(there - known.keys())
        ]
        for copy in known.values():
            if copy.name not in there and copy.state is not CopyState.gone:
                notes.append(self._gone(place, copy))
            elif copy.name in there and copy.state is CopyState.gone:
                notes.append(
                    CopyNote(destination=place.name, name=copy.name, state=CopyState.unknown, detail="")
                )
        for note in notes:
            desk.say(
                f"{place.name}: {note.name} {'is gone' if note.state is CopyState.gone else 'was found'}"
            )
        store.note_copies(key, notes, by=desk.claim)
        return self._of(desk, place)

    def require(self, desk: Desk, place: Destination) -> None:
        """Nothing is to be kept where what was kept cannot be seen.

        Raises:
            StepFailed: backup, where it cannot; the destination cannot be read; or as `Desk.run`.
        """
        known = self._of(desk, place)
        if _missed(known):  # else the place may have to be made yet
            self._seen(desk, place, known)

    def _seen(self, desk: Desk, place: Destination, known: Collection[Copy]) -> set[str]:
        """Names of what is there. A disk that is not mounted, or another bucket, is as empty as one that has
        lost everything: only a person can tell them apart, and then gives up what is gone.
        """
        there = {name for name in self._tools.brands.place(place).names(place, desk) if NAME.match(name)}
        missed = _missed(known)
        if missed and not there and desk.claim.parameters.get("damaged") != YES:
            what = f"any of the {len(missed)} backups that should be" if len(missed) > 1 else missed[0].name
            message = f"cannot see {what} in {place.place}: is it mounted, and the right one?"
            key = desk.environment.key
            hint = (
                f"If they are gone for good: fraisier backup prune {key.fraise} {key.environment} --damaged"
            )
            raise StepFailed(Cause.backup, message, hint)
        return there

    def _of(self, desk: Desk, place: Destination) -> list[Copy]:
        known = self._tools.store.copies(desk.environment.key)
        return [copy for copy in known if copy.destination == place.name]

    def _gone(self, place: Destination, copy: Copy) -> CopyNote:
        return CopyNote(
            destination=place.name,
            name=copy.name,
            state=CopyState.gone,
            detail="it is not there any more, and Fraisier did not remove it",
            looked_at=self._tools.clock.now(),
        )

    def look(self, desk: Desk, place: Destination, copy: Copy) -> str:
        """What is wrong with a copy, '' = nothing. It is noted.

        One that cannot be read now (nobody may, its disk does not answer) may be whole all the same. Nobody
        knows, so it is `unknown`: no rule removes it, and none removes others for it.

        Raises:
            StepFailed: the destination cannot be reached, or the run is to stop.
        """
        note = CopyNote(destination=place.name, name=copy.name)
        try:
            content = self._manifest(desk, place, copy.name)
            manifest = self._own(desk, copy, content)
            note = _told_by(manifest, content, copy, note)
            wrong = self.wrong_with(desk, place, manifest, content)
            state = CopyState.damaged if wrong else CopyState.whole
        except _Damaged as damage:
            state, wrong = CopyState.damaged, str(damage)
        except StepFailed as error:
            if error.cause is not Cause.backup:
                raise
            state, wrong = CopyState.unknown, f"it cannot be read now: {error.message}"
        note = replace(note, state=state, detail=wrong, looked_at=self._tools.clock.now())
        self._tools.store.note_copies(desk.environment.key, [note], by=desk.claim)
        desk.say(f"{place.name}: {copy.name}: {wrong or 'whole'}")
        return wrong

    def _manifest(self, desk: Desk, place: Destination, name: str) -> bytes:
        brand, file = self._tools.brands.place(place), manifests.MANIFEST
        try:
            return brand.read(place, name, file, desk)
        except StepFailed as error:
            # A look tells what is not there from what cannot be read.
            if error.cause is not Cause.backup or file in brand.look(place, name, [file], desk):
                raise
        raise _Damaged(f"{file} is missing")

    def _own(self, desk: Desk, copy: Copy, content: bytes) -> Manifest:
        """One that was changed tells nothing, neither of itself nor of the files beside it."""
        try:
            manifest = manifests.read(content, copy.name)
        except StepFailed as error:
            raise _Damaged(error.message) from error
        if (manifest.fraise, manifest.environment) != (desk.environment.fraise, desk.environment.name):
            other = f"{manifest.fraise}/{manifest.environment}"
            raise _Damaged(f"cannot use {copy.name}: it is a backup of {other}")
        if copy.manifest and sha256(content).hexdigest() != copy.manifest:
            raise _Damaged("its manifest is another than it was")
        return manifest

    def wrong_with(self, desk: Desk, place: Destination, manifest: Manifest, content: bytes) -> str:
        """'' or what differs between the files that are there and the manifest.

        Raises:
            StepFailed: they cannot be read.
        """
        files = [each.file for each in manifest.artefacts]
        found = self._tools.brands.place(place).look(place, manifest.name, [*files, manifests.MANIFEST], desk)
        written = {each.file: (each.bytes, each.sha256) for each in manifest.artefacts}
        written[manifests.MANIFEST] = (len(content), sha256(content).hexdigest())
        return next(filter(None, (_difference(name, was, found) for name, was in written.items())), "")


def _told_by(manifest: Manifest, content: bytes, copy: Copy, note: CopyNote) -> CopyNote:
    return replace(
        note,
        made_at=manifest.made_at,
        bytes=sum(each.bytes for each in manifest.artefacts) + len(content),
        manifest=None if copy.manifest else sha256(content).hexdigest(),
        safety=manifest.safety,
    )


def _missed(known: Collection[Copy]) -> list[Copy]:
    """Those that should be there."""
    return [copy for copy in known if copy.state in (CopyState.whole, CopyState.unknown)]


def _difference(file: str, was: tuple[int, str], found: Found) -> str:
    if file not in found:
        return f"{file} is missing"
    size, checksum = found[file]
    if size == 0:
        return f"{file} is empty"
    if size != was[0]:
        return f"{file} has {size} bytes, and had {was[0]}"
    return "" if checksum == was[1] else f"{file} is damaged: its checksum is another than it was"
