"""A deployment over several hosts up to the first turn: looked at, taken over and built, all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fraisier.application.attempt import Attempt
from fraisier.application.control import Control
from fraisier.application.crew import Crew, Member, is_away
from fraisier.application.hold_runs import releases_in_use
from fraisier.application.journal import Journal
from fraisier.application.ports import Claim, Store
from fraisier.application.release_marker import Marker
from fraisier.application.stage import Stage
from fraisier.application.takeover import end_leftovers, ground_of
from fraisier.application.tools import Tools
from fraisier.deployers.common import candidate
from fraisier.domain.acts import Fetch
from fraisier.domain.errors import StepFailed
from fraisier.domain.fraise import BuildOn, Environment
from fraisier.domain.plan import Plan, Step, StepName
from fraisier.domain.rollout import (
    LOST,
    HostState,
    Standing,
    are_too_many_lost,
)
from fraisier.domain.rollout_plan import built_here, for_all
from fraisier.domain.rollout_words import lost_along


class PrepareHosts(Attempt):
    """The crew of a deployment, and the release made whole on each of its hosts."""

    def __init__(
        self,
        tools: Tools,
        store: Store,
        claim: Claim,
        control: Control,
        environment: Environment,
        journal: Journal,
    ) -> None:
        super().__init__(tools, store, claim, control, environment.on(environment.hosts[0]), journal)
        self._whole = environment
        self._rollout = environment.rollout
        known = {each.host: each for each in store.standings(environment.key)}
        members = [self._member(name, known) for name in environment.hosts]
        self._crew = self._everybody = Crew(members, journal, control, at_once=tools.at_once)
        self._quieted = False  # before its turn nothing is paused on any host
        self._begun = False  # the first host's turn, though perhaps nowhere was anything switched yet
        self._troubles: list[StepFailed] = []
        self._only_away: frozenset[str] = frozenset()  # have the release already, and nobody changed them
        self._follow_one(members[0])
        journal.is_going_down = self._is_this_machine_going_down

    def _member(self, name: str, known: dict[str, Standing]) -> Member:
        claim, environment = self._claim, self._whole.on(name)
        # An environment that had one host is known by what it ran itself.
        alone = name == self._whole.hosts[0] and all(not each.release for each in known.values())
        first = Standing(host=name)
        if alone and claim.current_release:
            first = replace(first, release=claim.current_release, commit=claim.current_commit)
        stage = Stage(
            tools=self._tools,
            environment=environment,
            ground=ground_of(self._store, environment, claim.token, self._control.halt),
            deployment=claim.deployment.id,
            candidate=self._stage.candidate,
            control=self._control,
            in_use=partial(releases_in_use, self._store, claim.environment),
        )
        standing = known.get(name, first)
        standing = first if standing.state is HostState.unknown else standing
        return Member(stage, standing, self._acts)

    def _follow_one(self, member: Member) -> None:
        """What is done once is done on this host."""
        self._followed, self._stage, self._perform = member, member.stage, member.perform
        self._database.on(member.stage, member.perform)

    def _leader(self) -> Member:
        """The first host that can do what is done once."""
        ours = [member for member in self._everybody if member.is_ours]
        able = [member for member in ours if member.standing.state not in LOST]
        leader: Member = [*able, *ours, *self._everybody][0]
        return leader

    def _host_of(self, step: Step) -> str:
        on_all = step.name is StepName.fetch or any(getattr(act, "here", False) for act in step.acts)
        return "" if on_all else self._stage.environment.hosts[0]

    def _is_this_machine_going_down(self) -> bool:
        return any(m.goes_down() for m in self._everybody if m.stage.host.name == "localhost")

    def _note(self, members: Sequence[Member]) -> None:
        self._store.note_hosts(self._claim, [self._redacted(member) for member in members])

    def _redacted(self, member: Member) -> Standing:
        return replace(member.standing, detail=self._journal.redact(member.standing.detail))

    def _see_candidate(self, release: str, commit: str) -> None:
        deployment = self._claim.deployment
        for member in self._everybody:
            environment = member.stage.environment
            member.stage.candidate = candidate(environment, release, commit, deployment.ref)

    def _plan_on(self, member: Member) -> Plan:
        """What brings the release in on this host, as far as it is whole there."""
        environment, release = member.stage.environment, member.stage.candidate
        if member.stage.built_on is not None:  # it is sent, which is planned as if it had been built here
            environment = replace(environment, build_on=BuildOn.here)
        parts = self._tools.parts(environment, release)
        return self._deployer.plan_deployment(environment, release, parts)

    def _end_leftovers(self) -> None:
        if self._claim.interruptions:
            self._crew.each([*self._crew], self._crew.adopt, back=True)
            gone = tuple(name for name in self._left.hosts if name not in self._whole.hosts)
            if gone:
                with suppress(StepFailed):
                    left = replace(self._left, hosts=gone)
                    end_leftovers(self._tools, self._store, self._claim, left, self._control.halt)
            self._database.let_go()

    def _begin(self, members: Sequence[Member]) -> None:
        """Look at all hosts, and take them over. Who cannot be used is left out, unless that are too many."""

        def look(member: Member) -> None:
            self._crew.run_all(
                member, [s for s in self._plan_on(member).steps if s.name is StepName.preflight]
            )
            member.see_what_runs()

        self._step = StepName.preflight
        self._leave_out(members, self._crew.each(members, look))

    def _leave_out(self, members: Sequence[Member], failures: dict[str, StepFailed]) -> None:
        """These go without the release: nothing has changed on them.

        Raises:
            StepFailed: that are too many.
        """
        for member in self._crew.named(failures):
            failure = failures[member.name]
            away = is_away(member, failure)
            state = HostState.unreachable if away else HostState.behind
            fields = {"deployment": self._claim.deployment.id, "touched": False}
            member.stands(state, cause=failure.cause, detail=failure.message, **fields)
        if failures and are_too_many_lost(self._rollout, self._crew.standings):
            raise lost_along(self._crew.standings, self._rollout, [*failures.values()])
        if len(members) > len(failures):
            self._follow_one(self._leader())

    def _able(self) -> list[Member]:
        return [m for m in self._crew if m.standing.state is HostState.waiting]

    def _build(self, members: Sequence[Member]) -> None:
        self._note([*self._crew])
        self._step = StepName.build
        for step in built_here(self._plan_on(members[0])) if members else ():
            self._run_step(step)
        if self._environment.build_on is BuildOn.first:
            members = self._build_on_first([*members])
        self._leave_out(members, self._crew.each(members, self._make_whole))
        self._note([*self._crew])

    def _make_whole(self, member: Member) -> None:
        self._crew.run_all(member, for_all(self._plan_on(member)))

    def _build_on_first(self, members: list[Member]) -> list[Member]:
        """Build on the first host that can; the others, which are returned, have it sent from there."""
        while members:
            first = members.pop(0)
            failures = self._crew.each([first], self._make_whole)
            self._leave_out([first], failures)
            if not failures:
                for member in members:
                    member.stage.built_on = first.stage.host
                break
        return members

    def _where_it_is_whole(self, name: str) -> dict[str, Marker]:
        """The hosts that have a release, and what it was made from."""
        members, whole = self._able(), dict[str, Marker]()

        def look(member: Member) -> None:
            if (marker := member.marker(name)) is not None:
                whole[member.name] = marker

        self._leave_out(members, self._crew.each(members, look))
        return whole

    def _fetch_again(self, commit: str) -> None:
        """A commit that has been deployed before needs no judgement, and may have left its branch since."""
        source = self._environment.source
        step = Step(name=StepName.fetch, acts=(Fetch(clone_url=source.clone_url, ref="", commit=commit),))
        with self._journaled(step) as scene:
            self._tools.repository.fetch(source, ref="", commit=commit, job=scene.job)

    def _free_number(self) -> int:
        """Above every release on every host."""
        members, found = self._able(), [0]
        self._leave_out(members, self._crew.each(members, lambda m: found.append(m.highest_number())))
        highest = max(found)
        while (number := self._store.next_release_number(self._claim)) <= highest:
            self._control.check()
        return number

    def _remember_previous(self) -> None:
        release = self._stage.candidate
        self._see_candidate(release.name, release.commit)
        self._store.set_release(self._claim, release=release.name, previous=self._usual_previous().previous)

    def _usual_previous(self) -> Standing:
        """What most hosts go back to; each goes back to its own."""
        mine = [each for each in self._crew.standings if each.deployment == self._claim.deployment.id]
        counted = Counter(each.previous for each in mine)
        return max(mine, key=lambda each: counted[each.previous], default=Standing(host=""))
