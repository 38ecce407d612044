"""`fraisier init`: the first configuration fits the folder and passes its own check."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from fraisier.cli.main import main
from fraisier.cli.starter import SECRET, scalar
from fraisier.cli.surroundings import remote_of

ENV = {SECRET: "a-secret-long-enough-for-a-test"}


def project(folder: Path, files: Mapping[str, str], *, remote: str = "", branch: str = "main") -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    subprocess.run(["git", "init", "-q", "-b", branch, str(folder)], check=True)
    if remote:
        subprocess.run(["git", "-C", str(folder), "remote", "add", "origin", remote], check=True)
    return folder


def init(folder: Path, *args: str) -> Result:
    return CliRunner().invoke(main, ["init", str(folder), *args])


def production(folder: Path) -> dict[str, object]:
    """The only environment of the written file, after it passed its check."""
    result = CliRunner().invoke(
        main, ["--config", str(folder / "fraises.yaml"), "config", "validate"], env=ENV
    )
    assert result.exit_code == 0, result.stderr
    document = yaml.safe_load((folder / "fraises.yaml").read_text())
    (fraise,) = document["fraises"].values()
    environment: dict[str, object] = fraise["environments"]["production"]
    return environment


UV = {"pyproject.toml": "[project]\nname='x'\n", "uv.lock": ""}


@pytest.mark.parametrize(
    ("files", "build"),
    [
        ({}, None),
        (UV, ["uv sync --frozen --no-dev"]),
        ({"pyproject.toml": "[project]\nname='x'\n"}, ["python3 -m venv .venv", ".venv/bin/pip install ."]),
        (
            {"requirements.txt": "flask\n"},
            ["python3 -m venv .venv", ".venv/bin/pip install -r requirements.txt"],
        ),
        ({"package.json": "{}", "package-lock.json": "{}"}, ["npm ci"]),
        (
            {"package.json": '{"scripts": {"build": "vite build"}}', "pnpm-lock.yaml": ""},
            ["pnpm install --frozen-lockfile", "pnpm run build"],
        ),
        ({"package.json": "[not json", "yarn.lock": ""}, ["yarn install --frozen-lockfile"]),
        ({"go.mod": "module x\n"}, ["go build -o bin/ ./..."]),
        ({"Cargo.toml": "", "Cargo.lock": ""}, ["cargo build --release --locked"]),
        ({"Gemfile": ""}, ["bundle config set --local path vendor/bundle", "bundle install"]),
        ({"Dockerfile": "FROM scratch\n"}, ['docker build -t app:"$FRAISIER_COMMIT" .']),
    ],
)
def test_the_build_fits_what_the_folder_has(
    tmp_path: Path, files: dict[str, str], build: list[str] | None
) -> None:
    folder = project(tmp_path / "app", files)
    assert init(folder).exit_code == 0
    assert production(folder).get("build") == build


def test_everything_that_is_found_is_used(tmp_path: Path) -> None:
    files = {
        **UV,
        "alembic.ini": "",
        ".env.example": "",
        "deploy/orders.service": "[Service]\nUser=web\nExecStart=/x/bin/serve --port 8123\n",
        "deploy/worker@.service": "[Service]\n",
    }
    folder = project(tmp_path / "x", files, remote="git@gitlab.com:acme/shop/orders.git", branch="trunk")
    result = init(folder)
    assert result.exit_code == 0
    assert "openssl rand -hex 32" in result.stdout
    assert SECRET in result.stdout
    found = production(folder)
    assert found["branch"] == "trunk"
    assert found["user"] == "web"
    assert (found["systemd_service"], found["unit_file"]) == ("orders.service", "deploy/orders.service")
    assert found["health_check"] == {"tcp": "127.0.0.1:8123", "timeout": 30}
    assert found["shared"] == [".env"]
    assert found["database"] == {"framework": "alembic"}
    document = yaml.safe_load((folder / "fraises.yaml").read_text())
    assert document["git"]["provider"] == "gitlab"
    assert document["fraises"]["orders"]["repository"] == "acme/shop/orders"
    assert document["fraises"]["orders"]["clone_url"] == "git@gitlab.com:acme/shop/orders.git"


@pytest.mark.parametrize(
    ("url", "forge", "repository", "base"),
    [
        ("git@github.com:acme/orders.git", "github", "acme/orders", ""),
        ("https://github.com/acme/orders", "github", "acme/orders", ""),
        ("https://gitlab.example.com/a/b/c.git", "gitlab", "a/b/c", "https://gitlab.example.com"),
        ("ssh://git@codeberg.org/acme/orders.git", "gitea", "acme/orders", ""),
        ("https://forgejo.example.com:3000/a/b.git", "gitea", "a/b", "https://forgejo.example.com:3000"),
        ("git@bitbucket.org:acme/orders.git", "bitbucket", "acme/orders", ""),
        (
            "ssh://git@bb.example.com:7999/shop/api.git",
            "bitbucket_server",
            "shop/api",
            "https://bb.example.com",
        ),
        ("https://bb.example.com/scm/shop/api.git", "bitbucket_server", "shop/api", "https://bb.example.com"),
    ],
)
def test_a_remote_tells_forge_and_repository(url: str, forge: str, repository: str, base: str) -> None:
    remote = remote_of(url, "orders")
    assert (remote.forge, remote.repository, remote.base_url) == (forge, repository, base)
    assert remote.known


def test_credentials_of_a_remote_are_not_written(tmp_path: Path) -> None:
    folder = project(tmp_path / "app", {}, remote="https://ada:t0ken@github.com/acme/orders.git")
    init(folder)
    text = (folder / "fraises.yaml").read_text()
    assert "t0ken" not in text
    assert "clone_url: https://github.com/acme/orders.git" in text
    production(folder)


@pytest.mark.parametrize("remote", ["/srv/git/orders.git", "file:///srv/git/orders.git", ""])
def test_a_remote_that_tells_no_forge_still_makes_a_valid_file(tmp_path: Path, remote: str) -> None:
    folder = project(tmp_path / "My Project!", {}, remote=remote)
    result = init(folder)
    assert result.exit_code == 0
    assert "a guess" in (folder / "fraises.yaml").read_text()
    production(folder)


@pytest.mark.parametrize("branch", ["no", "1.0", "feature/x#1", "yes/no", "~"])
def test_odd_branches_survive_yaml(tmp_path: Path, branch: str) -> None:
    assert yaml.safe_load(f"branch: {scalar(branch)}  # comment") == {"branch": branch}


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    folder = project(tmp_path / "app", {"fraises.yaml": "mine"})
    result = init(folder)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert (folder / "fraises.yaml").read_text() == "mine"
    assert init(folder, "--force").exit_code == 0
    production(folder)


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "fraises.yaml").symlink_to("elsewhere.yaml")
    assert init(tmp_path).exit_code == 2
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_the_path_may_be_the_file(tmp_path: Path) -> None:
    folder = project(tmp_path / "app", {})
    assert init(folder / "ci.yaml").exit_code == 0
    assert (folder / "ci.yaml").exists()
    assert init(tmp_path / "nowhere" / "ci.yaml").exit_code == 2


def service_of(tmp_path: Path, environment: str) -> str:
    """What `init --service` prints for one environment."""
    path = tmp_path / "fraises.yaml"
    path.write_text(
        "git: {provider: github, github: {webhook_secret: '${" + SECRET + "}'}}\n"
        "database: {url: 'sqlite:///var/lib/fraisier/fraisier.db'}\n"
        "# ${NOT_A_VARIABLE}\n"
        f"fraises: {{orders: {{repository: a/b, environments: {{production: {environment}}}}}}}\n"
    )
    result = CliRunner().invoke(main, ["--config", str(path), "init", "--service"], env=ENV)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_the_service_is_made_for_the_units_of_the_configuration(tmp_path: Path) -> None:
    shown = service_of(
        tmp_path,
        "{branch: main, app_path: /var/www/orders, user: web, systemd_service: orders, unit_file: o.service}",
    )
    assert shown.count("# ---- ") == 4
    assert "User=fraisier" in shown
    assert f"--config {tmp_path.resolve()}/fraises.yaml serve" in shown
    assert 'var units = ["orders.service"];' in shown
    assert "reload-daemon" in shown
    assert "as powerful as root" in shown
    assert "install -d -o fraisier -g fraisier -m 0700 /var/lib/fraisier" in shown
    assert "-m 0755 /var/www/orders" in shown
    assert "useradd --system --create-home web" in shown
    assert shown.count(f"{SECRET}=$(openssl rand -hex 32)") == 1
    assert "NOT_A_VARIABLE" not in shown


def test_a_right_that_is_not_needed_is_not_given(tmp_path: Path) -> None:
    shown = service_of(tmp_path, "{branch: main, app_path: /home/orders/app}")
    assert "var units = [];" in shown
    assert "reload-daemon" not in shown
    assert "ReadWritePaths" not in shown
    assert "ProtectHome" not in shown


def test_the_unit_file_is_one_that_systemd_accepts(tmp_path: Path) -> None:
    shown = service_of(tmp_path, "{branch: main, app_path: /var/www/orders}")
    unit = shown.partition("fraisier.service ----\n")[2].partition("# ---- 3.")[0]
    path = tmp_path / "fraisier-test.service"
    path.write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if path.name in line]
    assert complaints == []


COMPOSE = 'services:\n  web:\n    build: .\n    ports: ["127.0.0.1:8090:80"]\n'


def test_what_is_only_containers_is_brought_by_compose(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", {"Dockerfile": "FROM scratch\nEXPOSE 80\n", "compose.yaml": COMPOSE})
    assert init(folder).exit_code == 0
    written = production(folder)
    assert written["compose_file"] == "compose.yaml"
    assert "build" not in written
    assert written["health_check"] == {"tcp": "127.0.0.1:8090", "timeout": 30}


def test_a_compose_file_beside_a_build_of_its_own_decides_nothing(tmp_path: Path) -> None:
    """It is often there for the databases of who develops."""
    folder = project(tmp_path / "p", {"go.mod": "module x\n", "docker-compose.yml": COMPOSE})
    assert init(folder).exit_code == 0
    written = production(folder)
    assert "compose_file" not in written
    assert written["build"] == ["go build -o bin/ ./..."]
