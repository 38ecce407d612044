"""What a project's folder tells: where it is pushed to, how it is built, migrated and run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

Ask = Callable[[Sequence[str]], str]  # runs a command, returns what it printed; '' where it failed

_SCP_LIKE = re.compile(r"(?:[^@/\s]+@)?(?P<host>[^/:\s]+):(?P<path>[^\s]+)\Z")
_NO_NAME = re.compile(r"[^a-z0-9_.-]+")
_PORT = re.compile(
    r"(?:--port[ =]|--bind[ =]\S*:|-b[ =]?\S*:|PORT=|127\.0\.0\.1:|0\.0\.0\.0:|EXPOSE )(\d{2,5})\b"
)
_PUBLIC = {
    "github.com": "github",
    "gitlab.com": "gitlab",
    "bitbucket.org": "bitbucket",
    "codeberg.org": "gitea",
}
_KINDS = {"gitlab": "gitlab", "gitea": "gitea", "forgejo": "gitea", "gogs": "gitea", "codeberg": "gitea"}
# As docker compose looks for them: https://docs.docker.com/compose/intro/compose-application-model/
_COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_PUBLISHED = re.compile(r"(?:^\s*-|\[)\s*[\"']?(?:[0-9.]+:)?(\d{2,5}):\d+", re.MULTILINE)
_UNIT_FOLDERS = (
    ".",
    "deploy",
    "deployment",
    "systemd",
    "contrib",
    "ops",
    "etc",
    "packaging",
    "config",
    "infra",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where the project is pushed to. `base_url` '' = the forge's public service."""

    forge: str
    repository: str
    clone_url: str = ""
    base_url: str = ""
    known: bool = True  # whether the forge is more than a guess


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd service that lies in the repository."""

    name: str
    path: str
    user: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything that was found, each '' or empty where nothing was."""

    folder: str
    name: str
    branch: str
    remote: Remote
    build: tuple[str, ...] = ()
    framework: str = ""  # what migrates; `command` where that is the line `migrate`
    migrate: str = ""
    unit: Unit | None = None
    port: int = 0
    shared: tuple[str, ...] = ()
    compose: str = ""  # the compose file, where nothing but containers is built here


def look_around(folder: Path, ask: Ask) -> Surroundings:
    """Look at a project's folder; `ask` runs git."""
    folder = folder.resolve()
    git = ("git", "-c", "safe.directory=*", "-C", str(folder))
    url = ask((*git, "remote", "get-url", "origin")) or _first_remote(git, ask)
    name = _name(url or folder.name)
    unit = next(_units(folder), None)
    compose = "" if unit or next(_natively(folder), "") else _compose(folder)
    return Surroundings(
        folder=str(folder),
        name=name,
        branch=ask((*git, "symbolic-ref", "--short", "HEAD")) or "main",
        remote=remote_of(url, name),
        build=() if compose else tuple(_build(folder, name)),
        framework=_framework(folder),
        migrate="bin/rails db:migrate" if _framework(folder) == "command" else "",
        unit=unit,
        port=_published(_text(folder / compose))
        if compose
        else (unit.port if unit else 0) or _port(_text(folder / "Dockerfile")),
        compose=compose,
        shared=tuple(_shared(folder)),
    )


def _first_remote(git: Sequence[str], ask: Ask) -> str:
    names = ask((*git, "remote")).splitlines()
    return ask((*git, "remote", "get-url", names[0])) if names else ""


def _name(text: str) -> str:
    last = re.split(r"[/:]", text.rstrip("/"))[-1].removesuffix(".git").lower()
    return _NO_NAME.sub("-", last).strip("-._")[:63] or "app"


def remote_of(url: str, name: str) -> Remote:
    """Which forge and repository a clone URL means; credentials in it are left out."""
    if not url:
        return Remote(forge="github", repository=f"OWNER/{name}", known=False)
    if url.startswith(("/", "file://")):
        path = url.removeprefix("file://")
        return Remote(forge="github", repository=_repository(path, last=2), clone_url=path, known=False)
    scp = _SCP_LIKE.match(url) if "://" not in url else None
    parts = urlsplit(url)
    host = (scp["host"] if scp else parts.hostname or "").lower()
    path = scp["path"] if scp else parts.path
    forge, known = _forge(host, path, parts.port)
    return Remote(
        forge=forge,
        repository=_repository(path),
        clone_url=url if scp else _without_credentials(url),
        base_url="" if host in _PUBLIC else f"https://{_authority(host, parts.port, parts.scheme)}",
        known=known,
    )


def _forge(host: str, path: str, port: int | None) -> tuple[str, bool]:
    if host in _PUBLIC:
        return _PUBLIC[host], True
    if "/scm/" in path or port == 7999 or host.startswith(("bitbucket.", "stash.")):
        return "bitbucket_server", True
    for word, kind in _KINDS.items():
        if word in host:
            return kind, True
    return "github", "github" in host


def _authority(host: str, port: int | None, scheme: str) -> str:
    return f"{host}:{port}" if port and scheme == "https" else host


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    keep = f"{user.partition(':')[0]}@" if user and parts.scheme == "ssh" else ""
    return parts._replace(netloc=keep + place).geturl()


def _repository(path: str, *, last: int = 0) -> str:
    parts = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part]
    if parts and parts[0] == "scm":
        parts = parts[1:]
    return "/".join(re.sub(r"[^A-Za-z0-9_.~-]", "-", part) for part in parts[-last:])


# -- how it is built; the first lock file of a language decides


def _build(folder: Path, name: str) -> Iterator[str]:
    lines = list(_natively(folder))
    if not lines and (folder / "Dockerfile").exists():
        lines = [f'docker build -t {name}:"$FRAISIER_COMMIT" .']
    yield from lines


def _natively(folder: Path) -> Iterator[str]:
    yield from (*_python(folder), *_javascript(folder), *_others(folder))


def _compose(folder: Path) -> str:
    return next((name for name in _COMPOSE_FILES if (folder / name).is_file()), "")


def _python(folder: Path) -> list[str]:
    def has(name: str) -> bool:
        return (folder / name).exists()

    if has("uv.lock"):
        return ["uv sync --frozen --no-dev"]
    if has("poetry.lock"):
        return ["POETRY_VIRTUALENVS_IN_PROJECT=1 poetry install --only main --no-interaction"]
    if has("Pipfile.lock"):
        return ["PIPENV_VENV_IN_PROJECT=1 pipenv sync"]
    if has("requirements.txt"):
        return ["python3 -m venv .venv", ".venv/bin/pip install -r requirements.txt"]
    if "[project]" in _text(folder / "pyproject.toml") or has("setup.py"):
        return ["python3 -m venv .venv", ".venv/bin/pip install ."]
    return []


def _javascript(folder: Path) -> list[str]:
    if not (folder / "package.json").exists():
        return []
    installs = {
        "pnpm-lock.yaml": ("pnpm install --frozen-lockfile", "pnpm run build"),
        "yarn.lock": ("yarn install --frozen-lockfile", "yarn run build"),
        "package-lock.json": ("npm ci", "npm run build"),
    }
    found = next((commands for lock, commands in installs.items() if (folder / lock).exists()), None)
    install, build = found or ("npm install", "npm run build")
    return [install, build] if _has_build_script(folder) else [install]


def _has_build_script(folder: Path) -> bool:
    try:
        package = json.loads(_text(folder / "package.json"))
    except ValueError:
        return False
    scripts = package.get("scripts") if isinstance(package, dict) else None
    return isinstance(scripts, dict) and "build" in scripts


def _others(folder: Path) -> Iterator[str]:
    if (folder / "go.mod").exists():
        yield "go build -o bin/ ./..."
    if (folder / "Cargo.toml").exists():
        yield "cargo build --release" + (" --locked" if (folder / "Cargo.lock").exists() else "")
    if (folder / "Gemfile").exists():
        yield "bundle config set --local path vendor/bundle"
        yield "bundle install"
    if (folder / "composer.json").exists():
        yield "composer install --no-dev --no-interaction"


def _framework(folder: Path) -> str:
    if (folder / "manage.py").exists():
        return "django"
    if (folder / "alembic.ini").exists():
        return "alembic"
    if next((folder / "db/migrations").glob("*.up.sql"), None) and "confiture" in _text(
        folder / "pyproject.toml"
    ):
        return "confiture"
    if (folder / "bin/rails").exists() and (folder / "db/migrate").is_dir():
        return "command"
    return ""


def _units(folder: Path) -> Iterator[Unit]:
    for place in _UNIT_FOLDERS:
        for path in sorted((folder / place).glob("*.service")):
            if "@" in path.name or not path.is_file():
                continue
            content = _text(path)
            user = re.search(r"^User=([A-Za-z_][A-Za-z0-9_.-]*)$", content, re.MULTILINE)
            relative = path.relative_to(folder).as_posix()
            yield Unit(name=path.name, path=relative, user=user[1] if user else "", port=_port(content))


def _port(text: str) -> int:
    found = _PORT.search(text)
    return int(found[1]) if found and 0 < int(found[1]) < 65536 else 0


def _published(text: str) -> int:
    """The first port that a compose file opens on the host."""
    found = _PUBLISHED.search(text)
    return int(found[1]) if found and 0 < int(found[1]) < 65536 else 0


def _shared(folder: Path) -> Iterator[str]:
    if (folder / ".env").exists() or (folder / ".env.example").exists():
        yield ".env"
    for name in ("uploads", "media"):
        if (folder / name).is_dir():
            yield f"{name}/"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:100_000]
    except OSError:
        return ""
