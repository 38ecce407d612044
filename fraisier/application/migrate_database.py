"""The acts around a migration: the lock, the question, the backup, the notes, and the way back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from fraisier.application.ask_database import Ask, in_words
from fraisier.application.back_up_database import BackUpDatabase
from fraisier.application.plan_migration import question
from fraisier.application.ports import Claim, Holder, Migrations, Store
from fraisier.deployers.common import Candidate, candidate, command_env
from fraisier.domain.database_acts import AskDatabase, BackUp, LockDatabase, NoteRevision, TakeDatabaseBack
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Database
from fraisier.domain.migration import (
    BASE,
    DatabaseChange,
    Kind,
    OnIrreversible,
    Pending,
    Return,
    Standing,
    Verdict,
    WayDown,
    judge_migrations,
    standing,
    story_of,
)
from fraisier.domain.plan import Act

if TYPE_CHECKING:
    from fraisier.application.journal import Journal
    from fraisier.application.stage import Scene, Stage

_LOOK = 1.0  # seconds between two looks whether a database is free
_PATIENCE_WITH_THE_DEAD = 15.0  # seconds for somebody to take over from a worker that died while it migrated


class MigrateDatabase:
    """What one attempt does with its environment's database. `perform` performs the framework's own acts."""

    def __init__(self, stage: Stage, store: Store, claim: Claim, journal: Journal) -> None:
        self._stage = stage
        self._store = store
        self._claim = claim
        self._journal = journal
        self.story = story_of(claim.changes)
        self._only_from: tuple[str, ...] = ()
        self.perform: Callable[[Act, Scene], None] = _unset
        self.table: Mapping[type, Callable[[Any, Scene], None]] = {
            LockDatabase: self._lock,
            AskDatabase: self._ask,
            BackUp: self._back_up,
            NoteRevision: self._note_revision,
            TakeDatabaseBack: self._take_back,
        }

    def on(self, stage: Stage, perform: Callable[[Act, Scene], None]) -> None:
        """From now on it is done there: on another one of the environment's hosts."""
        self._stage, self.perform = stage, perform

    @property
    def _database(self) -> Database:
        database = self._stage.environment.database
        assert database is not None, "a plan without a database has no such act"  # noqa: S101
        return database

    # -------------------------------------------------------------------------------------- the lock
    def _lock(self, act: LockDatabase, scene: Scene) -> None:
        """Wait for the database; a person's cancel, or the worker's end, ends the waiting."""
        clock, told, dead_since = self._stage.tools.clock, "", None
        until = clock.monotonic() + act.timeout
        while (holder := self._store.lock_database(self._claim, act.name)) is not None:
            if holder.deployment != told:
                told = holder.deployment
                scene.output.line(f"waiting for the database {act.name}: {_who(holder)} works on it")
            now = clock.monotonic()
            dead_since = None if self._lives(holder) else dead_since or now
            # Whoever takes over from the dead may need our place.
            if now > until or (dead_since and now - dead_since > _PATIENCE_WITH_THE_DEAD):
                message = (
                    f"cannot migrate the database {act.name}: {_who(holder)} works on it since {holder.since}"
                )
                raise StepFailed(Cause.database, message, f"See `fraisier show {holder.deployment[:8]}`")
            if scene.job.stop.wait(_LOOK):
                raise StepFailed(Cause.cancelled, f"cannot wait for the database {act.name}: told to stop")

    def _lives(self, holder: Holder) -> bool:
        key = holder.environment
        rows = self._store.fraise_status(key.fraise, key.environment)
        living = {row["id"] for row in self._store.live_workers()}
        return any(row["lease_worker"] in living for row in rows)

    def let_go(self) -> None:
        """Whatever this deployment had locked, when its commands have been ended."""
        self._store.unlock_databases(self._claim)

    # ---------------------------------------------------------------------------------- the question
    def _ask(self, act: AskDatabase, scene: Scene) -> None:
        """What is pending, and whether that may be performed; noted before anything is changed."""
        before, pending = self._look(act, scene.job.stop, scene.job.output)
        if act.way is not None:
            self._plan_return(act.way, before, act.expected, scene)
            return
        declared = self._database.reversible
        verdict = judge_migrations(pending, declared, has_down=act.has_down)
        at = f"at revision {before}" if before else "at a revision that its framework does not tell"
        scene.output.line(f"the database is {at}; {in_words(pending)}")
        if pending != ():
            scene.output.line(f"verdict: {verdict}{_because(verdict, pending)}")
        self._require_policy(verdict, before, pending)
        self._plan(before, pending, verdict, tells=act.current is not None)

    def _plan(
        self,
        before: str,
        pending: tuple[Pending, ...] | None,
        verdict: Verdict,
        *,
        tells: bool,
        target: str = "",
    ) -> None:
        listed = None if pending is None else [asdict(each) for each in pending]
        detail = {
            "database": self._database.identity(self._claim.environment),
            "framework": self._database.framework,
            "pending": listed,
            "verdict": verdict.value,
            "tells": tells,
            "target": target,
        }
        self._note(Kind.planned, before, detail)

    def _require_policy(self, verdict: Verdict, before: str, pending: tuple[Pending, ...] | None) -> None:
        """A database on which nothing was ever migrated has no state to go back to."""
        refuses = self._database.on_irreversible is OnIrreversible.refuse
        if not refuses or verdict is Verdict.reversible or before == BASE:
            return
        message = f"cannot migrate: the verdict on what is pending is `{verdict}`{_because(verdict, pending)}"
        hint = "Nothing was changed. Make it reversible, or set `on_irreversible: backup` or `proceed`"
        raise StepFailed(Cause.irreversible, message, hint)

    def _look(
        self, act: AskDatabase, stop: threading.Event, tell: Callable[[bytes], None]
    ) -> tuple[str, tuple[Pending, ...] | None]:
        ask = self._asker()
        pending: tuple[Pending, ...] | None = None
        if act.pending and self._framework.asks_once:
            current, pending = ask.both(act.pending, stop, tell)
        else:
            current = ask.current(act.current, stop, tell) if act.current else ""
            pending = ask.pending(act.pending, stop, tell) if act.pending else None
        if self._journal.redact(current) != current:
            message = "cannot note the database's revision: what its framework printed has a secret in it"
            raise StepFailed(Cause.migration, message, "Mend what prints it")
        return current, pending

    def _asker(self) -> Ask:
        stage = self._stage
        framework = self._framework
        return Ask(stage.environment, framework, lambda each, job: stage.host.run(stage.ground, each, job))

    @property
    def _framework(self) -> Migrations:
        framework = self._stage.tools.framework(self._stage.environment)
        assert framework is not None, "a plan without migrations has no such act"  # noqa: S101
        return framework

    @property
    def _home(self) -> Candidate:
        """The release that knows the migrations: the new one, or the one that a rollback comes from."""
        stage = self._stage
        if self._claim.deployment.with_database and stage.previous:
            return candidate(stage.environment, stage.previous, self._claim.current_commit)
        return stage.candidate

    def where(self) -> str:
        """The revision that the database is at, asked for quietly; '' = nobody can tell."""
        with suppress(StepFailed):
            return self._revision(self._stage.control.halt, _silent)
        return ""

    def _revision(self, stop: threading.Event, tell: Callable[[bytes], None]) -> str:
        command = question(self._stage.environment, self._home, self._framework).current
        return self._asker().current(command, stop, tell) if command else ""

    # ------------------------------------------------------------------------------------- the notes
    def _note(self, kind: Kind, revision: str, detail: Mapping[str, Any] | None = None) -> None:
        change = DatabaseChange(
            kind=kind,
            revision=revision,
            attempt=self._journal.attempt,
            detail=_redacted(detail or {}, self._journal),
        )
        self._store.note_database(self._claim, change)
        self._claim = replace(self._claim, changes=(*self._claim.changes, change))
        self.story = story_of(self._claim.changes)

    def _back_up(self, act: BackUp, scene: Scene) -> None:
        needed = self.story.verdict is not Verdict.reversible and self.story.before != BASE
        if not act.always and not needed:
            scene.output.line("no backup: what is pending can be taken back")
            return
        dump = BackUpDatabase(self._stage)(act, scene)
        said = (
            f"verified {dump.path}: {dump.bytes:,} bytes, sha256 {dump.sha256}" if dump.path else dump.nothing
        )
        scene.output.line(said)
        self._note(Kind.backed_up, self.story.before, dump.detail)

    def _note_revision(self, _: NoteRevision, scene: Scene) -> None:
        """The migration has succeeded; that its framework cannot be asked any more does not change that."""
        if self.story.planned:
            after = ""
            try:
                after = self._revision(scene.job.stop, scene.job.output)
            except StepFailed as failure:
                if failure.cause is Cause.cancelled:
                    raise
                scene.output.line(failure.message)
            self._note(Kind.migrated, after)
            if after:
                scene.output.line(f"the database is at revision {after}")
        self.let_go()

    # ---------------------------------------------------------------------------------- the way back
    @property
    def is_half_done(self) -> bool:
        """Whether a migration has begun of which nobody has noted the end."""
        return self.story.is_open

    def way_back(self) -> tuple[TakeDatabaseBack | None, str]:
        """How the database is taken back; or what is said where it is not."""
        story = self.story
        environment, home = self._stage.environment, self._home
        if not story.planned or self._stage.tools.framework(environment) is None:
            return None, ""
        if reason := self._barred():
            return None, self._left(reason)
        to = story.way_down
        env = command_env(environment, home)
        framework = self._framework
        going_up = bool(story.target)  # the way back from a way back
        acts = (
            framework.up(environment, home.folder, env)
            if going_up
            else framework.down(environment, home.folder, env, to)
        )
        return TakeDatabaseBack(to=to.to, down=tuple(acts), only_from=self._only_from), ""

    def _barred(self) -> str:
        """Why the database is left where it is; '' = it may be taken back."""
        story, environment = self.story, self._stage.environment
        env = command_env(environment, self._home)
        if not self._framework.down(environment, self._home.folder, env, WayDown(to=story.before or BASE)):
            return "no way down is configured"
        if story.verdict is Verdict.restore_point:
            return f"the migration would need a restore point{_because(story.verdict, story.pending)}"
        if story.verdict is not Verdict.reversible:
            return f"the migration is {story.verdict.value}"
        if story.is_open and not story.tells:
            return "nobody can tell how far the migration came"
        if story.is_open and not story.is_atomic:
            return "the migration may have been performed in part"
        return ""

    def _left(self, reason: str) -> str:
        """Say, and note, that the database stays."""
        now = self.where() if self.story.tells else ""
        if now and now == self.story.before:
            self._note(Kind.taken_back, now, {"reason": "nothing was changed"})
            return f". The database is as it was, at revision {now}"
        self._note(Kind.left, now, {"reason": reason})
        backup = f". A backup of before is in {self.story.backup}" if self.story.backup else ""
        if self.story.is_open and not now:
            return f". The database may be between two states: {reason}{backup}"
        at = f" at revision {now}" if now else ""
        return f". The database has been migrated and stays so{at}: {reason}{backup}"

    def _take_back(self, act: TakeDatabaseBack, scene: Scene) -> None:
        """To the revision, and no further: where it is already, nothing is done."""
        database = self._database.identity(self._claim.environment)
        self._lock(LockDatabase(name=database, timeout=self._database.lock_timeout), scene)
        tells = bool(act.to)
        now = self._revision(scene.job.stop, scene.job.output) if tells else ""
        if act.only_from and now not in (act.to, *act.only_from):
            message = (
                f"cannot take the database back: its way down was interrupted, and it is at revision {now},"
                f" between {act.only_from[0]} and {act.to}"
            )
            raise StepFailed(Cause.migration_interrupted, message)
        if not tells or now != act.to:
            for down in act.down:
                self.perform(down, scene)
        if tells:
            now = self._revision(scene.job.stop, scene.job.output)
        if now != act.to:
            message = f"cannot take the database back to revision {act.to}: it is at {now}"
            raise StepFailed(Cause.migration, message, "Look at the database, and mend it by hand")
        self._note(Kind.taken_back, act.to)
        scene.output.line(
            f"the database is at revision {act.to} again" if tells else "the database was taken back"
        )
        self.let_go()

    # ------------------------------------------------------------- a release that is gone back to
    def acts_of_return(self, back: Return) -> tuple[Act, ...]:
        """What takes the database to an earlier release's revision, with the release that runs now."""
        if back.refusal:
            message = f"cannot take the database back: {back.refusal}"
            raise StepFailed(Cause.irreversible, message, "Roll back without --with-database")
        environment, home = self._stage.environment, self._home
        lock = LockDatabase(
            name=self._database.identity(environment.key), timeout=self._database.lock_timeout
        )
        asked = question(environment, home, self._framework)
        ask = replace(asked, pending=None, way=back.way, expected=back.now)
        down = self._framework.down(environment, home.folder, command_env(environment, home), back.way)
        return (lock, ask, *down, NoteRevision())

    def _plan_return(self, way: WayDown, now: str, expected: str, scene: Scene) -> None:
        if now not in (expected, way.to):
            message = (
                f"cannot take the database back: it is at revision {now}, but the journal says {expected}"
            )
            raise StepFailed(
                Cause.irreversible, message, "Somebody else has migrated it; roll back without it"
            )
        scene.output.line(f"the database is at revision {now}, and goes back to {way.to}")
        undone = tuple(Pending(name=name) for name in way.undone)
        self._plan(now, undone, Verdict.reversible, tells=True, target=way.to)

    def leave(self, revision: str) -> None:
        """Note that a rollback leaves the database where the journal says that it is."""
        environment = self._stage.environment
        if environment.database is not None and self._stage.tools.framework(environment) is not None:
            self._note(Kind.left, revision, {"reason": "the rollback was not asked to take it back"})

    # --------------------------------------------------------------------------- after an interruption
    def resumed(self, *, torn: bool) -> None:
        """An earlier attempt's way down was interrupted (`torn`): it is gone only from where it began."""
        if torn and self.story.tells:
            self._only_from = (self.story.after or self.story.before,)

    def standing(self) -> tuple[Standing, str]:
        """Where an interrupted migration has left the database, and its revision.

        Raises:
            StepFailed: database, where it cannot be reached.
        """
        asked = question(self._stage.environment, self._home, self._framework)
        now, left = self._look(asked, self._stage.control.halt, _silent)
        if self.story.target:
            left = None
        return standing(self.story, now, left), now

    def note_migrated(self, now: str) -> None:
        """An interrupted migration turned out to be done."""
        self._note(Kind.migrated, now)
        self.let_go()


def _unset(_act: Act, _scene: Scene) -> None:
    raise LookupError


def _silent(_: bytes) -> None:
    """Nobody listens."""


def _who(holder: Holder) -> str:
    return f"{holder.environment} (deployment {holder.deployment[:8]})"


def _because(verdict: Verdict, pending: tuple[Pending, ...] | None) -> str:
    if verdict is Verdict.restore_point:
        names = [each.name for each in pending or () if each.destroys]
        return f" ({', '.join(names[:5])} removes data)"
    names = [each.name for each in pending or () if not each.reversible]
    return f" ({', '.join(names[:5])} has no way down)" if names and verdict is Verdict.forward_only else ""


def _redacted(value: Any, journal: Journal) -> Any:
    if isinstance(value, Mapping):
        return {key: _redacted(each, journal) for key, each in value.items()}
    if isinstance(value, list):
        return [_redacted(each, journal) for each in value]
    return journal.redact(value) if isinstance(value, str) else value
