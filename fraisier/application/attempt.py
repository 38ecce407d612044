"""One attempt at a deployment, from where the journal says to its end, the next try, or the way back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from fraisier.application.conclude import UNJOURNALED, Conclude, with_consequence
from fraisier.application.control import Control, Reason, Stopped
from fraisier.application.hold_runs import HoldBack, releases_in_use, runs_after
from fraisier.application.journal import Journal, explain
from fraisier.application.migrate_database import MigrateDatabase
from fraisier.application.patience import Patience
from fraisier.application.perform import Acts, Perform
from fraisier.application.pin_commit import PinCommit, Refused
from fraisier.application.ports import Claim, Ending, Serving, Store
from fraisier.application.release_marker import Marker, read_marker, running_release
from fraisier.application.roll_back import way_of_release
from fraisier.application.stage import Scene, Stage
from fraisier.application.takeover import end_leftovers, ground_of
from fraisier.application.tools import Tools
from fraisier.application.way_back import has_leftovers, way_back
from fraisier.deployers.by_type import deployer_of
from fraisier.deployers.common import Candidate, Parts, candidate
from fraisier.deployers.cutover import plan_clean_up
from fraisier.deployers.scheduled import wake
from fraisier.domain.deployment import Deployment, Status, Trigger
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.job_acts import HoldRuns
from fraisier.domain.migration import Standing
from fraisier.domain.plan import BRING_IN, Phase, Plan, Step, StepName
from fraisier.domain.recovery import STOPPED_MIGRATION, TORN, Course, Resumption, torn_between
from fraisier.domain.release import release_name, release_number
from fraisier.domain.timer_acts import QuietUnits


class Attempt(Conclude):
    """Forward until something fails; what has been switched by then is taken back."""

    def __init__(
        self,
        tools: Tools,
        store: Store,
        claim: Claim,
        control: Control,
        environment: Environment,
        journal: Journal,
    ) -> None:
        super().__init__(
            store, claim, control, journal, Patience(claim, control, tools, retry_for=environment.retry_for)
        )
        self._tools = tools
        self._environment = environment
        deployment = claim.deployment
        self._stage = Stage(
            tools=tools,
            environment=environment,
            ground=ground_of(store, environment, claim.token, control.halt),
            deployment=deployment.id,
            candidate=candidate(environment, deployment.release, deployment.commit, deployment.ref),
            control=control,
            in_use=partial(releases_in_use, store, claim.environment),
        )
        self._deployer = deployer_of(environment)
        self._left = environment
        self._database = MigrateDatabase(self._stage, store, claim, journal)
        self._acts: Acts = {**self._database.table, HoldRuns: HoldBack(store, claim)}
        self._perform = Perform(self._stage, self._acts)
        self._database.perform = self._perform
        # A reboot stops builds and units before, or after, it stops us: that must not look like a failure.
        journal.is_going_down = self._stage.host.is_going_down
        self._adopted = False  # the environment on its host is ours
        self._switched = False
        self._migrated = False
        self._begun_to_migrate = any(
            step.name is StepName.migrate and step.phase is Phase.deploy and not step.retried
            for step in claim.journal
        )
        self._quieted = any(s.name is StepName.backup and s.phase is Phase.deploy for s in claim.journal)
        self._standing = Standing.between, ""
        self._torn = False  # the way down was interrupted: it is not taken again
        self._step = StepName.preflight

    # ------------------------------------------------------------------------------------ the course
    def __call__(self, resumption: Resumption, left: Environment) -> Deployment | None:
        """`left` is where an earlier attempt worked."""
        self._left = left
        tells = self._database.story.tells
        self._migrated = resumption.migrated and (not resumption.undone or (resumption.torn and tells))
        self._torn = resumption.torn and not tells
        self._database.resumed(torn=resumption.torn)
        try:
            try:
                return self._follow(resumption)
            except Stopped as stopped:
                if stopped.reason is not Reason.cancelled:
                    raise
                return self._failed(self._cancelled())
        except Stopped as stopped:
            if stopped.reason is Reason.shutdown:
                self._store.hand_back(self._claim)
            return None
        except UNJOURNALED:
            raise
        except Exception as defect:  # noqa: BLE001 - the last boundary: no deployment stays in limbo
            status = Status.rollback_failed if self._switched else Status.failed
            return self._end(status, explain(defect), error=explain(defect).message)

    def _follow(self, resumption: Resumption) -> Deployment | None:
        if resumption.course is Course.start_over:
            return self._forward(self._from_the_start)
        self._switched = resumption.switched
        self._resume_at(resumption)
        if resumption.course is Course.ask:
            return self._after_an_interrupted_migration(resumption)
        self._step = self._failed_at = resumption.failed_at or self._step
        failure = StepFailed(resumption.cause or Cause.interrupted, resumption.error, resumption.hint)
        if resumption.course is Course.retry:
            return self._failed(failure)
        if resumption.course is Course.conclude:
            cancelled = failure.cause is Cause.interrupted and self._claim.deployment.cancel_requested_by
            return self._give_up(self._cancelled() if cancelled else failure)
        if resumption.course is Course.roll_back:
            return self._go_back(failure)
        return self._forward(self._bring_in)

    def _after_an_interrupted_migration(self, resumption: Resumption) -> Deployment | None:
        """The framework tells how far it came: it is repeated only if it has not begun."""
        self._step = StepName.migrate
        try:
            self._patience.insist(self._ask_how_far)
        except (Stopped, *UNJOURNALED):
            raise
        except Exception as failed:  # noqa: BLE001 - a boundary: the deployment has to end
            self._control.check_halt()
            error = f"{resumption.error}. {explain(failed).message}"
            return self._end(Status.failed, StepFailed(Cause.migration_interrupted, error), error=error)
        where, now = self._standing
        if where is Standing.between:
            error = torn_between(self._database.story.before, now)
            return self._end(Status.failed, StepFailed(Cause.migration_interrupted, error), error=error)
        if where is Standing.after:
            self._database.note_migrated(now)
            self._migrated = True
        return self._forward(self._migrate_and_bring_in)

    def _ask_how_far(self) -> None:
        self._standing = self._database.standing()

    def _migrate_and_bring_in(self) -> None:
        if self._migrated:
            self._bring_in()
        else:
            self._run_steps(self._plan().after(StepName.migrate))

    def _forward(self, go: Callable[[], None]) -> Deployment | None:
        try:
            go()
        except Refused as refused:
            return self._refuse(refused.refusal)
        except (Stopped, *UNJOURNALED):
            raise
        except Exception as failure:
            if self._control.reason in (Reason.shutdown, Reason.lost):
                raise Stopped(self._control.reason) from failure
            return self._failed(explain(failure))
        return self._succeed()

    def _resume_at(self, resumption: Resumption) -> None:
        """Older scopes are ended, and the token raised, before anything else is touched."""
        deployment = self._claim.deployment
        release = deployment.release or resumption.release
        self._stage.candidate = candidate(self._environment, release, deployment.commit, deployment.ref)
        self._stage.previous = deployment.previous_release
        self._step = BRING_IN[self._environment.cutover][0]
        if release:
            self._patience.insist(self._perform.adopt)  # what is half done has no other way on
            self._adopted = True

    # ------------------------------------------------------------------------------------ forward
    def _from_the_start(self) -> None:
        self._end_leftovers()
        if self._claim.deployment.trigger is Trigger.rollback:
            self._return_to_a_release()
            return
        self._run_step(self._plan().steps[0])
        self._adopted = True
        self._fetch_and_pin(self._plan())
        self._name_release()
        later = self._plan().after(StepName.prepare)
        done = (StepName.backup, StepName.migrate) if self._migrated else ()
        self._run_steps(tuple(s for s in later if s.name not in done))

    def _end_leftovers(self) -> None:
        end_leftovers(self._tools, self._store, self._claim, self._left, self._control.halt)
        if self._claim.interruptions:
            self._database.let_go()

    def _return_to_a_release(self) -> None:
        stage, deployment = self._stage, self._claim.deployment
        marker = self._marker_of(deployment.release)
        if marker is None:
            message = f"cannot go back to release {deployment.release}: it is not there, or not whole"
            raise StepFailed(Cause.preflight, message, "Deploy its commit: fraisier deploy … --commit SHA")
        stage.candidate = candidate(self._environment, marker.release, marker.commit, marker.ref)
        self._run_step(self._deployer.plan_return(self._environment, stage.candidate, Parts()).steps[0])
        self._adopted = True
        self._remember_previous()
        if not deployment.with_database:
            self._leave_database()
        self._run_steps(self._plan().steps[1:])

    def _leave_database(self) -> None:
        self._database.leave(way_of_release(self._store, self._environment, None).now)

    def _marker_of(self, release: str) -> Marker | None:
        """What a release that is gone back to was made from; None if it is not whole."""
        return read_marker(self._stage.host, self._stage.layout, release)

    def _bring_in(self) -> None:
        self._run_steps(self._plan().after(*BRING_IN[self._environment.cutover]))

    def _fetch_and_pin(self, plan: Plan) -> None:
        pin = PinCommit(self._tools, self._store, self._claim, self._environment)
        step = plan.steps[1]
        with self._journaled(step) as scene:
            fetched = pin(step, scene)
            self._stage.candidate = replace(self._stage.candidate, commit=fetched.commit)
        refusal = pin.refusal(fetched)
        if refusal is not None:
            raise Refused(refusal)

    def _name_release(self) -> None:
        commit = self._stage.candidate.commit
        name = release_name(self._free_number(), commit)
        ref = self._claim.deployment.ref
        self._stage.candidate = candidate(self._environment, name, commit, ref)
        self._remember_previous()

    def _free_number(self) -> int:
        """Above every release on the host: a database from a backup has forgotten the newest.

        A folder that is no whole release does not count: it is thrown away before ours is made, and its
        name may be anybody's.
        """
        host, layout = self._stage.host, self._stage.layout
        running = running_release(host, layout)
        whole = [n for n in host.list(layout.releases) if n == running or read_marker(host, layout, n)]
        highest = max(map(release_number, whole), default=0)
        while (number := self._store.next_release_number(self._claim)) <= highest:
            self._control.check()
        return number

    def _remember_previous(self) -> None:
        stage = self._stage
        running = running_release(stage.host, stage.layout)
        whole = running if read_marker(stage.host, stage.layout, running) else ""
        stage.previous = whole
        self._store.set_release(self._claim, release=stage.candidate.name, previous=whole)

    # ------------------------------------------------------------------------------------ steps
    def _run_steps(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            self._run_step(step)

    def _insist_on(self, step: Step) -> None:
        """A step of the way back. Nothing else leads to the old state, so it waits for room on a disk."""
        self._patience.insist(lambda: self._run_step(step))

    def _run_step(self, step: Step) -> None:
        with self._journaled(step) as scene:
            for act in step.acts:
                self._perform(act, scene)
        if step.name is StepName.migrate:
            self._migrated = step.phase is Phase.deploy

    def _journaled(self, step: Step) -> AbstractContextManager[Scene]:
        back = step.phase is Phase.rollback
        (self._control.check_halt if back else self._control.check)()
        self._step = step.name
        self._begun_to_migrate |= step.name is StepName.migrate and not back
        self._quieted |= any(isinstance(act, QuietUnits) for act in step.acts)
        if step.name is StepName.activate and not back:
            self._switched = True
        stop = self._control.halt if back else self._control.stop
        return self._journal.step(step, self._stage.candidate.name, stop, host=self._host_of(step))

    def _host_of(self, _: Step) -> str:
        """Which host of several a step is about."""
        return ""

    def _plan(self) -> Plan:
        release = self._stage.candidate
        if self._claim.deployment.trigger is Trigger.rollback:
            return self._deployer.plan_return(self._environment, release, self._parts_of_return(release))
        return self._deployer.plan_deployment(self._environment, release, self._parts(release))

    def _parts_of_return(self, release: Candidate) -> Parts:
        parts = Parts(target=self._parts(release).target)
        if not self._claim.deployment.with_database or self._migrated:
            return parts
        back = way_of_release(self._store, self._environment, self._marker_of(release.name))
        return replace(parts, migrate_down=self._database.acts_of_return(back))

    def _parts(self, release: Candidate) -> Parts:
        return self._tools.parts(self._environment, release)

    # ------------------------------------------------------------------------------------ endings
    def _finish(self, ending: Ending) -> Deployment:
        return super()._finish(replace(ending, error=ending.error + self._wake()))

    def _succeed(self) -> Deployment:
        release = self._stage.candidate
        serving = Serving(release=release.name, commit=release.commit, healthy=True)
        after = runs_after(self._environment, self._claim)
        return self._finish(Ending(status=Status.success, serving=serving, runs=after))

    @property
    def _is_migrating(self) -> bool:
        return self._step is StepName.migrate and not self._migrated and self._database.is_half_done

    def _failed(self, failure: StepFailed) -> Deployment | None:
        self._failed_at = self._step
        if self._control.reason is Reason.cancelled:
            torn = self._is_migrating and not self._database.story.tells
            failure = self._cancelled(STOPPED_MIGRATION if torn else "")
        if self._switched:
            return self._go_back(failure)
        # A migration that failed may have done half its work: like an interrupted one it is not repeated.
        if failure.cause.is_retried and not self._is_migrating and self._patience.lasts():
            self._clean_up()
            self._wake()
            return self._retry(failure)
        return self._give_up(failure)

    def _give_up(self, failure: StepFailed) -> Deployment:
        """Before the switch: the old release serves on; only the database may need its way back."""
        error = failure.message + (TORN if self._torn else "") + self._clean_up()
        if self._migrated or (self._begun_to_migrate and self._database.is_half_done):
            error += self._undo_migration()
        status = Status.cancelled if failure.cause is Cause.cancelled else Status.failed
        return self._end(status, failure, error=error)

    def _clean_up(self) -> str:
        """Before the switch: an instance that was started beside the one that serves is stopped."""
        if not self._adopted or not self._environment.is_blue_green:
            return ""
        return self._try_to(self._stop_instance, "Its instance could not be stopped")

    def _stop_instance(self) -> None:
        if has_leftovers(self._stage):
            self._insist_on(plan_clean_up())

    def _wake(self) -> str:
        """Before the switch, when the database is where it stays: systemd goes on with its schedules."""
        previous = self._stage.previous or self._claim.deployment.previous_release
        step = wake(self._environment, previous) if self._quieted and not self._switched else None
        trouble = "Its timers could not be started again"
        return self._try_to(partial(self._insist_on_host, step), trouble) if step else ""

    def _insist_on_host(self, step: Step) -> None:
        if not self._adopted:
            self._patience.insist(self._perform.adopt)
        self._insist_on(step)

    def _undo_migration(self) -> str:
        back, said = self._database.way_back()
        if back is None:
            return said
        step = Step(name=StepName.migrate, acts=(back,), phase=Phase.rollback)
        trouble = self._try_to(partial(self._insist_on, step), "The database could not be taken back")
        return trouble or ". The database was taken back"

    def _go_back(self, failure: StepFailed) -> Deployment | None:
        """The code comes back even where the database does not; what failed on the way is said."""
        stage, new = self._stage, self._stage.candidate
        back, said = self._database.way_back() if self._migrated else (None, "")
        failure = with_consequence(failure, said)
        down = (back,) if back else ()
        marker = read_marker(stage.host, stage.layout, stage.previous)
        old = candidate(self._environment, stage.previous, marker.commit if marker else "")
        plan = way_back(stage, old if marker else None, down)
        troubles = [StepFailed(Cause.migration_interrupted, TORN.strip(". "))] if self._torn else []
        for step in plan.steps:
            stage.candidate = new if step.name is StepName.migrate else old
            try:
                self._insist_on(step)
            except (Stopped, *UNJOURNALED):
                raise
            except Exception as failed:  # noqa: BLE001 - whatever it is, the code has to come back
                self._control.check_halt()
                troubles.append(explain(failed))
        stage.candidate = new
        return self._went_back(
            failure, troubles, Serving(release=old.name, commit=old.commit, healthy=not troubles)
        )
