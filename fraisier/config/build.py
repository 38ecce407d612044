"""The sections of a file that has no problems, as the domain's data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fraisier.application.settings import ForgeInstance, Settings
from fraisier.config import backups, checks, cutover, hosts, jobs, rollout, sources, texts
from fraisier.config.keys import LOGGING, SERVER, WORKER
from fraisier.config.sections import Parsed, Section
from fraisier.domain.fraise import (
    BuildCommand,
    BuildOn,
    Cutover,
    Database,
    Environment,
    EnvironmentKey,
    Fraise,
    FraiseType,
    HealthCheck,
    OnForcePush,
    TargetSpec,
)
from fraisier.domain.job import OnRunning
from fraisier.domain.migration import OnIrreversible, Reversible
from fraisier.domain.secret import Secret


def settings(root: Parsed) -> Settings:
    """How the installation works."""
    forges = sources.forges_of(root)
    server, worker, logging = (_or_defaults(root, *each) for each in _SECTIONS)
    return Settings(
        database_url=checks.database_url(root),
        database_password=checks.database_password(root),
        state_folder=checks.state_folder(root),
        forges=tuple(_forge(forge) for forge in forges.values()),
        default_forge=sources.default_forge(root, forges),
        fraise_secrets={
            name: _bytes(fraise["webhook_secret"])
            for name, fraise in root["fraises"].items()
            if fraise["webhook_secret"]
        },
        hosts=hosts.options_of(root),
        retention=root["retention"],
        sweep_interval=root["sweep_interval"],
        log_format=logging["format"],
        log_level=logging["level"],
        **{key: server[key] for key in SERVER.keys},
        **{key: worker[key] for key in WORKER.keys},
    )


_SECTIONS = (("server", SERVER), ("worker", WORKER), ("logging", LOGGING))


def _or_defaults(root: Parsed, name: str, section: Section) -> Parsed:
    return root[name] or Parsed(section, root.node, {})


def _forge(forge: sources.ForgeKeys) -> ForgeInstance:
    secrets = (*(forge["webhook_secret"] or ()), *(forge["secret_token"] or ()))
    base_url = (forge["base_url"] or "").rstrip("/")
    return ForgeInstance(name=forge.name, kind=forge.kind, base_url=base_url, secrets=_bytes(secrets))


def _bytes(secrets: tuple[Secret, ...]) -> tuple[bytes, ...]:
    return tuple(secret.reveal().encode("utf-8", "surrogateescape") for secret in secrets)


def fraises(root: Parsed, *, systemd: bool | None = None) -> dict[str, Fraise]:
    """Every fraise with its environments. `systemd`: as `jobs_of`."""
    forges = sources.forges_of(root)
    default = sources.default_forge(root, forges)
    mapped = checks.mapped_branches(root)
    found = {}
    for name, parsed in root["fraises"].items():
        source = sources.source_of(parsed, forges.get(parsed["git_provider"] or default))
        kind = FraiseType(parsed["type"])
        fraise = Fraise(name=name, type=kind, source=source, description=parsed["description"] or "")
        environments = {
            each: replace(
                environment(fraise, each, keys, mapped.get((name, each), ())),
                jobs=jobs.jobs_of(kind, keys, systemd=systemd),
            )
            for each, keys in parsed["environments"].items()
        }
        found[name] = Fraise(
            name=name, type=kind, source=source, description=fraise.description, environments=environments
        )
    return found


def routes(root: Parsed) -> dict[str, tuple[EnvironmentKey, ...]]:
    """branch_mapping."""
    return {
        branch: tuple(EnvironmentKey(target["fraise"], target["environment"]) for target in targets)
        for branch, targets in root["branch_mapping"].items()
    }


def environment(fraise: Fraise, name: str, keys: Parsed, mapped: tuple[str, ...]) -> Environment:
    """One environment. Branches that are mapped to it stand instead of its own `branch`."""
    branch = keys["branch"] or ""
    return Environment(
        fraise=fraise.name,
        name=name,
        type=fraise.type,
        source=fraise.source,
        branch=mapped[0] if mapped and branch not in mapped else branch,
        tag=keys["tag"] or "",
        app_path=texts.normal(keys["app_path"]),
        root=(keys["root"] or "").rstrip("/"),
        user=keys["user"] or "",
        hosts=hosts.hosts_of(keys),
        rollout=rollout.rollout_of(keys),
        target=_target(fraise.name, name, keys),
        unit_file=keys["unit_file"] or "",
        run=keys["run"] or "",
        listen=cutover.listen_of(keys),
        cutover=Cutover(keys["cutover"]) if fraise.type is FraiseType.api else Cutover.trial,
        proxy=cutover.proxy_of(keys),
        build=tuple(_build(each, keys["build_timeout"]) for each in keys["build"]),
        env_file=keys["env_file"] or "",
        database=_database(keys["database"]),
        health_check=_health(keys["health_check"]),
        on_force_push=OnForcePush(keys["on_force_push"]),
        build_on=BuildOn(keys["build_on"]),
        log_file=texts.normal(keys["log_file"]) if keys["log_file"] else "",
        smoke=jobs.smoke_of(fraise.type, keys),
        backup=backups.backup_of(fraise.type, keys),
        on_running=OnRunning(keys["on_running"]),
        **{key: keys[key] for key in _AS_THEY_ARE},
    )


_AS_THEY_ARE = (
    *("labels", "paths", "env", "shared", "submodules", "lfs"),
    *("keep_releases", "retry_for", "min_free_disk", "restart_timeout", "drain_timeout", "bake"),
    *("allowed", "run_on_deploy"),
)


def _target(fraise: str, environment: str, keys: Parsed) -> TargetSpec | None:
    unit = checks.unit_of(fraise, environment, keys)
    if unit is None:
        return None
    kind, manager, name = unit
    options: dict[str, str] = {}
    if keys["compose_file"]:
        options = {"files": ":".join(keys["compose_file"])}
    elif keys["target"]:
        named = ("type", "unit")
        options = {key: value for key, value in keys["target"].values.items() if key not in named}
    elif manager:
        options = {"manager" if kind == "systemd" else "config": manager}
    if kind == "supervisord" and not hosts.is_only_here(keys):
        options.setdefault("supervisorctl", "supervisorctl")  # not the one beside this Fraisier
    return TargetSpec(kind=kind, unit=name, options=options)


def _build(parsed: Parsed, timeout: float) -> BuildCommand:
    return BuildCommand(run=parsed["run"], timeout=parsed["timeout"] or timeout)


def _database(parsed: Parsed | None) -> Database | None:
    """None where nothing is migrated or backed up: then what is told is for people."""
    if parsed is None:
        return None
    values = _given(parsed)
    values["reversible"] = Reversible(values["reversible"])
    values["on_irreversible"] = OnIrreversible(values["on_irreversible"])
    values["options"] = {key: each for key, each in parsed.values.items() if key not in parsed.section.keys}
    database = Database(**values)
    return database if database.migrates or database.backup_before_deploy else None


def _health(parsed: Parsed | None) -> HealthCheck | None:
    return HealthCheck(**_given(parsed)) if parsed else None


def _given(parsed: Parsed) -> dict[str, Any]:
    values = {key: parsed[key] for key in parsed.section.keys}
    return {key: "" if value is None else value for key, value in values.items()}
