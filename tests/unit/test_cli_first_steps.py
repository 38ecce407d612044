"""What a stranger does first: look before anything is there, leave values empty, close what we write to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fraisier.domain.errors import InvalidConfig
from tests.unit.cli_world import World, deploy


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path)


LOOKS = [
    ["status"],
    ["history"],
    ["stats"],
    ["webhooks"],
    ["doctor"],
    ["plan", "orders", "staging"],
    ["deploy", "orders", "staging", "--dry-run"],
    ["promote", "orders", "staging", "production", "--dry-run"],
    ["status", "--verify"],
    ["show", "0d9f3a51"],
]


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_who_only_looks_makes_no_database(world: World, command: list[str]) -> None:
    """As root, before Fraisier's user is there, it would lock that user out."""
    world.run(*command)
    assert not (world.folder / "state").exists()


def test_it_is_said_that_there_is_no_database(world: World) -> None:
    """Such as where its disk is not mounted."""
    result = world.run("history")
    assert f"There is no database {world.folder}/state/fraisier.db yet" in result.stderr
    with world.store() as store:
        deploy(store)
    assert world.run("history").stderr == ""


def test_an_error_stays_one_document_where_there_is_no_database(world: World) -> None:
    result = world.run("show", "0d9f3a51", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stderr)["error"]["code"] == "not_found"


def test_the_doctor_says_what_the_first_start_makes(world: World) -> None:
    found = json.loads(world.run("doctor", "--json", "--offline").stdout)
    state = [each for each in found if each["check"] in ("state", "database")]
    assert [each["verdict"] for each in state] == ["warning", "warning"]
    assert all("does not exist yet" in each["message"] for each in state)


def test_the_doctor_says_where_this_user_cannot_make_the_state(world: World) -> None:
    text = world.config.read_text()
    world.config.write_text(text.replace(f"sqlite://{world.folder}/state", "sqlite:///proc/fraisier"))
    found = json.loads(world.run("doctor", "--json", "--offline").stdout)
    state = [each for each in found if each["check"] == "state"]
    # root may write to any folder, as far as `test -w` tells
    wanted = "warning" if os.geteuid() == 0 and _root_may_write("/proc") else "problem"
    assert {each["verdict"] for each in state} == {wanted}


def _root_may_write(folder: str) -> bool:
    return subprocess.run(["test", "-w", folder], check=False).returncode == 0


EMPTY = [
    ["deploy", "orders", "production", "--ref", ""],
    ["deploy", "orders", "production", "--commit", ""],
    ["plan", "orders", "production", "--ref", ""],
    ["rollback", "orders", "production", "--to", ""],
    ["backup", "restore", "orders", "production", "--to", ""],
    ["status", ""],
    ["history", "orders", ""],
]


@pytest.mark.parametrize("command", EMPTY, ids=" ".join)
def test_an_empty_value_does_not_mean_that_none_was_given(world: World, command: list[str]) -> None:
    """`--ref "$TAG"` of a script that has no TAG would else deploy the branch's tip."""
    result = world.run(*command)
    assert result.exit_code == 2
    assert "it is empty; give a value, or leave it out" in result.stderr
    assert not (world.folder / "state").exists()


def test_a_commit_of_zeros_is_refused_with_the_reason(world: World) -> None:
    result = world.run("deploy", "orders", "production", "--commit", "0" * 40)
    assert result.exit_code == 2
    assert "zeros are what git has for no commit at all" in result.stderr


def test_nobody_who_could_answer_is_told_of_yes(world: World) -> None:
    result = world.run("adopt", "orders", "production", stdin="")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert world.run("adopt", "orders", "production", stdin="n\n").exit_code == 1


@pytest.mark.parametrize(("arguments", "status"), [("nope", 2), ("show 0d9f3a51", 3)])
def test_the_exit_status_is_the_same_without_stderr(world: World, arguments: str, status: int) -> None:
    line = f'exec "$0" -m fraisier --config "$1" {arguments} 2>&-'
    finished = subprocess.run(["sh", "-c", line, sys.executable, str(world.config)], check=False)
    assert finished.returncode == status


def test_an_address_of_another_machine_is_no_port_that_is_taken(world: World) -> None:
    result = world.run("serve", "--host", "192.0.2.1")
    assert result.exit_code == 4
    assert "Name an address of this machine with --host" in result.stderr


def test_a_file_that_is_not_there_has_no_lines_to_mend(world: World) -> None:
    world.config.unlink()
    result = world.run("list")
    assert result.exit_code == 2
    assert "--config FILE" in result.stderr
    assert "lines" not in result.stderr
    assert "$FRAISIER_CONFIG" in InvalidConfig([]).hint


def test_an_output_without_space_says_nothing_of_the_deployment(world: World) -> None:
    """1 would mean that it ended otherwise than `success`."""
    with world.store():
        pass
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            world.argv("status"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 4
    assert done.stderr.startswith("fraisier: cannot write what was to be printed: No space left on device")
