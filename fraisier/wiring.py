"""Chooses the adapters: read this to see what Fraisier is made of.

Each table has one row per brand. Third parties add rows by entry points of the groups named here; a row
of theirs never replaces one of ours. Adapters are imported when they are first needed, so that a command
that only reads starts fast.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fraisier.domain.errors import UsageError
from fraisier.domain.extras import how_to_install

if TYPE_CHECKING:
    from fraisier.application.control import Control
    from fraisier.application.find_holds import FindHolds
    from fraisier.application.foresee_migration import Outlook
    from fraisier.application.ports import (
        Clock,
        Configuration,
        Database,
        EnvironmentCodec,
        Forge,
        Host,
        Listener,
        Performer,
        Problem,
        Requested,
        RunClaim,
        Store,
    )
    from fraisier.application.promote_commit import PromoteCommit, Promotion
    from fraisier.application.receive_push import FindForge
    from fraisier.application.tools import Tools
    from fraisier.application.verify_environments import Comparison
    from fraisier.domain.deployment import Deployment, Trigger
    from fraisier.domain.fraise import Environment, EnvironmentKey
    from fraisier.domain.job import JobKind
    from fraisier.domain.plan import Plan

FORGES = {
    "github": "fraisier.git.github:GitHub",
    "gitlab": "fraisier.git.gitlab:GitLab",
    "gitea": "fraisier.git.gitea:Gitea",
    "bitbucket": "fraisier.git.bitbucket:Bitbucket",
    "bitbucket_server": "fraisier.git.bitbucket_server:BitbucketServer",
}
TARGETS = {
    "systemd": "fraisier.targets.systemd:Systemd",
    "supervisord": "fraisier.targets.supervisord:Supervisord",
    "compose": "fraisier.targets.compose:Compose",
}
HOSTS = {"local": "fraisier.hosts.local:LocalHost", "ssh": "fraisier.hosts.ssh:SSHHost"}
PROBERS = {
    "http": "fraisier.health.http:HttpProber",
    "tcp": "fraisier.health.tcp:TcpProber",
    "command": "fraisier.health.command:CommandProber",
}
STORES = {
    "sqlite": "fraisier.database.sqlite:open_store",
    "postgresql": "fraisier.database.postgresql:open_store",
}
DATABASES = {
    "sqlite": "fraisier.database.sqlite_database:open_database",
    "postgresql": "fraisier.database.postgresql_database:open_database",
}
MIGRATIONS = {
    "alembic": "fraisier.migrations.alembic:Alembic",
    "confiture": "fraisier.migrations.confiture:Confiture",
    "django": "fraisier.migrations.django:Django",
    "command": "fraisier.migrations.command:CommandMigrations",
}
DUMPERS = {
    "postgresql": "fraisier.backups.postgresql:PostgreSQL",
    "sqlite": "fraisier.backups.sqlite:Sqlite",
    "command": "fraisier.backups.command:BackupCommand",
}
SOURCES = {
    "postgresql": "fraisier.backups.postgresql:PostgreSQL",
    "mysql": "fraisier.backups.mysql:MySQL",
    "sqlite": "fraisier.backups.sqlite:Sqlite",
    "folder": "fraisier.backups.folder:Folder",
    "command": "fraisier.backups.command:BackupCommand",
}
CIPHERS = {"age": "fraisier.backups.age:Age"}
DESTINATIONS = {
    "folder": "fraisier.backup_places.folder:FolderPlace",
    "rsync": "fraisier.backup_places.rsync:Rsync",
    "s3": "fraisier.backup_places.s3:S3",
    "restic": "fraisier.backup_places.restic:Restic",
}
PROXIES = {
    "haproxy": "fraisier.proxies.haproxy:HAProxy",
    "caddy": "fraisier.proxies.caddy:Caddy",
}
GROUPS = {
    "fraisier.forges": FORGES,
    "fraisier.targets": TARGETS,
    "fraisier.migrations": MIGRATIONS,
    "fraisier.proxies": PROXIES,
    "fraisier.sources": SOURCES,
    "fraisier.destinations": DESTINATIONS,
}


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()


def brands(group: str) -> dict[str, Callable[[], Any]]:
    """Every brand of a group, ours and third parties', as something that loads it."""
    from importlib.metadata import entry_points  # slow to import, and needed by few commands

    found: dict[str, Callable[[], Any]] = {point.name: point.load for point in entry_points(group=group)}
    return found | {name: _loader(reference) for name, reference in GROUPS.get(group, {}).items()}


def make(table: Mapping[str, str], group: str = "") -> dict[str, Any]:
    """One object per row of a table, and per entry point of its group."""
    if group:
        return {name: load()() for name, load in brands(group).items()}
    return {name: _loader(reference)()() for name, reference in table.items()}


def forges() -> dict[str, Forge]:
    """Every forge brand by name."""
    return make(FORGES, "fraisier.forges")


def find_forge() -> FindForge:
    """Tells from a delivery's headers which brand sent it."""
    from fraisier.git.detect import find_forge as find

    return find


def load(
    path: str | None, *, environ: Mapping[str, str] | None = None, labels: tuple[str, ...] = ()
) -> Configuration:
    """The checked configuration from `path`, or from where it is usually found.

    `labels` are this machine's, instead of those of the file.

    Raises:
        UsageError: there is none, or it cannot be used (InvalidConfig).
    """
    from fraisier.config.load import load_configuration
    from fraisier.config.locate import find_config

    environ = os.environ if environ is None else environ
    return load_configuration(find_config(path), environ=environ, labels=labels)


def open_store(configuration: Configuration, *, readonly: bool = False) -> Store:
    """The store that `database.url` names.

    Raises:
        StoreUnavailable: it cannot be opened.
        UsageError: no store of this version fits the URL.
    """
    store: Store = _opener(STORES, configuration)(configuration.settings, readonly=readonly)
    return store


def open_database(configuration: Configuration) -> Database:
    """What `database.url` names, as a whole, for `fraisier db`; opening it changes nothing.

    Raises:
        UsageError: no database of this version fits the URL.
    """
    database: Database = _opener(DATABASES, configuration)(configuration.settings)
    return database


def _opener(table: Mapping[str, str], configuration: Configuration) -> Callable[..., Any]:
    """The row of `table` for the scheme of `database.url`."""
    scheme = configuration.settings.database_url.partition(":")[0]
    if scheme not in table:
        message = f"cannot open {scheme} databases with this version"
        raise UsageError(message, f"Use one of {', '.join(f'{name}://' for name in table)}")
    try:
        opener: Callable[..., Any] = _loader(table[scheme])()
    except ImportError as error:
        message = f"cannot use {scheme} databases: {error}"
        raise UsageError(message, how_to_install("postgres")) from error
    return opener


def _loader(reference: str) -> Callable[[], Any]:
    module, _, name = reference.partition(":")
    return lambda: getattr(import_module(module), name)


def _silent(event: str, fields: Mapping[str, Any]) -> None:
    """The listener of someone who does not listen."""


def log_in(configuration: Configuration, name: str, user: str) -> Host:
    """A host as somebody else than usual, to set it up."""
    from dataclasses import replace

    from fraisier.application.settings import HostOptions

    options = configuration.settings.hosts.get(name, HostOptions())
    made: Host = _loader(HOSTS["ssh"])()(name, replace(options, user=user))
    return made


@dataclass
class Fraisier:
    """Everything put together for one process. `configuration` may be replaced (SIGHUP)."""

    configuration: Configuration
    store: Store
    listener: Listener

    @cached_property
    def tools(self) -> Tools:
        """The brands that deployments are performed with."""
        from fraisier.application.backup_tools import BackupBrands
        from fraisier.application.tools import Tools
        from fraisier.git.repository import Mirrors
        from fraisier.hosts.by_name import Hosts
        from fraisier.hosts.processes import LocalProcesses

        hosts = Hosts(
            lambda: self.configuration.settings.hosts,
            here=_loader(HOSTS["local"]),
            elsewhere=_loader(HOSTS["ssh"]),
        )
        mirrors = os.path.join(self.configuration.settings.state_folder, "mirrors")  # noqa: PTH118
        return Tools(
            hosts=hosts,
            targets=make(TARGETS, "fraisier.targets"),
            probers=make(PROBERS),
            migrations=make(MIGRATIONS, "fraisier.migrations"),
            proxies=make(PROXIES, "fraisier.proxies"),
            dumpers=make(DUMPERS),
            backups=BackupBrands(
                sources=make(SOURCES, "fraisier.sources"),
                places=make(DESTINATIONS, "fraisier.destinations"),
                ciphers=make(CIPHERS),
            ),
            repository=Mirrors(mirrors, LocalProcesses()),
            clock=SystemClock(),
            labels=self.configuration.settings.labels,
        )

    @property
    def clock(self) -> Clock:
        """The machine's clocks."""
        return self.tools.clock

    @property
    def codec(self) -> EnvironmentCodec:
        """Turns environments into text for the journal and back."""
        from fraisier.config.codec import Codec

        return Codec(os.environ, self.configuration)

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

    # ------------------------------------------------------------------------------------- verbs
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

        return VerifyEnvironments(self.configuration.environments, self.tools, self.store)(keys)

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


def assemble(
    configuration: Configuration, *, store: Store | None = None, listener: Listener | None = None
) -> Fraisier:
    """Fraisier, put together for `configuration`."""
    return Fraisier(configuration, store or open_store(configuration), listener or _silent)
