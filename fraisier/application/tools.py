"""The adapters that one deployment works with, chosen for its environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from fraisier.application.ports import Clock, Host, Migrations, Prober, Repository, Target
from fraisier.deployers.common import Candidate, Parts, command_env
from fraisier.domain.errors import LivesElsewhere, UsageError
from fraisier.domain.fraise import Environment
from fraisier.domain.labels import as_options, in_words
from fraisier.domain.plan import TargetActs
from fraisier.domain.recovery import MOST_INTERRUPTIONS


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
    repository: Repository
    clock: Clock
    retries: Retries = field(default_factory=Retries)
    labels: Collection[str] = ()  # of this process, which is on one machine

    def host(self, environment: Environment) -> Host:
        """The host of an environment; this version performs on the machine that it runs on.

        Raises:
            LivesElsewhere: the environment has labels that this machine has not.
        """
        if not set(environment.labels) <= set(self.labels):
            where, options = in_words(environment.labels), as_options(environment.labels)
            message = f"cannot reach {environment.key} from here: it lives on a machine labelled {where}"
            hint = f"Run it there. If this is the machine, say so: {options}, or `worker: {{labels: …}}`"
            raise LivesElsewhere(message, hint)
        name = environment.hosts[0]
        if name not in self.hosts:
            raise UsageError(f"cannot reach host {name!r}: this version deploys on this machine only")
        return self.hosts[name]

    def target(self, environment: Environment) -> Target | None:
        """What runs the release; None: files are switched, nothing is restarted."""
        return self.targets[environment.target.kind] if environment.target else None

    def parts(self, environment: Environment, release: Candidate) -> Parts:
        """What the environment's brands contribute to a plan for `release`."""
        target = self.target(environment)
        acts = target.acts(environment, release.folder) if target else TargetActs()
        migrations = self._migrations(environment)
        if migrations is None:
            return Parts(target=acts)
        env = command_env(environment, release)
        return Parts(
            target=acts,
            migrate_up=tuple(migrations.up(environment, release.folder, env)),
            migrate_down=tuple(migrations.down(environment, release.folder, env)),
        )

    def _migrations(self, environment: Environment) -> Migrations | None:
        database = environment.database
        return self.migrations[database.framework] if database and database.up else None
