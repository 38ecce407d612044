"""Performs one claimed deployment, to its end or to the way back: the heart of Fraisier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from fraisier.application.attempt import Attempt
from fraisier.application.build_here import LOCALHOST
from fraisier.application.control import Control
from fraisier.application.journal import Journal, explain
from fraisier.application.ports import Claim, Ending, EnvironmentCodec, Listener, Store
from fraisier.application.takeover import end_leftovers
from fraisier.application.tools import Tools
from fraisier.domain.deployment import Deployment, Status, Trigger
from fraisier.domain.errors import Cause, Conflict, FraisierError, StepFailed, StoreUnavailable
from fraisier.domain.fraise import BuildOn, Cutover, Environment, EnvironmentKey
from fraisier.domain.migration import story_of
from fraisier.domain.plan import StepName
from fraisier.domain.recovery import Course, Resumption, resume
from fraisier.domain.rollout_recovery import resume_rollout
from fraisier.domain.secret import Redactor


class RunDeployment:
    """Takes a claim, returns the deployment as it ended; None: it waits, or another worker goes on."""

    def __init__(
        self,
        tools: Tools,
        store: Store,
        codec: EnvironmentCodec,
        find: Callable[[EnvironmentKey], Environment],
        listener: Listener,
    ) -> None:
        self._tools = tools
        self._store = store
        self._codec = codec
        self._find = find
        self._listener = listener

    def __call__(self, claim: Claim, control: Control) -> Deployment | None:
        """Perform what the claim is about.

        Raises:
            TokenOutdated: another worker has taken over; nothing more may be touched.
            StoreUnavailable: the journal cannot be written; the lease will end and someone resumes.
            Conflict: the journal has been written already, by this claim; likewise.
        """
        try:
            return self._performed(claim, control)
        except (StoreUnavailable, Conflict):
            raise
        except Exception as error:  # the last boundary: no deployment stays in limbo
            if isinstance(error, (FraisierError, OSError)) and claim.interruptions < self._most:
                # It may pass. Whoever claims it after the lease tries again, and counts this one.
                self._store.begin_attempt(claim, resolved=self._store.resolved(claim.deployment.id))
                raise
            told = {"deployment": claim.deployment.id, "error": repr(error), "exc_info": error}
            self._listener("deployment_crashed", told)
            return self._end_for(claim, explain(error))

    def _performed(self, claim: Claim, control: Control) -> Deployment | None:
        left = self._where_it_worked(claim)
        resumption = self._resumption(claim, left.cutover if left else Cutover.restart)
        try:
            environment = self._environment(claim, resumption)
            redactor = Redactor(self._codec.secrets(environment))
            resolved = self._codec.dump(environment)
        except FraisierError as error:
            return self._cannot_begin(claim, resumption, error, left)
        journal = Journal(self._store, claim, control, redactor, self._listener)
        journal.learn = lambda host: self._secrets(environment.on(host) if host else environment)
        journal.begin(resolved, with_first_step=_begins_with_a_step(claim, resumption))
        attempt = self._kind_of(environment, claim)
        return attempt(self._tools, self._store, claim, control, environment, journal)(
            resumption, left or environment
        )

    @property
    def _most(self) -> int:
        return self._tools.retries.most_interruptions

    def _kind_of(self, environment: Environment, claim: Claim) -> type[Attempt]:
        """Several hosts are another matter; who has one is spared it."""
        if len(environment.hosts) == 1:
            return Attempt
        from fraisier.application.heal_hosts import HealHosts
        from fraisier.application.roll_out import RollOut

        return HealHosts if claim.deployment.trigger is Trigger.heal else RollOut

    def _resumption(self, claim: Claim, cutover: Cutover) -> Resumption:
        most, interruptions = self._most, claim.interruptions
        if claim.deployment.trigger is Trigger.heal:  # it looks at what is there, each time anew
            return resume([], interruptions=interruptions, most=most)
        database = story_of(claim.changes)
        if not any(step.host for step in claim.journal):
            return resume(claim.journal, cutover, database, interruptions=interruptions, most=most)
        known = self._store.standings(claim.environment)
        mine = [each for each in known if each.deployment == claim.deployment.id]
        return resume_rollout(claim.journal, mine, cutover, database, interruptions=interruptions, most=most)

    def _secrets(self, environment: Environment) -> Sequence[str]:
        """With those of the env_file, which is on the environment's host: of several, each has its own.

        Raises:
            HostUnreachable: nobody can look now; nothing may be printed before somebody has.
        """
        path, builds_here = environment.env_file, environment.build_on is BuildOn.here
        places = [self._tools.hosts[LOCALHOST]] if builds_here else []
        if len(environment.hosts) == 1:
            places.append(self._tools.host(environment))
        contents = [place.read(path) or b"" for place in places if path]
        return self._codec.secrets(environment, b"\n".join(contents))

    def _where_it_worked(self, claim: Claim) -> Environment | None:
        """The environment of the last attempt, as far as it can still be told."""
        with suppress(FraisierError):
            return self._codec.load(claim.resolved) if claim.resolved else None
        return None

    def _cannot_begin(
        self, claim: Claim, resumption: Resumption, error: FraisierError, left: Environment | None
    ) -> Deployment:
        """The environment is gone from the configuration, or one of its secrets cannot be resolved."""
        failure = StepFailed(Cause.preflight, error.message, error.hint)
        return self._end(claim, failure, switched=resumption.switched, left=left)

    def _end_for(self, claim: Claim, failure: StepFailed) -> Deployment:
        """Whoever claims it next would only meet the same defect."""
        switched = any(s["step"] == StepName.activate for s in self._store.steps(claim.deployment.id))
        left = None
        with suppress(Exception):  # this may be the defect
            left = self._where_it_worked(claim)
        return self._end(claim, failure, switched=switched, left=left)

    def _end(
        self, claim: Claim, failure: StepFailed, *, switched: bool, left: Environment | None
    ) -> Deployment:
        """End it without performing anything but the end of what a dead worker had started."""
        message = failure.message
        try:
            if left is not None:
                end_leftovers(self._tools, self._store, claim, left)
        except (StoreUnavailable, Conflict):
            raise
        except Exception as more:  # noqa: BLE001 - it has to end
            message += f". What the worker that died had started may run on: {explain(more).message}"
        attempt = self._store.begin_attempt(claim, resolved=claim.resolved)
        status = Status.rollback_failed if switched else Status.failed
        ending = Ending(status=status, cause=failure.cause, error=message, hint=failure.hint)
        return self._store.finish(claim, attempt, ending)

    def _environment(self, claim: Claim, resumption: Resumption) -> Environment:
        """What was resolved when the work began; a fresh start takes the present configuration."""
        if claim.resolved and resumption.course is not Course.start_over:
            return self._codec.load(claim.resolved)
        found = self._find(claim.environment)
        self._tools.host(found)  # by its present labels it may live on another machine
        return found


def _begins_with_a_step(claim: Claim, resumption: Resumption) -> bool:
    """Whether nothing is done, on no host, before the first step: what was left is ended before it, and who
    goes back looks for the release.
    """
    returns = claim.deployment.trigger is Trigger.rollback
    return resumption.course is Course.start_over and not claim.interruptions and not returns
