"""Which environments a moved ref belongs to: their own `branch` and `tag`, and the older `branch_mapping`."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraisier.application.ports import Configuration
from fraisier.config.load import load_configuration
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.push import Change, RefKind

FIXTURES = Path(__file__).parents[1] / "fixtures"
FILE = """\
git: {github: {webhook_secret: s3cr3t-of-the-forge}}
fraises:
  api:
    repository: acme/orders
    environments:
      development: {app_path: /srv/dev}
      staging: {branch: main, app_path: /srv/staging}
      production: {tag: v*, app_path: /srv/production}
  web:
    repository: acme/web
    environments:
      production: {branch: main, app_path: /srv/web}
branch_mapping:
"""


def loaded(folder: Path, mapping: str) -> Configuration:
    file = folder / "fraises.yaml"
    file.write_text(FILE + "".join(f"  {line}\n" for line in mapping.splitlines()))
    return load_configuration(str(file), environ={})


def branch(name: str) -> Change:
    return Change(kind=RefKind.branch, name=name, commit="a" * 40)


def tag(name: str) -> Change:
    return Change(kind=RefKind.tag, name=name, commit="a" * 40)


def followers(configuration: Configuration, change: Change) -> set[str]:
    return {str(key) for key, each in configuration.environments.items() if each.follows(change)}


DEV = "dev: {fraise: api, environment: development}"


def test_an_environment_that_only_branch_mapping_names_follows_that_branch(tmp_path: Path) -> None:
    found = loaded(tmp_path, DEV)
    assert found.routes == {"dev": (EnvironmentKey("api", "development"),)}
    assert followers(found, branch("dev")) == {"api/development"}


def test_environments_that_are_not_mapped_follow_their_own_branch_or_tag(tmp_path: Path) -> None:
    found = loaded(tmp_path, DEV)
    assert followers(found, branch("main")) == {"api/staging", "web/production"}
    assert followers(found, tag("v1.2")) == {"api/production"}


def test_a_tag_never_counts_as_a_branch_of_the_same_name(tmp_path: Path) -> None:
    found = loaded(tmp_path, DEV)
    assert followers(found, tag("dev")) == set()
    assert followers(found, tag("main")) == set()
    assert followers(found, branch("v1.2")) == set()


def test_a_branch_may_be_mapped_to_several_environments(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        f"{DEV}\nnext:\n  - {{fraise: api, environment: development}}\n  - {{fraise: web, environment: production}}",
    )
    assert found.routes["next"] == (EnvironmentKey("api", "development"), EnvironmentKey("web", "production"))


def test_a_mapped_branch_stands_instead_of_the_environments_own(tmp_path: Path) -> None:
    found = loaded(tmp_path, f"{DEV}\nrelease: {{fraise: api, environment: staging}}")
    assert followers(found, branch("release")) == {"api/staging"}
    assert followers(found, branch("main")) == {"web/production"}


def test_an_own_branch_that_is_mapped_as_well_stays(tmp_path: Path) -> None:
    both = "next: {fraise: api, environment: staging}\nmain: {fraise: api, environment: staging}"
    found = loaded(tmp_path, f"{DEV}\n{both}")
    assert found.environments[EnvironmentKey("api", "staging")].branch == "main"
    assert set(found.routes) == {"dev", "next", "main"}


def test_the_development_fixture_is_routed_the_older_way() -> None:
    found = load_configuration(str(FIXTURES / "fraises_dev.yaml"), environ={})
    assert followers(found, branch("dev")) == {"my_api/development", "website/development"}
    assert found.routes["1.0"] == (EnvironmentKey("my_api", "development"),)


@pytest.mark.parametrize("name", ["dev/../dev", "DEV", "dev ", "refs/heads/dev", ""])
def test_only_the_exact_name_counts(tmp_path: Path, name: str) -> None:
    assert followers(loaded(tmp_path, DEV), branch(name)) == set()
