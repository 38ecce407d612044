"""Chooses the adapters: read this to see what Fraisier is made of.

Each table has one row per brand. Third parties add rows by entry points of the groups named here; a row
of theirs never replaces one of ours. Adapters are imported when they are first needed, so that a command
that only reads starts fast.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fraisier.application.plugins import plugins
from fraisier.application.verbs import Verbs
from fraisier.domain.errors import UsageError
from fraisier.domain.extras import how_to_install

if TYPE_CHECKING:
    from fraisier.application.ports import (
        Configuration,
        Database,
        EnvironmentCodec,
        Forge,
        Host,
        Listener,
        Store,
    )
    from fraisier.application.receive_push import FindForge
    from fraisier.application.tools import Tools

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
    found: dict[str, Callable[[], Any]] = {name: point.load for name, point in plugins(group).items()}
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
class Fraisier(Verbs):
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
    def codec(self) -> EnvironmentCodec:
        """Turns environments into text for the journal and back."""
        from fraisier.config.codec import Codec

        return Codec(os.environ, self.configuration)


def assemble(
    configuration: Configuration, *, store: Store | None = None, listener: Listener | None = None
) -> Fraisier:
    """Fraisier, put together for `configuration`."""
    return Fraisier(configuration, store or open_store(configuration), listener or _silent)
