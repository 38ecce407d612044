"""A deployable service and the places where it runs, as checked and complete data.

`config/` reads `fraises.yaml` into these; nothing inside the house sees an unchecked value or a missing
default. Times are seconds, sizes are bytes, paths are absolute where they name something on a host and
relative where they name something in a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from fraisier.domain.backup import BackupSpec
from fraisier.domain.job import Job, OnRunning
from fraisier.domain.migration import OnIrreversible, Reversible
from fraisier.domain.push import Change, RefKind
from fraisier.domain.rollout import Rollout
from fraisier.domain.secret import Secret
from fraisier.domain.window import Window


class FraiseType(StrEnum):
    """What kind of service a fraise is."""

    api = "api"
    etl = "etl"
    scheduled = "scheduled"
    backup = "backup"


class OnForcePush(StrEnum):
    """What becomes of a push that is no descendant of what runs."""

    deploy = "deploy"
    refuse = "refuse"


class Cutover(StrEnum):
    """How the traffic comes from the old release to the new one."""

    restart = "restart"  # the unit is restarted: whoever comes meanwhile is refused
    socket = "socket"  # systemd holds the listening socket: whoever comes meanwhile waits
    blue_green = "blue_green"  # the new release starts beside the old one, then the traffic moves
    trial = "trial"  # nothing serves: a release is tried in its own folder, then switched to (all but `api`)


class BuildOn(StrEnum):
    """Where a release is built: on each host, on the first one and copied, or where Fraisier runs."""

    each = "each"
    first = "first"
    here = "here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a fraise's commits come from. The URL holds no password; credentials stand beside it.

    `key` is the path of a private SSH key, `known_hosts` of a file with the forge's host keys, `ca_file`
    of a certificate bundle.
    """

    forge: str
    repository: str
    clone_url: str
    key: str = ""
    known_hosts: str = ""
    token: Secret | None = None
    token_user: str = "git"
    ca_file: str = ""
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """When a new release counts as healthy: `passes` passes in a row within `timeout` seconds.

    Exactly one of `url`, `tcp` ("host:port") and `command` (a shell line) is set. `at` is where the release
    in question listens, if that is a place of its own: the path of a unix socket, or host:port. It stands
    instead of the host and port of `url`, and of `tcp`.
    """

    url: str = ""
    tcp: str = ""
    command: str = ""
    expect_status: tuple[int, ...] = ()  # none: any 2xx
    expect_body: str = ""  # a text that the body must contain
    expect_headers: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str | Secret] = field(default_factory=dict)
    interval: float = 1.0
    request_timeout: float = 5.0
    timeout: float = 30.0
    passes: int = 2
    at: str = ""

    @property
    def kind(self) -> str:
        """The check's brand: http, tcp or command."""
        return "http" if self.url else "tcp" if self.tcp else "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """How the database of an environment is migrated and backed up: a framework's name and its settings.

    `url` is where the database is (a secret where it has a password). `lock` names it among all databases;
    '' = as `url` says, or `name`. `config` is the framework's own file in the release, `python` and `command`
    are how the framework is called there. `up`, `down`, `current` and `pending` are the shell lines of
    `framework: command`. What keys a framework of a third party has besides is in `options`.
    """

    framework: str = "command"
    name: str = ""
    url: str | Secret = ""
    lock: str = ""
    lock_timeout: float = 600.0
    config: str = ""
    folder: str = ""
    python: str = ""
    command: str = ""
    up: str = ""
    down: str = ""
    current: str = ""
    pending: str = ""
    timeout: float = 1800.0
    reversible: Reversible = Reversible.auto
    on_irreversible: OnIrreversible = OnIrreversible.proceed
    backup_before_deploy: bool = False
    backup_command: str = ""
    backup_folder: str = ""  # '' = <app_path>/backups
    backup_timeout: float = 3600.0
    keep_backups: int = 3
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def migrates(self) -> bool:
        """Whether there is anything that migrates it."""
        return self.framework != "command" or bool(self.up)

    def identity(self, key: EnvironmentKey) -> str:
        """What this database is called among all databases: `lock`, else its URL without user and password,
        else `name`, else the environment's own name.
        """
        text = self.url.reveal() if isinstance(self.url, Secret) else self.url
        return self.lock or (_place_of(text) if text else "") or self.name or str(key)

    @property
    def may_back_up(self) -> bool:
        """Whether a deployment may have to make a backup."""
        return self.backup_before_deploy or self.on_irreversible is OnIrreversible.backup


def _place_of(url: str) -> str:
    """A database's URL without user, password and parameters: the same text however it is spelt."""
    from urllib.parse import parse_qs, unquote, urlsplit  # slow to import, and only who deploys needs it

    parts = urlsplit(url)
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite":
        return "sqlite:///" + parts.path.lstrip("/")
    told = parse_qs(parts.query)
    host = unquote(parts.hostname or "") or told.get("host", ["localhost"])[0]
    port = parts.port or told.get("port", ["5432" if kind.startswith("postgres") else ""])[0]
    kind = "postgresql" if kind == "postgres" else kind
    return f"{kind}://{host}{':' if port else ''}{port}/{unquote(parts.path.lstrip('/'))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCommand:
    """One shell line of a build and the seconds it may take."""

    run: str
    timeout: float = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """What runs the release: a brand ("systemd", "supervisord", …), the unit's name, and its settings."""

    kind: str
    unit: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySpec:
    """The proxy that is told where traffic goes: a brand ("haproxy", "caddy", …) and its settings."""

    kind: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One place where a fraise runs."""

    fraise: str
    name: str
    type: FraiseType
    source: Source
    branch: str = ""
    tag: str = ""  # a pattern, e.g. v*; exactly one of branch and tag is set
    hosts: tuple[str, ...] = ("localhost",)
    rollout: Rollout = field(default_factory=Rollout)  # in which order several hosts get a release
    labels: tuple[str, ...] = ()  # those that a worker needs: see `domain.labels`
    app_path: str = ""
    root: str = ""  # the folder of the repository that is deployed; '' = all of it
    paths: tuple[str, ...] = ()  # patterns; a push that touches none of them deploys nothing
    user: str = ""  # '' = whoever Fraisier runs as
    target: TargetSpec | None = None
    unit_file: str = ""
    run: str = ""  # the command that serves; the unit is written from it
    listen: tuple[str, ...] = ()  # paths of unix sockets ('%i': the release), or [host:]ports
    cutover: Cutover = Cutover.restart
    drain_timeout: float = 30.0
    bake: float = 0.0
    proxy: ProxySpec | None = None  # None: it dials `Layout.link`, or a fixed address
    build: tuple[BuildCommand, ...] = ()
    build_on: BuildOn = BuildOn.each
    env: Mapping[str, str | Secret] = field(default_factory=dict)
    env_file: str = ""
    shared: tuple[str, ...] = ()  # 'uploads/' is a folder, '.env' a file
    submodules: bool = False
    lfs: bool = False
    database: Database | None = None
    health_check: HealthCheck | None = None
    keep_releases: int = 5
    on_force_push: OnForcePush = OnForcePush.deploy
    retry_for: float = 900.0
    min_free_disk: int = 200 * 1024 * 1024
    restart_timeout: float = 90.0
    allowed: tuple[Window, ...] = ()  # when deployments begin by themselves; none: always
    jobs: Mapping[str, Job] = field(default_factory=dict)
    smoke: BuildCommand | None = (
        None  # tries a new release of an `etl` or `scheduled` fraise before the switch
    )
    run_on_deploy: bool = False
    on_running: OnRunning = OnRunning.wait
    log_file: str = ""  # where runs that systemd starts write; '' = its journal
    backup: BackupSpec | None = None  # what a `backup` fraise keeps copies of

    @property
    def key(self) -> EnvironmentKey:
        """The environment's name in the whole installation."""
        return EnvironmentKey(self.fraise, self.name)

    def on(self, host: str) -> Environment:
        """The same on one of its hosts."""
        return self if self.hosts == (host,) else replace(self, hosts=(host,))

    @property
    def deploys(self) -> bool:
        """Whether there are releases: a backup may do without."""
        return bool(self.source.clone_url)

    @property
    def ref_kind(self) -> RefKind:
        """Whether the environment follows a branch or tags."""
        return RefKind.branch if self.branch else RefKind.tag

    @property
    def is_blue_green(self) -> bool:
        """Whether a release runs as an instance of its own."""
        return self.cutover is Cutover.blue_green

    def follows(self, change: Change) -> bool:
        """Whether a moved ref is the one that this environment follows."""
        if change.kind is not self.ref_kind:
            return False
        return change.name == self.branch if self.branch else fnmatchcase(change.name, self.tag)


@dataclass(frozen=True, slots=True, order=True)
class EnvironmentKey:
    """Fraise and environment, by name."""

    fraise: str
    environment: str

    def __str__(self) -> str:
        return f"{self.fraise}/{self.environment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraise:
    """A deployable service."""

    name: str
    type: FraiseType
    source: Source
    description: str = ""
    environments: Mapping[str, Environment] = field(default_factory=dict)
