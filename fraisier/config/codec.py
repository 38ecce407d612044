"""An environment as JSON and back: secrets as references, which are resolved again when it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from enum import Enum
from typing import Any

from fraisier.application.settings import Configuration
from fraisier.config import job_codec
from fraisier.config.reading import Unresolvable, names, resolve
from fraisier.domain.errors import UsageError
from fraisier.domain.fraise import (
    BuildCommand,
    BuildOn,
    Cutover,
    Database,
    Environment,
    FraiseType,
    HealthCheck,
    OnForcePush,
    ProxySpec,
    Source,
    TargetSpec,
)
from fraisier.domain.job import OnRunning
from fraisier.domain.migration import OnIrreversible, Reversible
from fraisier.domain.rollout import Rollout
from fraisier.domain.secret import Secret
from fraisier.domain.window import Window

_REFERENCE = "$secret"
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:([^/\s@]+)@")
_SCHEME_AND_TOKEN = 2  # words of "Bearer …" and its like


def plain(value: Any) -> Any:
    """JSON types only; a secret becomes {"$secret": reference}."""
    if isinstance(value, Secret):
        return {_REFERENCE: value.reference}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def document(environment: Environment) -> dict[str, Any]:
    """For publishing: the checked configuration, secrets as the references that the file has."""
    shown: dict[str, Any] = _unwrapped(plain(environment))
    return shown


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            value[_REFERENCE]
            if _REFERENCE in value
            else {key: _unwrapped(each) for key, each in value.items()}
        )
    return [_unwrapped(each) for each in value] if isinstance(value, list) else value


def canonical(value: Any) -> str:
    """One spelling of a value, for digests."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Codec:
    """Fills `EnvironmentCodec`. References are resolved from `environ` and from the configuration."""

    def __init__(self, environ: Mapping[str, str], configuration: Configuration) -> None:
        self._environ = environ
        everything = (each for found in configuration.environments.values() for each in secrets_in(found))
        self._known = known_secrets(configuration) | proxy_passwords(environ)
        self._written = {secret.reference: secret for secret in everything}

    def dump(self, environment: Environment) -> str:
        """The environment as JSON, without secrets."""
        return canonical(environment)

    def load(self, text: str) -> Environment:
        """What `dump` wrote. Fields that this version does not know are left aside.

        Raises:
            UsageError: it is none, or a reference can no longer be resolved.
        """
        return self._load(text, self._secret)

    def load_place(self, text: str) -> Environment:
        """The same with empty secrets: they may be gone from where they are resolved.

        Raises:
            UsageError: it is none.
        """
        return self._load(text, lambda reference: Secret("", reference))

    def _load(self, text: str, secret: Callable[[str], Secret]) -> Environment:
        try:
            return _environment(_resolved(json.loads(text), secret))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"cannot read a stored environment: {type(error).__name__}"
            raise UsageError(
                message, "It was written by another version of Fraisier; request a new deployment"
            ) from error

    def secrets(self, environment: Environment, env_file: bytes | None = None) -> Sequence[str]:
        """Every value that must never be written: of the whole configuration, and of the env_file's content.

        Also other environments' and the webhooks' secrets: a build that runs as Fraisier's own user can read
        and print them.
        """
        found = {spelling for secret in secrets_in(environment) for spelling in with_parts(secret.reveal())}
        found |= self._known
        if env_file:
            from fraisier.config.env_file import secrets_of_file  # not needed for reading a configuration

            found |= {part for value in secrets_of_file(env_file) for part in with_parts(value)}
        return sorted(found)

    def _secret(self, reference: str) -> Secret:
        hint = "Set it where Fraisier is started, or request a new deployment"
        if names(reference):
            try:
                return Secret(resolve(reference, self._environ), reference)
            except Unresolvable as error:
                raise UsageError(f"cannot resolve a secret of a stored environment: {error}", hint) from None
        if reference not in self._written:
            place = reference.removeprefix("config:")
            message = (
                f"cannot resolve a secret of a stored environment: the configuration has no {place} any more"
            )
            raise UsageError(message, "Request a new deployment")
        return self._written[reference]


def _resolved(value: Any, secret: Callable[[str], Secret]) -> Any:
    if isinstance(value, list):
        return [_resolved(each, secret) for each in value]
    if not isinstance(value, dict):
        return value
    if _REFERENCE in value:
        return secret(value[_REFERENCE])
    return {key: _resolved(each, secret) for key, each in value.items()}


def secrets_in(environment: Environment) -> Iterator[Secret]:
    """The secrets that an environment carries."""
    health, database, backup = environment.health_check, environment.database, environment.backup
    values = (
        environment.source.token,
        database.url if database else None,
        *environment.env.values(),
        *(health.headers.values() if health else ()),
        *(source.url for source in (backup.sources if backup else ())),
        *(value for place in (backup.destinations if backup else ()) for value in place.options.values()),
    )
    return (value for value in values if isinstance(value, Secret))


def with_parts(secret: str) -> set[str]:
    """A secret, and what is secret in it by itself: a URL's password, the token after "Bearer"."""
    found = {secret}
    if match := _PASSWORD_IN_URL.match(secret):
        from urllib.parse import unquote  # slow to import; every command loads a configuration

        found |= {match[1], unquote(match[1])}
    words = secret.split(" ")
    if len(words) == _SCHEME_AND_TOKEN:
        found.add(words[1])
    return found


def known_secrets(configuration: Configuration) -> set[str]:
    """Every secret of a configuration, for logs: webhook secrets, tokens, variables."""
    settings = configuration.settings
    raw = [secret for forge in settings.forges for secret in forge.secrets]
    raw += [secret for secrets in settings.fraise_secrets.values() for secret in secrets]
    found = {secret.decode("utf-8", "surrogateescape") for secret in raw}
    if settings.database_password is not None:
        found.add(settings.database_password.reveal())
    for environment in configuration.environments.values():
        found |= {spelling for secret in secrets_in(environment) for spelling in with_parts(secret.reveal())}
    return found


def proxy_passwords(environ: Mapping[str, str]) -> set[str]:
    """Passwords in the proxy variables, which git is given and may repeat in its errors."""
    proxies = (value for name, value in environ.items() if name.lower().endswith("_proxy"))
    return {part for proxy in proxies if _PASSWORD_IN_URL.match(proxy) for part in with_parts(proxy)}


def _environment(data: dict[str, Any]) -> Environment:
    data = dict(data)
    data["type"] = FraiseType(data["type"])
    data["on_force_push"] = OnForcePush(data["on_force_push"])
    data["build_on"] = BuildOn(data.get("build_on", "each"))
    data["cutover"] = Cutover(data.get("cutover", "restart"))
    data["proxy"] = _make(ProxySpec, data.get("proxy"))
    data["rollout"] = _make(Rollout, data.get("rollout", {}))
    data["source"] = _make(Source, data["source"])
    data["target"] = _make(TargetSpec, data.get("target"))
    data["database"] = _database(data.get("database"))
    data["health_check"] = _make(HealthCheck, data.get("health_check"))
    data["build"] = tuple(_make(BuildCommand, each) for each in data.get("build", ()))
    data["smoke"] = _make(BuildCommand, data.get("smoke"))
    data["on_running"] = OnRunning(data.get("on_running", "wait"))
    data["jobs"] = job_codec.jobs_from(data.get("jobs", {}), _make)
    data["backup"] = job_codec.backup_from(data.get("backup"), _make)
    data["allowed"] = tuple(_make(Window, each) for each in data.get("allowed", ()))
    found: Environment = _make(Environment, data)
    return found


def _database(data: dict[str, Any] | None) -> Database | None:
    if data is None:
        return None
    found: Database = _make(Database, data)
    return replace(
        found, reversible=Reversible(found.reversible), on_irreversible=OnIrreversible(found.on_irreversible)
    )


def _make(cls: Any, data: dict[str, Any] | None) -> Any:
    if data is None:
        return None
    known = {field.name for field in fields(cls)}
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key in known
    }
    return cls(**values)
