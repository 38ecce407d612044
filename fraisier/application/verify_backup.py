"""Tries the backups: looks at every copy, brings the newest one back in a place of its own, and asks it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from fraisier.application.backup_tools import NOT_ITS_FAULT, BackupTools, spec_of, staging, told
from fraisier.application.bring_back import BringBack, Fetched
from fraisier.application.look_at_copies import LookAtCopies
from fraisier.application.ports import Desk
from fraisier.domain.backup import Copy, CopyNote, CopyState, Destination, Source
from fraisier.domain.errors import Cause, FraisierError, StepFailed
from fraisier.domain.run import Alert, AlertKind, RunEnding, RunStatus

_Held = list[tuple[Destination, Copy]]  # where one backup is
_UNREACHED = frozenset({Cause.network, Cause.host})
_TRIES = 3  # backups at most that are brought back to find one that is good


class VerifyBackup:
    """Performs the runs of JobKind.verify."""

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools
        self._look = LookAtCopies(tools)
        self._bring = BringBack(tools)

    def __call__(self, desk: Desk) -> RunEnding:
        """Look at all of them and try the newest, or, where that is no good, the one before it.

        Whatever is wrong is an alert, which ends when nothing is.

        Raises:
            StepFailed: it could not be tried, and the backup is not to blame; or as `Desk.run`.
        """
        problems, places = self._looked_at(desk)
        try:
            verified, flaws = self._tried(desk, places)
        except StepFailed:
            if problems:  # they are there, whatever keeps the trial
                self._tell(desk, problems)
            raise
        problems += flaws
        self._tell(desk, problems)
        copies = self._tools.store.copies(desk.environment.key)
        detail = {"verified": verified, "copies": len(copies), "problems": problems[:20]}
        if not problems:
            return RunEnding(status=RunStatus.success, exit_code=0, detail=detail)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return RunEnding(
            status=RunStatus.failed,
            cause=Cause.backup,
            error=f"cannot rely on every backup: {problems[0]}{more}",
            hint=_HINT.format(desk.environment.key.fraise, desk.environment.key.environment),
            detail=detail,
        )

    # -- looking
    def _looked_at(self, desk: Desk) -> tuple[list[str], list[Destination]]:
        """What is wrong with copies, or with destinations, and the destinations that could be read."""
        problems, places = [], []
        for place in spec_of(desk).destinations:
            try:
                for copy in self._look.whats_there(desk, place):
                    wrong = copy.detail
                    if copy.state is not CopyState.gone:
                        wrong = self._look.look(desk, place, copy)
                    if wrong:
                        problems.append(f"{copy.name} at {place.name}: {wrong}")
                places.append(place)
            except StepFailed as error:
                if error.cause is Cause.cancelled:
                    raise
                desk.say(f"{place.name}: {error.message}")
                problems.append(f"{place.name} cannot be read: {error.message}")
        return problems, places

    # -- trying
    def _tried(self, desk: Desk, places: Sequence[Destination]) -> tuple[str, list[str]]:
        """The backup that was found good ('' = none), and what was wrong with newer ones."""
        flaws: list[str] = []
        for name, held in self._candidates(desk, places)[:_TRIES]:
            verified, wrong = self._tried_one(desk, name, held)
            flaws += wrong
            if verified:
                desk.say(f"{name} was brought back, and is good")
                return name, flaws
        return "", flaws or ["there is no whole backup that could be brought back"]

    def _candidates(self, desk: Desk, places: Sequence[Destination]) -> list[tuple[str, _Held]]:
        """Every backup that is whole somewhere, newest first, and the destinations that have it whole."""
        found: dict[str, _Held] = {}
        for place in places:
            for copy in self._tools.store.copies(desk.environment.key):
                if copy.destination == place.name and copy.state is CopyState.whole and not copy.safety:
                    found.setdefault(copy.name, []).append((place, copy))
        return sorted(found.items(), reverse=True)

    def _tried_one(self, desk: Desk, name: str, held: _Held) -> tuple[bool, list[str]]:
        """Whether it was found good, and what was wrong with it.

        A destination that does not give it back says nothing about what another one has.
        """
        wrong: list[str] = []
        for position, (place, copy) in enumerate(held):
            with staging(desk) as folder:
                try:
                    fetched = self._bring.fetch(desk, place, copy, folder)
                except StepFailed as error:
                    if error.cause is Cause.backup:
                        self._note(desk, [copy], error.message)
                    elif error.cause not in _UNREACHED:
                        raise
                    desk.say(f"{place.name}: {error.message}")
                    wrong.append(f"{name} at {place.name} cannot be restored: {error.message}")
                    continue
                flaw = self._flaw_of(desk, fetched, folder)
            same = [each for _, each in held[position:] if each.manifest == copy.manifest]
            self._note(desk, same, flaw)
            if flaw:
                desk.say(f"{name}: {flaw}")
                wrong.append(f"{name} cannot be restored: {flaw}")
            return not flaw, wrong
        return False, wrong

    def _flaw_of(self, desk: Desk, fetched: Fetched, folder: str) -> str:
        """'' or why it is no good."""
        try:
            for source in _of(spec_of(desk).sources, fetched, desk):
                if flaw := self._in_scratch(desk, source, fetched, folder):
                    return flaw
        except StepFailed as error:
            if error.cause in NOT_ITS_FAULT or error.cause is Cause.database:
                raise
            return error.message
        return ""

    def _in_scratch(self, desk: Desk, source: Source, fetched: Fetched, folder: str) -> str:
        brand, timeout = self._tools.brands.source(source), desk.job.timeout
        to = brand.scratch(source, folder, desk.claim.id)
        what = f"make a place to bring {source.name} back"
        told(desk, brand.make_scratch(source, to, timeout=timeout), what, cause=Cause.database)
        drop = brand.drop_scratch(source, to, timeout=timeout)
        what = f"remove {to}, where {source.name} was brought back"
        try:
            self._bring.restore(desk, source, fetched.files[source.name], to)
            flaw = self._bring.wrong_with(desk, source, fetched.artefacts[source.name], to)
        except BaseException:
            with suppress(FraisierError):  # the next verification removes it
                told(desk, drop, what, cause=Cause.database)
            raise
        told(desk, drop, what, cause=Cause.database)
        desk.say(f"{source.name}: {flaw or 'came back as it was'}")
        return flaw

    def _note(self, desk: Desk, copies: Sequence[Copy], flaw: str) -> None:
        verified_at = None if flaw else self._tools.clock.now()
        self._tools.store.note_copies(
            desk.environment.key,
            [
                CopyNote(
                    destination=copy.destination,
                    name=copy.name,
                    flaw=flaw,
                    verified_at=verified_at,
                    verified_run=None if flaw else desk.claim.id,
                )
                for copy in copies
            ],
            by=desk.claim,
        )

    # -- telling
    def _tell(self, desk: Desk, problems: Sequence[str]) -> None:
        key, job, store = desk.environment.key, desk.claim.job, self._tools.store
        if not problems:
            store.clear_alert(key, job, (AlertKind.backup, AlertKind.unverified), by=desk.claim.id)
            return
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        hint = _HINT.format(key.fraise, key.environment)
        message = f"a backup cannot be relied on: {problems[0]}{more}"
        store.raise_alert(
            Alert(
                environment=key, job=job, kind=AlertKind.backup, message=message, hint=hint, run=desk.claim.id
            )
        )


_HINT = (
    "See `fraisier backup list {0} {1}`; `fraisier backup prune {0} {1} --damaged` gives up what is damaged"
)


def _of(sources: Sequence[Source], fetched: Fetched, desk: Desk) -> list[Source]:
    """The sources that are in the backup.

    Raises:
        StepFailed: preflight, where none is: then nobody knows how it would be brought back.
    """
    found = [
        source
        for source in sources
        if source.name in fetched.files and fetched.artefacts[source.name].kind == source.kind
    ]
    others = sorted(fetched.files.keys() - {source.name for source in found})
    for name in others:
        desk.say(f"{name}: there is no such source any more; only its checksum was looked at")
    if not found:
        message = f"cannot try {fetched.manifest.name}: no source is what {', '.join(others)} was"
        raise StepFailed(Cause.preflight, message, "Make a backup of what there is now: fraisier backup run")
    return found
