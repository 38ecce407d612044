"""All that can be asked of Fraisier: one door for webhooks, command line, GraphQL and workers.

Each verb is a module of its own, which is imported when it is first needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fraisier.application.control import Control
    from fraisier.application.find_holds import FindHolds
    from fraisier.application.foresee_migration import Outlook
    from fraisier.application.ports import (
        Clock,
        Configuration,
        EnvironmentCodec,
        Listener,
        Performer,
        Problem,
        Requested,
        RunClaim,
        Store,
    )
    from fraisier.application.promote_commit import PromoteCommit, Promotion
    from fraisier.application.tools import Tools
    from fraisier.application.verify_environments import Comparison
    from fraisier.domain.deployment import Deployment, Trigger
    from fraisier.domain.fraise import Environment, EnvironmentKey
    from fraisier.domain.job import JobKind
    from fraisier.domain.plan import Plan


class Verbs(ABC):
    """What can be asked, of a configuration and a store, with the tools that are at hand."""

    configuration: Configuration
    store: Store

    @property
    @abstractmethod
    def tools(self) -> Tools:
        """The brands that deployments are performed with."""

    @property
    @abstractmethod
    def codec(self) -> EnvironmentCodec:
        """Turns environments into text for the journal and back."""

    @property
    def clock(self) -> Clock:
        """The machine's clocks."""
        return self.tools.clock

    def environment(self, key: EnvironmentKey) -> Environment:
        """A configured environment.

        Raises:
            NotFound: no such environment.
        """
        from fraisier.application.request_deployment import find_environment

        return find_environment(self.configuration.environments, key)

    def closed_windows(self) -> dict[EnvironmentKey, float]:
        """Environments that are outside of their windows now, and the seconds until the next one opens."""
        from fraisier.domain.window import is_open, opens_at

        limited = {key: each.allowed for key, each in self.configuration.environments.items() if each.allowed}
        now = self.clock.now() if limited else 0.0
        return {
            key: opens_at(windows, now) - now for key, windows in limited.items() if not is_open(windows, now)
        }

    def holds(self) -> FindHolds:
        """What keeps deployments from beginning by themselves at this moment."""
        from fraisier.application.find_holds import FindHolds

        return FindHolds(self.configuration.environments, self.store, self.clock.now())

    def publish(self) -> None:
        """Make the configuration known to everyone who shares the store."""
        configuration = self.configuration
        self.store.publish(
            list(configuration.fraises.values()),
            digest=configuration.digest,
            documents=configuration.documents,
        )

    def publish_if_alone(self) -> None:
        """Publish a changed configuration where no worker lives that would have to agree to it."""
        published = self.store.published_digest()
        if published != self.configuration.digest and not (published and self.store.live_workers()):
            self.publish()

    def request_deployment(
        self,
        key: EnvironmentKey,
        *,
        commit: str = "",
        ref: str = "",
        by: str,
        trigger: Trigger | None = None,
        force: bool = False,
    ) -> Requested:
        """See `application.request_deployment`."""
        from fraisier.application.request_deployment import RequestDeployment
        from fraisier.domain.deployment import Trigger

        self.publish_if_alone()
        request = RequestDeployment(self.configuration.environments, self.store, self.holds())
        return request(key, commit=commit, ref=ref, by=by, trigger=trigger or Trigger.manual, force=force)

    def roll_back(
        self, key: EnvironmentKey, *, to: str = "", by: str, with_database: bool = False
    ) -> Requested:
        """See `application.roll_back`."""
        from fraisier.application.roll_back import RollBack

        self.publish_if_alone()
        roll_back = RollBack(self.configuration.environments, self.tools, self.store, self.holds())
        return roll_back(key, to=to, by=by, with_database=with_database)

    def pause(self, key: EnvironmentKey, *, by: str, reason: str) -> str:
        """See `application.pause_environment`."""
        from fraisier.application.pause_environment import PauseEnvironment

        self.publish_if_alone()
        return PauseEnvironment(self.configuration.environments, self.store)(key, by=by, reason=reason)

    def resume(self, key: EnvironmentKey, *, by: str) -> bool:
        """See `application.pause_environment`."""
        from fraisier.application.pause_environment import ResumeEnvironment

        self.publish_if_alone()
        return ResumeEnvironment(self.configuration.environments, self.store)(key, by=by)

    @property
    def _promote(self) -> PromoteCommit:
        from fraisier.application.promote_commit import PromoteCommit
        from fraisier.application.request_deployment import RequestDeployment

        request = RequestDeployment(self.configuration.environments, self.store, self.holds())
        environments = self.configuration.environments
        return PromoteCommit(environments, self.tools, self.store, self.codec, request)

    def promotion(self, source: EnvironmentKey, target: EnvironmentKey) -> Promotion:
        """See `application.promote_commit`; changes nothing."""
        return self._promote.plan(source, target)

    def promote(self, promotion: Promotion, *, by: str, force: bool = False) -> Requested:
        """See `application.promote_commit`."""
        self.publish_if_alone()
        return self._promote.request(promotion, by=by, force=force)

    def request_run(
        self, key: EnvironmentKey, job: str = "", *, parameters: Mapping[str, str], by: str
    ) -> Mapping[str, Any]:
        """See `application.request_run`."""
        from fraisier.application.request_run import RequestRun

        self.publish_if_alone()
        return RequestRun(self.configuration.environments, self.store)(key, job, parameters=parameters, by=by)

    def perform_run(self, claim: RunClaim, control: Control, listener: Listener) -> Mapping[str, Any] | None:
        """See `application.perform_run`."""
        from fraisier.application.perform_run import PerformRun

        perform = PerformRun(
            self.tools,
            self.store,
            self.codec,
            self.environment,
            performers=self.performers,
            listener=listener,
        )
        return perform(claim, control)

    @cached_property
    def performers(self) -> Mapping[JobKind, Performer]:
        """Who performs the runs of each kind of job."""
        from fraisier.application.backup_tools import BackupTools
        from fraisier.application.make_backup import MakeBackup
        from fraisier.application.prune_backups import PruneBackups
        from fraisier.application.restore_backup import RestoreBackup
        from fraisier.application.run_unit import run_command_or_unit
        from fraisier.application.verify_backup import VerifyBackup
        from fraisier.domain.job import JobKind

        backups = BackupTools(self.tools.backups, self.store, self.clock)
        return {
            JobKind.command: run_command_or_unit,
            JobKind.backup: MakeBackup(backups),
            JobKind.verify: VerifyBackup(backups),
            JobKind.restore: RestoreBackup(backups),
            JobKind.prune: PruneBackups(backups),
        }

    def cancel_run(self, run: str, *, by: str) -> Mapping[str, Any]:
        """See `application.cancel_run`."""
        from fraisier.application.cancel_run import CancelRun

        return CancelRun(self.configuration.environments, self.tools, self.store)(run, by=by)

    def cancel(self, deployment: str, *, by: str) -> Deployment:
        """See `Store.cancel`."""
        return self.store.cancel(deployment, by=by)

    def adopt(self, key: EnvironmentKey, *, by: str) -> None:
        """See `application.adopt_environment`."""
        from fraisier.application.adopt_environment import AdoptEnvironment

        self.publish_if_alone()
        AdoptEnvironment(self.configuration.environments, self.tools, self.store)(key, by=by)

    def plan(self, key: EnvironmentKey, *, commit: str = "", ref: str = "") -> Plan:
        """What a deployment would do; changes nothing."""
        from fraisier.application.request_deployment import full_ref
        from fraisier.deployers.by_type import deployer_of
        from fraisier.deployers.common import candidate

        environment = self.environment(key)
        full = full_ref(environment, ref or environment.branch, needed=False)
        release = candidate(environment, "NEXT", commit or "COMMIT", full)
        parts = self.tools.parts(environment, release)
        return deployer_of(environment).plan_deployment(environment, release, parts)

    def verify(self, keys: Sequence[EnvironmentKey]) -> Iterator[Comparison]:
        """See `application.verify_environments`; changes nothing."""
        from fraisier.application.verify_environments import VerifyEnvironments

        return VerifyEnvironments(self.configuration, self.tools, self.store, self.codec)(keys)

    def outlook(self, key: EnvironmentKey, *, commit: str = "") -> Outlook | None:
        """What is known of a deployment's migration before it; None: nothing migrates. Changes nothing."""
        from fraisier.application.foresee_migration import ForeseeMigration
        from fraisier.domain.secret import Redactor

        environment = self.environment(key)
        redactor = Redactor(self.codec.secrets(environment))
        return ForeseeMigration(self.tools, self.store, redactor.text)(environment, commit)

    def preflight(self, environment: Environment) -> list[Problem]:
        """What would keep a deployment of `environment` from working."""
        from fraisier.application.preflight import preflight

        tools = self.tools
        target, proxy = tools.target(environment), tools.proxy(environment)
        return list(preflight(environment, tools.host(environment), target, proxy))
