"""The adapters that one deployment works with, chosen for its environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

from fraisier.application.backup_tools import BackupBrands
from fraisier.application.plan_migration import plan_migration
from fraisier.application.ports import (
    Clock,
    Dumper,
    Host,
    Migrations,
    Prober,
    Proxy,
    Repository,
    SideBySide,
    Target,
    UnitState,
    WorkingTarget,
)
from fraisier.deployers.common import Candidate, Parts
from fraisier.domain.errors import Cause, LivesElsewhere, StepFailed
from fraisier.domain.fraise import Environment, TargetSpec
from fraisier.domain.labels import as_options, in_words
from fraisier.domain.plan import TargetActs
from fraisier.domain.recovery import MOST_INTERRUPTIONS
from fraisier.domain.release import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How a deployment is tried again: pauses in seconds, and how many workers it may take with it."""

    first: float = 2.0
    longest: float = 60.0
    most_interruptions: int = MOST_INTERRUPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Every brand that is there, by name; and the things of which there is one."""

    hosts: Mapping[str, Host]
    targets: Mapping[str, Target]
    probers: Mapping[str, Prober]
    migrations: Mapping[str, Migrations]
    dumpers: Mapping[str, Dumper] = field(default_factory=dict)
    repository: Repository
    clock: Clock
    retries: Retries = field(default_factory=Retries)
    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    backups: BackupBrands = field(default_factory=BackupBrands)
    labels: Collection[str] = ()  # of this process, which is on one machine
    at_once: int = 32  # hosts that one deployment talks to at the same time

    def host(self, environment: Environment) -> Host:
        """The host of an environment: this machine, or one that is reached from it.

        Raises:
            LivesElsewhere: the environment has labels that this machine has not.
        """
        if not set(environment.labels) <= set(self.labels):
            where, options = in_words(environment.labels), as_options(environment.labels)
            message = f"cannot reach {environment.key} from here: it lives on a machine labelled {where}"
            hint = f"Run it there. If this is the machine, say so: {options}, or `worker: {{labels: …}}`"
            raise LivesElsewhere(message, hint)
        return self.hosts[environment.hosts[0]]

    def target(self, environment: Environment) -> Target | None:
        """What runs the release; None: files are switched, nothing is restarted."""
        return self.targets[environment.target.kind] if environment.target else None

    def proxy(self, environment: Environment) -> Proxy | None:
        """What is told where traffic goes; None: nothing is."""
        return self.proxies[environment.proxy.kind] if environment.proxy else None

    def unit(self, environment: Environment, release: str) -> TargetSpec | None:
        """The unit of a release's instance; `release` '' = the plain one of the environment.

        Raises:
            StepFailed: preflight, where the brand cannot run two releases side by side.
        """
        target, spec = self.target(environment), environment.target
        if target is None or spec is None or not release:
            return spec
        if not isinstance(target, SideBySide):
            message = f"cannot run two releases side by side: {spec.kind} does not offer that"
            raise StepFailed(Cause.preflight, message, "Use `cutover: restart`")
        return target.instance(spec, release)

    def state(self, environment: Environment, release: str) -> UnitState:
        """What the process manager says of a release's instance, or ('') of the plain unit."""
        target, spec = self.target(environment), self.unit(environment, release)
        if target is None or spec is None:
            return UnitState(known=False, running=False)
        return target.state(spec, self.host(environment))

    def acts(self, environment: Environment, release: str) -> TargetActs:
        """What the environment's target does for a release."""
        target = self.target(environment)
        folder = Layout(environment.app_path).release(release)
        return target.acts(environment, folder) if target else TargetActs()

    def parts(self, environment: Environment, release: Candidate) -> Parts:
        """What the environment's brands contribute to a plan for `release`."""
        acts = self.acts(environment, release.name)
        backup, up = plan_migration(environment, release, self.framework(environment))
        return Parts(target=acts, backup=backup, migrate_up=up)

    def working_target(self, environment: Environment) -> WorkingTarget:
        """The target, where its acts contain work of its own."""
        return cast("WorkingTarget", self.target(environment))

    def framework(self, environment: Environment) -> Migrations | None:
        """What migrates the environment's database; None: nothing does."""
        database = environment.database
        return self.migrations[database.framework] if database and database.migrates else None
