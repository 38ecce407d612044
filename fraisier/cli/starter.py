"""The first `fraises.yaml` of a project, with a word about every line."""

from __future__ import annotations

import json
import re

from fraisier.cli.surroundings import Surroundings

SECRET = "FRAISIER_WEBHOOK_SECRET"
_PLAIN = re.compile(r"[A-Za-z/.][A-Za-z0-9_./@-]*(?::[A-Za-z0-9_./@-]+)*\Z")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "."})


def scalar(text: str) -> str:
    """`text` as a YAML scalar that is read back as just this text."""
    if _PLAIN.match(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def configuration_for(found: Surroundings) -> str:
    """A commented `fraises.yaml` for what was found."""
    lines = [
        "# What Fraisier deploys, and where. Written by `fraisier init`; change what does not fit.",
        f"# Check it: fraisier config validate. What it would do: fraisier plan {found.name} production.",
        "",
        *_git(found),
        "",
        "database:",
        "  # Fraisier's own state. Its folder belongs to the user that Fraisier runs as, and to nobody else.",
        "  url: sqlite:///var/lib/fraisier/fraisier.db",
        "",
        "fraises:",
        f"  {scalar(found.name)}:",
        "    type: api",
        *_source(found),
        "    environments:",
        "      production:",
        *(f"        {line}" if line else "" for line in _environment(found)),
    ]
    return "\n".join(lines) + "\n"


def _git(found: Surroundings) -> list[str]:
    remote = found.remote
    guess = "" if remote.known else "   # a guess: github, gitlab, gitea, bitbucket or bitbucket_server"
    base = [f"    base_url: {scalar(remote.base_url)}"] if remote.base_url else []
    return [
        "git:",
        f"  provider: {remote.forge}{guess}",
        f"  {remote.forge}:",
        *base,
        "    # Signs the webhooks; the forge gets the same one. To make one: openssl rand -hex 32",
        f'    webhook_secret: "${{{SECRET}}}"',
    ]


def _source(found: Surroundings) -> list[str]:
    remote = found.remote
    change = "" if remote.known else "   # as the forge's webhooks name it"
    lines = [f"    repository: {scalar(remote.repository)}{change}"]
    if remote.clone_url:
        lines.append(f"    clone_url: {scalar(remote.clone_url)}")
    if remote.clone_url.startswith(("http://", "https://")):
        lines.append(
            '    # clone_token: "${FRAISIER_CLONE_TOKEN}"          # where the repository is private'
        )
    elif not remote.clone_url.startswith("/"):
        lines.append(
            "    # clone_key: /var/lib/fraisier/keys/deploy        # where the repository is private"
        )
    return lines


def _environment(found: Surroundings) -> list[str]:
    user = found.unit.user if found.unit and found.unit.user not in ("", "root") else _user(found.name)
    return [
        f"branch: {scalar(found.branch)}",
        f"app_path: /var/www/{found.name}      # releases/, shared/ and current -> releases/… below it",
        f"# Who builds; can read nothing of Fraisier's: sudo useradd --system --create-home {user}",
        f"user: {scalar(user)}",
        *_unit(found),
        *_build(found),
        *_shared(found),
        *_database(found),
        *_health(found),
        "keep_releases: 5",
    ]


def _user(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "-", name)[:31] if name[0].isalpha() else f"app-{name}"[:31]


def _unit(found: Surroundings) -> list[str]:
    if found.compose:
        return [
            "# Fraisier's user has to be allowed to use docker: sudo usermod -aG docker fraisier",
            f"compose_file: {scalar(found.compose)}",
        ]
    if found.unit is None:
        return [
            "# The unit that is restarted; without one the files are switched and nothing is restarted.",
            f"# systemd_service: {found.name}.service",
            "# unit_file: deploy/…           # where the repository has the unit, it is installed from there",
        ]
    return [f"systemd_service: {scalar(found.unit.name)}", f"unit_file: {scalar(found.unit.path)}"]


def _build(found: Surroundings) -> list[str]:
    if found.compose:
        return []  # docker compose builds
    if not found.build:
        return ["# build: [make]                 # shell lines, run in the new release's folder"]
    return ["build:", *(f"  - {scalar(line)}" for line in found.build)]


def _shared(found: Surroundings) -> list[str]:
    if not found.shared:
        return [
            "# shared: [.env, uploads/]      # kept in shared/ and linked into each release",
        ]
    return [
        f"# Linked into each release; put the files into /var/www/{found.name}/shared first.",
        f"shared: [{', '.join(map(scalar, found.shared))}]",
    ]


def _database(found: Surroundings) -> list[str]:
    if not found.framework:
        return []
    if found.framework == "command":
        return [
            "database:",
            "  framework: command",
            f"  up: {scalar(found.migrate)}",
            "  # down: …                     # what takes it back on a rollback, where that is possible",
        ]
    return [
        "database:",
        f"  framework: {found.framework}",
        '  # url: "${DATABASE_URL}"       # migrations get it as DATABASE_URL, backups connect to it',
        "  # backup_before_deploy: true  # a verified dump before each migration",
    ]


def _health(found: Surroundings) -> list[str]:
    if not found.port:
        return ["# health_check: {url: http://127.0.0.1:8000/health, timeout: 30}"]
    return [
        f'# Better, where the service has one: {{url: "http://127.0.0.1:{found.port}/health", timeout: 30}}',
        f'health_check: {{tcp: "127.0.0.1:{found.port}", timeout: 30}}',
    ]
