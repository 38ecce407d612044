"""A checked `fraises.yaml` as data. Apart from `ports/`, so that a command that only reads it is fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fraisier.domain.fraise import Environment, EnvironmentKey, Fraise
    from fraisier.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgeInstance:
    """One configured forge: `git.<name>` of the configuration.

    `name` is the configuration's name ("github", "work-gitlab"), `kind` the brand. `secrets` are tried
    in turn; none at all refuses everything. Fraises' own secrets are added by the receiver.
    """

    name: str
    kind: str
    base_url: str = ""
    secrets: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How a host is reached over SSH. What is '' or 0 is left to the ssh configuration."""

    address: str = ""
    port: int = 0
    user: str = ""
    identity_file: str = ""
    known_hosts: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this installation works, besides its fraises. Times in seconds, sizes in bytes."""

    database_url: str  # without its password
    state_folder: str
    database_password: Secret | None = None
    forges: tuple[ForgeInstance, ...] = ()
    default_forge: str = ""
    fraise_secrets: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict, repr=False)  # by fraise
    hosts: Mapping[str, HostOptions] = field(default_factory=dict)  # by name
    host: str = "127.0.0.1"
    port: int = 8080
    trusted_proxies: tuple[str, ...] = ()
    max_body: int = 25 * 1024 * 1024
    max_in_flight: int = 64 * 1024 * 1024
    body_timeout: float = 10.0
    failed_auth_limit: str = "20/minute"
    labels: tuple[str, ...] = ()  # of this process's worker
    concurrency: int = 8
    run_concurrency: int = 8
    lease: float = 10.0
    shutdown_grace: float = 30.0
    retention: float = 30 * 86400.0
    sweep_interval: float = 120.0  # 0: never
    log_format: str = "auto"  # auto, json, console
    log_level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A whole `fraises.yaml`, checked.

    `digest` changes with everything that a deployment could notice. `routes` is the older way to route:
    branch -> environments, instead of those environments' own `branch`.
    """

    path: str
    digest: str
    settings: Settings
    fraises: Mapping[str, Fraise]
    environments: Mapping[EnvironmentKey, Environment]
    routes: Mapping[str, tuple[EnvironmentKey, ...]] = field(default_factory=dict)
    # For publishing: no secrets.
    documents: Mapping[EnvironmentKey, Mapping[str, Any]] = field(default_factory=dict)
