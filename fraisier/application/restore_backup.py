"""Brings a backup back, because a person asked for it: where it came from, or somewhere else.

What is there is never replaced unless it was asked for by force, and then a safety copy of it is made first.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace

from fraisier.application.backup_tools import YES, BackupTools, answered, spec_of, staging, told
from fraisier.application.bring_back import BringBack, Fetched
from fraisier.application.look_at_copies import LookAtCopies
from fraisier.application.make_backup import KeepBackup
from fraisier.application.ports import Desk
from fraisier.domain.acts import Command
from fraisier.domain.backup import Copy, CopyState, Destination, Source
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.release import Layout
from fraisier.domain.run import RunEnding, RunStatus
from fraisier.domain.secret import Secret

_SERVERS = ("postgresql", "mysql")  # what is brought back there has a database's name
_FILES = ("folder", "command", "sqlite")  # and there a path
# $1: a path; something is printed where it is neither missing nor an empty folder.
TAKEN = """
if [ -d "$1" ] && [ ! -L "$1" ]; then find "$1" -mindepth 1 -maxdepth 1 -printf taken -quit
elif [ -e "$1" ] || [ -L "$1" ]; then echo taken; fi
"""
_QUICK = 60.0  # seconds
_DATABASE = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run was asked for, by its parameters.

    `backup` '' = the newest that was verified, or else the newest that is whole. `source` '' = all of them.
    `to` '' = where it came from. `destination` '' = the first one that has it whole.
    """

    backup: str
    source: str
    to: str
    destination: str
    force: bool


class RestoreBackup:
    """Performs the runs of JobKind.restore."""

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools
        self._look = LookAtCopies(tools)
        self._bring = BringBack(tools)
        self._keep = KeepBackup(tools)

    def __call__(self, desk: Desk) -> RunEnding:
        """Choose a copy, look at it, save what is there, and bring it back.

        Raises:
            StepFailed: backup or preflight, where it cannot be done, and the message says what has become of
            what was there; or as `Desk.run`.
        """
        given = desk.claim.parameters
        wanted = Wanted(
            backup=given.get("backup", ""),
            source=given.get("source", ""),
            to=given.get("to", ""),
            destination=given.get("destination", ""),
            force=given.get("force") == YES,
        )
        sources = self._sources(desk, wanted)
        place, copy = self._copy(desk, wanted)
        desk.say(f"restoring {copy.name} from {place.name}")
        safety = "" if wanted.to else self._saved(desk, sources, wanted)
        try:
            restored = self._restored(desk, place, copy, sources, wanted)
        except StepFailed as error:
            raise _with_hint(error, desk, safety) from error
        detail = {
            "backup": copy.name,
            "from": place.name,
            "sources": restored,
            "to": wanted.to,
            "safety": safety,
        }
        return RunEnding(status=RunStatus.success, exit_code=0, detail=detail)

    # -- what and from where
    def _sources(self, desk: Desk, wanted: Wanted) -> list[Source]:
        known = spec_of(desk).sources
        found = [source for source in known if wanted.source in ("", source.name)]
        if not found:
            names = ", ".join(source.name for source in known)
            raise StepFailed(
                Cause.preflight, f"cannot restore {wanted.source}: there is no such source", names
            )
        if wanted.to and len(found) > 1:
            message = f"cannot restore {len(found)} sources to one place"
            names = ", ".join(source.name for source in known)
            raise StepFailed(Cause.preflight, message, f"Name one of them with --source: {names}")
        if wanted.to:
            _check_place(found[0], wanted.to)
        return found

    def _copy(self, desk: Desk, wanted: Wanted) -> tuple[Destination, Copy]:
        """The first copy that is whole now, of the backup that is wanted."""
        places = [each for each in spec_of(desk).destinations if wanted.destination in ("", each.name)]
        if not places:
            raise StepFailed(
                Cause.preflight, f"cannot restore from {wanted.destination}: no such destination"
            )
        reasons: list[str] = []
        for place, copy in self._choices(desk, places, wanted, reasons):
            try:
                wrong = self._look.look(desk, place, copy)
            except StepFailed as error:
                if error.cause is Cause.cancelled:
                    raise
                wrong = error.message
            if not wrong:
                return place, copy
            reasons.append(f"{copy.name} at {place.name}: {wrong}")
        what = wanted.backup or "a backup"
        why = "; ".join(reasons[:3]) or "there is none"
        key = desk.environment.key
        hint = f"See what there is: fraisier backup list {key.fraise} {key.environment}"
        raise StepFailed(Cause.backup, f"cannot restore {what}: {why}", hint)

    def _choices(
        self, desk: Desk, places: list[Destination], wanted: Wanted, reasons: list[str]
    ) -> list[tuple[Destination, Copy]]:
        """Copies that may do, the best one first; destinations are looked at first, for what nobody knows."""
        found = []
        for position, place in enumerate(places):
            try:
                there = self._look.whats_there(desk, place)
            except StepFailed as error:
                if error.cause is Cause.cancelled:
                    raise
                reasons.append(f"{place.name}: {error.message}")
                continue
            found += [(position, place, copy) for copy in there if copy.state is not CopyState.gone]
        if wanted.backup:
            same = [each for each in found if each[2].name == wanted.backup]
            return [(place, copy) for _, place, copy in sorted(same, key=lambda each: each[0])]
        usable = [each for each in found if not each[2].safety and not each[2].flaw]
        verified = [each for each in usable if each[2].verified_at is not None]
        ordered = sorted(verified or usable, key=lambda each: (-each[2].made_at, each[0]))
        return [(place, copy) for _, place, copy in ordered]

    # -- what is there
    def _saved(self, desk: Desk, sources: list[Source], wanted: Wanted) -> str:
        """The name of a safety copy of what is about to be replaced; '' where nothing is."""
        there = {source.name: self._what_is_at(desk, source) for source in sources}
        # Nothing is in the way of a restore in place: what is left out of backups goes with the rest.
        taken = [replace(source, exclude=()) for source in sources if there[source.name]]
        if not taken:
            return ""
        named = "; ".join(f"{source.name}: {there[source.name]}" for source in taken)
        if not wanted.force:
            message = f"cannot restore over what is there: {named}"
            hint = "--force replaces it, after a safety copy; --to brings the backup back somewhere else"
            raise StepFailed(Cause.preflight, message, hint)
        desk.say(f"there is something already ({named}); a safety copy of it is made first")
        kept = self._keep(desk, tuple(taken), safety=True)
        if len(kept.failures) == len(kept.places):
            why = next(iter(kept.failures.values()))
            message = f"cannot restore: the safety copy of what is there could not be kept: {why}"
            raise StepFailed(Cause.backup, message, "Nothing was replaced")
        desk.say(f"what was there is kept as {kept.manifest.name}")
        return kept.manifest.name

    def _what_is_at(self, desk: Desk, source: Source) -> str:
        """'' where nothing is, else what."""
        url = source.url.reveal() if isinstance(source.url, Secret) else source.url
        if source.command or (not source.path and not url):
            return "whatever its command restores"
        path = source.path or ("/" + url.partition("://")[2].lstrip("/") if url.startswith("sqlite:") else "")
        if path:
            current = Layout(desk.environment.app_path).current
            path = path if path.startswith("/") else posixpath.join(current, path)
            if not self._is_taken(desk, path):
                return ""
            if source.path:
                return f"{path} is not empty"
        try:
            rows = self._bring.rows(desk, source, "")
            others = {} if rows is None or rows else self._bring.beside(desk, source, "")
        except StepFailed as error:
            if error.cause is not Cause.database:
                raise
            message = f"cannot tell what a restore of {source.name} would replace: {error.message}"
            hint = "If the database is gone, make it anew, empty; or bring the backup back elsewhere: --to"
            raise StepFailed(Cause.database, message, hint) from error
        if rows is None:
            return "something"
        if rows:
            return f"{len(rows)} tables with {sum(rows.values())} rows"
        named = ", ".join(f"{kind}: {number}" for kind, number in others.items())
        return f"no tables, but {named}" if named else ""

    # -- bringing it back
    def _restored(
        self, desk: Desk, place: Destination, copy: Copy, sources: list[Source], wanted: Wanted
    ) -> list[str]:
        done: list[str] = []
        with staging(desk) as folder:
            fetched = self._bring.fetch(desk, place, copy, folder)
            present = [source for source in sources if source.name in fetched.files]
            if not present or (wanted.source and not fetched.files.get(wanted.source)):
                has = ", ".join(fetched.files)
                message = f"cannot restore {wanted.source or 'these sources'} from {copy.name}: it has {has}"
                raise StepFailed(Cause.preflight, message)
            for source in present:
                try:
                    self._one(desk, source, fetched, wanted)
                except StepFailed as error:
                    after = f", after {', '.join(done)} was restored" if done else ""
                    raise StepFailed(error.cause, f"{error.message}{after}", error.hint) from error
                done.append(source.name)
        return done

    def _one(self, desk: Desk, source: Source, fetched: Fetched, wanted: Wanted) -> None:
        if wanted.to:
            # A place that was made just now is empty: nothing that is there is overwritten.
            self._refuse_taken(desk, source, wanted.to)
            make = self._tools.brands.source(source).make_scratch(source, wanted.to, timeout=desk.job.timeout)
            told(desk, make, f"make {wanted.to}", cause=Cause.preflight)
        self._bring.restore(desk, source, fetched.files[source.name], wanted.to)
        if flaw := self._bring.other_rows(desk, source, fetched.artefacts[source.name], wanted.to):
            raise StepFailed(Cause.backup, f"cannot rely on what was restored: {flaw}")
        desk.say(f"{source.name}: restored{f' to {wanted.to}' if wanted.to else ''}")
        # Whoever brings an older state back knows why: what the query thinks of it is for him to read.
        if doubt := self._bring.unanswered(desk, source, wanted.to):
            desk.say(doubt)

    def _refuse_taken(self, desk: Desk, source: Source, to: str) -> None:
        taken = self._is_taken(desk, to) if to.startswith("/") else self._has_database(desk, source, to)
        if taken:
            message = f"cannot restore {source.name} to {to}: there is something already"
            raise StepFailed(
                Cause.preflight, message, "Name a place that does not exist yet; nothing is replaced"
            )

    def _is_taken(self, desk: Desk, path: str) -> bool:
        """As the environment's user sees it: Fraisier itself may see less, and take it for nothing."""
        argv = ("/bin/sh", "-c", TAKEN, "backup", path)
        return bool(answered(desk, Command(argv=argv, timeout=_QUICK), f"look at {path}").strip())

    def _has_database(self, desk: Desk, source: Source, to: str) -> bool:
        try:
            return self._bring.rows(desk, source, to) is not None
        except StepFailed as error:
            if error.cause is not Cause.database:
                raise
            return False  # whether it can be made shows next


def _check_place(source: Source, to: str) -> None:
    """A path is absolute, a database has a plain name."""
    if to.startswith("/"):
        good, hint = ".." not in to.split("/") and "\n" not in to, "Leave the '..' out"
        if source.kind in _SERVERS:
            good, hint = False, "Give the name of a database that does not exist yet"
    else:
        good = source.kind not in _FILES and bool(_DATABASE.match(to))
        what = "a path" if source.kind in _FILES else "the name of a database, of letters, digits and '_'"
        hint = f"Give {'the absolute ' if source.kind in _FILES else ''}{what.removeprefix('a ')}"
    if not good:
        raise StepFailed(Cause.preflight, f"cannot restore {source.name} to {to[:80]!r}", hint)


def _with_hint(error: StepFailed, desk: Desk, safety: str) -> StepFailed:
    if not safety:
        return error
    key = desk.environment.key
    again = f"fraisier backup restore {key.fraise} {key.environment} --backup {safety} --force"
    return StepFailed(error.cause, error.message, f"What was there before is kept: {again}")
