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
        problems = self._looked_at(desk)
        verified, flaws = self._tried(desk)
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
    def _looked_at(self, desk: Desk) -> list[str]:
        problems = []
        for place in spec_of(desk).destinations:
            try:
                for copy in self._look.whats_there(desk, place):
                    wrong = copy.detail
                    if copy.state is not CopyState.gone:
                        wrong, _ = self._look.look(desk, place, copy)
                    if wrong:
                        problems.append(f"{copy.name} at {place.name}: {wrong}")
            except StepFailed as error:
                if error.cause is Cause.cancelled:
                    raise
                desk.say(f"{place.name}: {error.message}")
                problems.append(f"{place.name} cannot be read: {error.message}")
        return problems

    # -- trying
    def _tried(self, desk: Desk) -> tuple[str, list[str]]:
        """The backup that was found good ('' = none), and what was wrong with newer ones."""
        flaws: list[str] = []
        for name, place, copy in self._candidates(desk)[:_TRIES]:
            flaw = self._flaw_of(desk, place, copy)
            self._note(desk, copy, flaw)
            if not flaw:
                desk.say(f"{name} was brought back, and is good")
                return name, flaws
            desk.say(f"{name}: {flaw}")
            flaws.append(f"{name} cannot be restored: {flaw}")
        return "", flaws or ["there is no whole backup that could be brought back"]

    def _candidates(self, desk: Desk) -> list[tuple[str, Destination, Copy]]:
        """Every backup that is whole somewhere, newest first, at the first destination that has it whole."""
        found: dict[str, tuple[str, Destination, Copy]] = {}
        for place in spec_of(desk).destinations:
            for copy in self._tools.store.copies(desk.environment.key):
                if copy.destination == place.name and copy.state is CopyState.whole and not copy.safety:
                    found.setdefault(copy.name, (copy.name, place, copy))
        return [found[name] for name in sorted(found, reverse=True)]

    def _flaw_of(self, desk: Desk, place: Destination, copy: Copy) -> str:
        """'' or why it is no good."""
        try:
            with staging(desk) as folder:
                fetched = self._bring.fetch(desk, place, copy, folder)
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

    def _note(self, desk: Desk, tried: Copy, flaw: str) -> None:
        """What holds for one copy holds for those with the same manifest."""
        key, store = desk.environment.key, self._tools.store
        same = [
            copy
            for copy in store.copies(key)
            if copy.name == tried.name and copy.manifest == tried.manifest and copy.state is CopyState.whole
        ]
        verified_at = None if flaw else self._tools.clock.now()
        store.note_copies(
            key,
            [
                CopyNote(
                    destination=copy.destination,
                    name=copy.name,
                    flaw=flaw,
                    verified_at=verified_at,
                    verified_run=None if flaw else desk.claim.id,
                )
                for copy in same
            ],
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
    """The sources that are in the backup."""
    for name in sorted(fetched.files.keys() - {source.name for source in sources}):
        desk.say(f"{name}: there is no such source any more; only its checksum was looked at")
    return [
        source
        for source in sources
        if source.name in fetched.files and fetched.artefacts[source.name].kind == source.kind
    ]
