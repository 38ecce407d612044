"""The doctor: what is right is said, what is missing comes with how to mend it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from fraisier.application.check_access import Mode, User, can_read, mode_of, user_of
from fraisier.hosts.local import LocalHost
from tests.unit.cli_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World.create(tmp_path)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (["init", "-q", "-b", "main", "s"], ["-C", "s", "commit", "-q", "--allow-empty", "-m", "1"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    subprocess.run([*git, "clone", "-q", "--bare", "s", "origin.git"], cwd=tmp_path, check=True)
    return world


def change(world: World, old: str, new: str) -> None:
    content = world.config.read_text()
    assert old in content
    world.config.write_text(content.replace(old, new))


def findings(world: World, *args: str) -> dict[tuple[str, str], list[dict[str, str]]]:
    """What the doctor finds, by subject and check."""
    result = world.run("doctor", "--json", *args)
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for each in json.loads(result.stdout):
        found.setdefault((each["subject"], each["check"]), []).append(each)
    problems = any(each["verdict"] == "problem" for several in found.values() for each in several)
    assert result.exit_code == (1 if problems else 0)
    return found


def only(found: dict[tuple[str, str], list[dict[str, str]]], subject: str, check: str) -> dict[str, str]:
    (one,) = found[(subject, check)]
    return one


def test_a_sound_environment_has_no_problem(world: World) -> None:
    result = world.run("doctor", "orders", "staging", "--offline")
    assert result.exit_code == 0, result.stdout
    assert "All is well" in result.stdout
    assert "✗" not in result.stdout


def test_a_configuration_with_secrets_must_be_closed_to_others(world: World) -> None:
    world.config.chmod(0o644)
    found = only(findings(world, "--offline"), "installation", "configuration")
    assert found["verdict"] == "problem"
    assert found["hint"].startswith(f"chmod 0600 {world.config}")


def test_a_configuration_without_secrets_may_be_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLI_DOCTOR_SECRET", "s3cret-of-the-tests")
    change(world, "s3cret-of-the-tests", "${CLI_DOCTOR_SECRET}")
    world.config.chmod(0o644)
    assert only(findings(world, "--offline"), "installation", "configuration")["verdict"] == "ok"


def test_an_open_state_folder_is_a_problem(world: World) -> None:
    with world.store():
        (world.folder / "state").chmod(0o755)
    state = findings(world, "--offline")[("installation", "state")]
    assert [each["verdict"] for each in state] == ["problem", "ok"]
    assert state[0]["hint"] == f"chmod 0700 {world.folder}/state"


def test_builds_as_fraisier_s_own_user_are_a_problem(world: World) -> None:
    found = only(findings(world, "orders", "production", "--offline"), "orders/production", "isolation")
    assert found["verdict"] == "problem"
    assert "`user:`" in found["hint"]


def test_a_build_user_that_can_read_our_files_is_a_problem(world: World) -> None:
    change(world, 'build: ["echo built"]', 'user: nobody, build: ["echo built"]')
    for folder in (world.folder, *list(world.folder.parents)[:-2]):
        folder.chmod(0o755)
    world.config.chmod(0o644)
    found = findings(world, "orders", "production", "--offline")[("orders/production", "isolation")]
    assert any(str(world.config) in each["message"] for each in found)
    world.config.chmod(0o600)
    found = findings(world, "orders", "production", "--offline")[("orders/production", "isolation")]
    assert [each["verdict"] for each in found] == ["ok"]


def test_an_unknown_user_comes_with_the_command_that_makes_it(world: World) -> None:
    change(world, 'build: ["echo built"]', 'user: nobody-at-all, build: ["echo built"]')
    found = findings(world, "orders", "production", "--offline")[("orders/production", "prerequisites")]
    assert found[0]["hint"] == "sudo useradd --system --create-home nobody-at-all"


def test_a_repository_that_answers_tells_its_tip(world: World) -> None:
    found = only(findings(world, "orders", "production"), "orders/production", "repository")
    assert found["verdict"] == "ok"
    assert "main is at " in found["message"]


def test_a_missing_branch_is_a_problem(world: World) -> None:
    found = only(findings(world, "orders", "staging"), "orders/staging", "repository")
    assert found["verdict"] == "problem"
    assert "has no branch 'staging'" in found["message"]


def test_an_unreachable_repository_is_a_problem_unless_offline(world: World) -> None:
    (world.folder / "origin.git").rename(world.folder / "moved.git")
    assert only(findings(world, "orders", "staging"), "orders/staging", "repository")["verdict"] == "problem"
    assert ("orders/staging", "repository") not in findings(world, "orders", "staging", "--offline")


def test_a_forge_without_a_secret_is_a_problem(world: World) -> None:
    change(world, '{webhook_secret: "s3cret-of-the-tests"}', "{}")
    found = only(findings(world, "orders", "staging", "--offline"), "orders/staging", "webhook secret")
    assert found["verdict"] == "problem"
    assert "openssl rand -hex 32" in found["hint"]


def test_a_folder_that_is_no_release_layout_is_told(world: World) -> None:
    (world.folder / "staging").mkdir()
    (world.folder / "staging" / "index.html").touch()
    found = findings(world, "orders", "staging", "--offline")[("orders/staging", "prerequisites")]
    assert "no release layout" in found[0]["message"]


@pytest.mark.parametrize("kept", ["backups", "shared", "releases"])
def test_what_is_left_of_a_release_layout_is_no_strangers(world: World, kept: str) -> None:
    (world.folder / "staging" / kept).mkdir(parents=True)
    found = findings(world, "orders", "staging", "--offline")[("orders/staging", "prerequisites")]
    assert "no release layout" not in found[0]["message"]


def test_a_folder_of_another_installation_is_told(world: World) -> None:
    owner = world.folder / "staging" / ".fraisier" / "owner"
    owner.parent.mkdir(parents=True)
    owner.write_text('{"installation": "another", "fraise": "orders", "environment": "staging"}')
    found = only(findings(world, "orders", "staging", "--offline"), "orders/staging", "owner")
    assert found["verdict"] == "problem"
    assert found["hint"].endswith("fraisier adopt orders staging")


def test_no_worker_is_only_a_warning(world: World) -> None:
    assert only(findings(world, "--offline"), "installation", "worker")["verdict"] == "warning"
    with world.store() as store:
        store.register_worker("w1", info={"host": "here", "pid": os.getpid(), "version": "0", "digest": ""})
        found = findings(world, "--offline")
    assert only(found, "installation", "worker")["message"] == f"workers: here (pid {os.getpid()})"
    assert ("installation", "server") in found


# -- who can read what


@pytest.mark.parametrize(
    ("bits", "uid", "groups", "readable"),
    [
        (0o600, 7, set(), False),
        (0o604, 7, set(), True),
        (0o640, 7, {5}, True),
        (0o604, 7, {5}, False),  # the group's bits decide for its members, not the others'
        (0o400, 1, set(), True),
        (0o044, 1, set(), False),
        (0o000, 0, set(), True),
    ],
)
def test_the_first_class_that_fits_decides(bits: int, uid: int, groups: set[int], readable: bool) -> None:
    assert Mode(bits, uid=1, gid=5).allows(4, uid, groups) is readable


def test_a_closed_folder_hides_an_open_file(tmp_path: Path) -> None:
    host = LocalHost()
    stranger = User(uid=54321, groups=frozenset({54321}))
    secret = tmp_path / "closed" / "secret"
    secret.parent.mkdir()
    secret.touch(mode=0o644)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)
    assert can_read(host, str(secret), stranger)
    secret.parent.chmod(0o700)
    assert not can_read(host, str(secret), stranger)


def test_users_and_modes_of_what_is_missing_are_none(tmp_path: Path) -> None:
    host = LocalHost()
    assert user_of(host, "nobody-at-all") is None
    assert mode_of(host, str(tmp_path / "missing")) is None
    root = user_of(host, "root")
    assert root is not None
    assert root.uid == 0


TIMED = """
  nightly:
    type: scheduled
    repository: acme/nightly
    clone_url: {folder}/origin.git
    environments:
      production:
        branch: main
        app_path: {folder}/nightly
        user: nobody
        keeper: systemd
        jobs: {{load: {{run: sh load.sh, schedule: daily}}}}
"""


def test_timers_that_are_not_as_the_configuration_has_them_are_told(world: World) -> None:
    world.config.write_text(world.config.read_text() + TIMED.format(folder=world.folder))
    assert ("nightly/production", "timers") not in findings(world)
    app, release = world.folder / "nightly", "1-5f1c0d2a77"
    (app / "releases" / release).mkdir(parents=True)
    (app / "current").symlink_to(f"releases/{release}")
    (app / ".fraisier" / "releases").mkdir(parents=True)
    (app / ".fraisier" / "releases" / f"{release}.json").write_text('{"commit": "x", "ref": ""}')
    found = only(findings(world), "nightly/production", "timers")
    assert found["verdict"] == "warning"
    assert found["message"].endswith(
        "fraisier-nightly-production-load.service, fraisier-nightly-production-load.timer"
    )
    assert found["hint"].startswith("fraisier deploy nightly production --force")


def test_timers_that_were_left_stopped_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.config.write_text(world.config.read_text() + TIMED.format(folder=world.folder))
    timer = "fraisier-nightly-production-load.timer"
    fake = world.folder / "bin" / "systemctl"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nprintf 'Id={timer}\\nLoadState=loaded\\nActiveState=inactive\\n'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    found = only(findings(world), "nightly/production", "timers")
    assert found["verdict"] == "warning"
    assert found["message"].endswith(f"are stopped: {timer}")
    assert found["hint"].endswith(f"sudo systemctl start {timer}")
