"""One attempt at a deployment over several hosts: prepared on all of them at once, brought in by batches.

What is done once (fetch, backup, migrate) and how it ends is an `Attempt`. In which order the hosts come, and
when they all go back, says `domain.rollout`. Where each stands is in the database before its turn, and after.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from fraisier.application.conclude import with_consequence
from fraisier.application.control import Stopped
from fraisier.application.crew import Member, is_away
from fraisier.application.journal import explain
from fraisier.application.ports import Ending, Serving
from fraisier.application.prepare_hosts import PrepareHosts
from fraisier.application.release_marker import Marker
from fraisier.application.return_hosts import ReturnHosts
from fraisier.deployers.common import candidate
from fraisier.domain.database_acts import TakeDatabaseBack
from fraisier.domain.deployment import Deployment, Trigger
from fraisier.domain.errors import Cause, StepFailed, StoreUnavailable, TokenOutdated
from fraisier.domain.plan import Phase, Step, StepName
from fraisier.domain.recovery import TORN, Course, Resumption
from fraisier.domain.rollout import (
    BringIn,
    Done,
    GoBack,
    HostState,
    Standing,
    TakeBack,
    at_rest,
    next_move,
    who_returns,
)
from fraisier.domain.rollout_plan import in_turn, of_once, when_all_have_it
from fraisier.domain.rollout_recovery import as_journaled
from fraisier.domain.rollout_words import lost_along, named

_LOOK = 0.2  # seconds between two looks at whether a pause is to be cut short


class RollOut(PrepareHosts):
    """Forward host by host; what too many hosts did not take is taken back from all that can be reached."""

    # ------------------------------------------------------------------------------------ the course
    def _resume_at(self, resumption: Resumption) -> None:
        deployment = self._claim.deployment
        self._see_candidate(deployment.release, deployment.commit)
        journal = [step for step in self._claim.journal if not step.retried]
        for member in self._crew:
            new = replace(member.standing, release=deployment.release, commit=deployment.commit)
            member.standing = as_journaled(member.standing, journal, new)
            member.stage.previous = member.standing.previous
        self._begun = any(self._is_touched(member) for member in self._crew)
        self._step = StepName.restart
        # Whoever does not answer now is taken over when it does: before anything else is done there.
        too_late = isinstance(next_move(self._rollout, self._crew.standings), Done)
        back = too_late or resumption.course is Course.roll_back
        missing = self._crew.each([*self._crew], self._crew.adopt, back=back)
        # Nor does the journal tell why its turn went wrong there: it may have been away already.
        failed = {member.name for member in self._crew if member.standing.state is HostState.failed}
        self._lose({name: missing[name] for name in missing if name in failed})
        self._follow_one(self._where_it_migrates() or self._leader())

    def _is_touched(self, member: Member) -> bool:
        """In this deployment: before they are looked at, hosts stand as another one has left them."""
        return member.standing.touched and member.standing.deployment == self._claim.deployment.id

    def _where_it_migrates(self) -> Member | None:
        """The host on which a migration was begun whose end nobody has noted: it may run on there."""
        begun = [
            s.host for s in self._claim.journal if s.name is StepName.migrate and s.phase is Phase.deploy
        ]
        if not self._database.is_half_done or not begun or not begun[-1]:
            return None
        return self._crew.named(begun[-1:])[0]

    def _ask_how_far(self) -> None:
        self._crew.adopt(self._followed)  # as long as nobody has ended it, it may run on
        super()._ask_how_far()

    def _migrate_and_bring_in(self) -> None:
        if not self._migrated:
            self._run_steps(tuple(step for step in of_once(self._plan()) if step.name is StepName.migrate))
        self._bring_in()

    # ------------------------------------------------------------------------------------ forward
    def _from_the_start(self) -> None:
        self._end_leftovers()
        if self._claim.deployment.trigger is Trigger.rollback:
            self._return_to_a_release()
            return
        self._begin([*self._crew])
        self._fetch_and_pin(self._plan())
        self._name_release()
        self._build([*self._able()])
        self._follow_one(self._leader())
        if not self._migrated:
            self._run_steps(of_once(self._plan()))
        self._bring_in()

    def _return_to_a_release(self) -> None:
        """A release that is whole somewhere; where it is not, it is built once more."""
        self._begin([*self._crew])
        deployment = self._claim.deployment
        name = deployment.release
        whole = self._where_it_is_whole(name)
        marker = next(iter(whole.values()), None)
        if marker is None:
            message = f"cannot go back to release {name}: it is nowhere, or not whole"
            raise StepFailed(Cause.preflight, message, "Deploy its commit: fraisier deploy … --commit SHA")
        self._stage.candidate = candidate(self._environment, name, marker.commit, marker.ref)
        self._remember_previous()
        self._build_where_missing(whole)
        if deployment.with_database:
            self._follow_one(self._guide())
            self._run_steps(of_once(self._plan()))
        else:
            self._leave_database()
        self._bring_in()

    def _build_where_missing(self, whole: Collection[str]) -> None:
        missing = [member for member in self._able() if member.name not in whole]
        if missing:
            self._fetch_again(self._stage.candidate.commit)
        self._build(missing)

    def _marker_of(self, release: str) -> Marker | None:
        """By whoever had it before: what was built once more says nothing of the database then."""
        found = [member.marker(release) for member in self._crew if member.is_ours and member.is_reachable()]
        mine = self._claim.deployment.id
        return next((each for each in found if each is not None and each.deployment != mine), None)

    # ------------------------------------------------------------------------------------ by batches
    def _bring_in(self) -> None:
        self._step = StepName.restart  # whichever it is: a timeout from here on is the release's own
        self._by_batches()
        done = [m for m in self._crew if m.standing.state is HostState.current]

        def finish(member: Member) -> None:
            # A cancel comes too late: where the old instance has ended, nothing leads back without a gap.
            for step in when_all_have_it(self._plan_on(member)):
                self._crew.run(member, step, too_late=True)

        for name, failure in self._crew.each(done, finish, back=True).items():
            # The release serves there in good health: it must not be taken away again.
            (member,) = self._crew.named([name])
            if is_away(member, failure):
                member.stands(HostState.unreachable, cause=failure.cause, detail=failure.message)

    def _by_batches(self) -> None:
        """
        Raises:
            StepFailed: too many hosts did not come along.
        """
        while True:
            move = next_move(self._rollout, self._crew.standings)
            if isinstance(move, BringIn):
                self._pause(move.pause)
                self._bring_in_on(self._crew.named(move.hosts))
            elif isinstance(move, TakeBack):
                self._take_back(self._crew.named(move.hosts))
            elif isinstance(move, GoBack):
                raise lost_along(self._crew.standings, self._rollout, [])
            else:
                return

    def _pause(self, seconds: float) -> None:
        until = self._tools.clock.monotonic() + seconds
        while (left := until - self._tools.clock.monotonic()) > 0:
            self._control.check()
            self._control.stop.wait(min(left, _LOOK))
        self._control.check()

    def _bring_in_on(self, members: list[Member]) -> None:
        """The turn of these hosts. What is noted before says that they may run either release."""
        missing = self._crew.each(members, self._crew.adopt)
        self._lose(missing)
        members = [m for m in members if m.name not in missing]
        for member in members:
            member.stands(HostState.changing, touched=True, unfinished=True)
        self._note(members)
        self._begun = self._begun or bool(members)
        self._lose(self._crew.each(members, self._take_turn))

    def _take_turn(self, member: Member) -> None:
        new = member.stage.candidate
        try:
            for step in in_turn(self._plan_on(member), looks_only=member.name in self._only_away):
                self._crew.run(member, step)
                if step.name is StepName.activate:
                    member.standing = replace(member.standing, release=new.name, commit=new.commit)
        finally:
            if member.is_switched:
                self._switched = True
        runs = {"release": new.name, "commit": new.commit, "unfinished": False}
        member.stands(HostState.current, **runs, cause=None, detail="")
        self._note([member])

    def _lose(self, failures: dict[str, StepFailed]) -> None:
        members = self._crew.named(failures)
        for member in members:
            failure = failures[member.name]
            state = HostState.unreachable if is_away(member, failure) else HostState.failed
            if not member.standing.touched and state is HostState.failed:
                state = HostState.behind
            member.stands(state, cause=failure.cause, detail=failure.message)
        if members:
            self._note(members)

    # ------------------------------------------------------------------------------------ back
    def _take_back(self, members: list[Member]) -> None:
        """They did not come along, which is allowed; the others go on."""
        self._troubles += self._take_hosts_back(members)
        self._note(members)
        self._control.check()

    def _take_hosts_back(self, members: list[Member]) -> list[StepFailed]:
        return ReturnHosts(self._crew, self._patience, self._control)(members)

    def _give_up(self, failure: StepFailed) -> Deployment:
        return self._go_back(failure) if self._begun else super()._give_up(failure)

    def _clean_up(self) -> str:
        """Before the first turn no instance was started anywhere."""
        if self._begun:
            members = self._who_returns()
            self._take_hosts_back(members)
            self._note(members)
            self._begun = False
        return ""

    def _who_returns(self) -> list[Member]:
        members = self._crew.named(who_returns(self._crew.standings))
        for member in members:
            member.stands(HostState.returning, unfinished=True)
        self._note(members)
        return members

    def _go_back(self, failure: StepFailed) -> Deployment:
        back, said = self._way_of_database() if self._migrated else (None, "")
        failure = with_consequence(failure, said)
        members = self._who_returns()
        if self._torn:
            self._troubles.append(StepFailed(Cause.migration_interrupted, TORN.strip(". ")))
        # Old instances know the newer database, for it was migrated beside them; plain units start anew.
        if not self._environment.is_blue_green:
            self._troubles += self._take_database_back(back)
        self._troubles += self._take_hosts_back(members)
        if self._environment.is_blue_green:
            self._troubles += self._take_database_back(back)
        troubles = self._troubles
        self._note(members)
        away = [m for m in members if m.standing.state is HostState.unreachable]
        if members and len(away) == len(members):
            troubles.append(StepFailed(Cause.host, "none of the hosts can be reached"))
        if not self._switched:
            return self._went_back(failure, troubles, None)
        usual = self._usual_previous()
        serving = Serving(
            release=usual.previous, commit=usual.previous_commit, healthy=not (troubles or away)
        )
        return self._went_back(failure, troubles, serving)

    def _way_of_database(self) -> tuple[TakeDatabaseBack | None, str]:
        self._follow_one(self._guide())
        return self._database.way_back()

    def _take_database_back(self, back: TakeDatabaseBack | None) -> list[StepFailed]:
        """Once, from a host that answers."""
        if back is None:
            return []
        guide = self._guide()
        self._follow_one(guide)
        step = Step(name=StepName.migrate, acts=(back,), phase=Phase.rollback)
        try:
            self._patience.insist(lambda: self._crew.run_or_lose(guide, step))
        except (Stopped, TokenOutdated, StoreUnavailable):
            raise
        except Exception as failed:  # noqa: BLE001 - the code has to come back all the same
            self._control.check_halt()
            return [explain(failed)]
        return []

    def _undo_migration(self) -> str:
        if not self._database.is_half_done:  # else only where it was begun, for it may run on there
            self._follow_one(self._guide())
        return super()._undo_migration()

    def _insist_on(self, step: Step) -> None:
        def do() -> None:
            self._crew.adopt(self._followed)
            self._run_step(step)

        self._patience.insist(do)

    def _guide(self) -> Member:
        """A host that answers and knows the database's way: only the release's folder does."""
        return next((m for m in self._crew if m.is_ours and self._knows_the_way(m)), self._leader())

    def _knows_the_way(self, member: Member) -> bool:
        stage, claim = member.stage, self._claim
        release = stage.candidate.name
        if claim.deployment.with_database:  # from the release that has run until now
            if stage.previous != claim.current_release:
                return False
            release = stage.previous
        try:
            return member.marker(release) is not None
        except (StepFailed, OSError):
            return False

    # ------------------------------------------------------------------------------------ endings
    def _retry(self, failure: StepFailed, hosts: Sequence[Standing] = ()) -> Deployment:
        self._come_to_rest(self._claim.current_release)
        for member in self._crew:  # the next try begins before the first turn
            member.standing = replace(member.standing, touched=False)
        # With the end of the attempt, in one: in between, its journal would be taken for a first turn's.
        return super()._retry(failure, [*hosts, *map(self._redacted, self._crew)])

    def _come_to_rest(self, release: str) -> None:
        for member in self._everybody:
            member.standing = at_rest(member.standing, release)

    def _finish(self, ending: Ending) -> Deployment:
        """Whatever became of it: every host that is not as the others are is named."""
        self._come_to_rest(ending.serving.release if ending.serving else self._claim.current_release)
        standings = tuple(self._redacted(member) for member in self._everybody)
        words = named(standings)
        error = f"{ending.error}. {words}" if ending.error and words else ending.error or words
        hint = ending.hint or ("See `fraisier status`" if words else "")
        if words:
            # Nor is an environment well where nothing was changed and a host is away.
            claim = self._claim
            was = Serving(release=claim.current_release, commit=claim.current_commit, healthy=False)
            ending = replace(ending, serving=replace(ending.serving or was, healthy=False))
        return super()._finish(replace(ending, error=error, hint=hint, hosts=standings))
