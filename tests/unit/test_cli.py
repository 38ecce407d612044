"""The command line: what each command prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fraisier.cli.main import COMMANDS, main
from fraisier.domain.plan import StepName
from tests.unit.cli_world import (
    OTHER_SHA,
    PRODUCTION,
    SHA,
    STAGING,
    World,
    begin,
    deploy,
    fail,
    request,
    step,
)

NAMES = [name for section in COMMANDS.values() for name in section]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path)


def error_of(result: Result) -> dict[str, str]:
    """The error document of `--json`."""
    document: dict[str, str] = json.loads(result.stderr)["error"]
    return document


# -- the frame


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(f"  {name} " in result.stdout for name in NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "demo"])
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"fraisier {name}" in result.stdout or "--config" in result.stdout


def test_help_imports_nothing_but_click_and_the_table() -> None:
    code = "import sys; sys.argv = ['fraisier', '--help']\ntry:\n import fraisier.cli.main as m; m.main()\n"
    code += (
        "except SystemExit: print(*(n for n in sys.modules if n.startswith(('fraisier.', 'rich', 'yaml'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["fraisier.cli", "fraisier.cli.main"]


def test_the_version_is_the_package_s() -> None:
    from fraisier import __version__

    result = CliRunner().invoke(main, ["--version"])
    assert result.stdout == f"fraisier {__version__}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["depoy"], "Did you mean 'deploy'?"),
        (["status", "--jsn"], "--jsn"),
        (["deploy"], "fraise"),
        (["history", "-n", "0"], "0 is not in the range"),
        (["deploy", "orders", "production", "--commit", "abc"], "no full object name"),
        (["deploy", "orders", "production", "--commit", SHA, "--ref", "main"], "exclude each other"),
        (["logs", "a", "b", "c"], "FRAISE and ENVIRONMENT"),
    ],
)
def test_a_wrong_command_line_is_2_and_says_what_is_wrong(world: World, args: list[str], words: str) -> None:
    result = world.run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("fraisier: cannot understand the command: ")
    assert words.lower() in result.stderr.lower()
    assert "--help`" in result.stderr
    assert result.stdout == ""


def test_a_missing_configuration_is_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "none.yaml"), "list"])
    assert result.exit_code == 2
    assert result.stderr.startswith("fraisier: cannot ")
    assert "none.yaml" in result.stderr


def test_the_configuration_can_be_named_by_the_environment(world: World) -> None:
    result = CliRunner().invoke(main, ["list"], env={"FRAISIER_CONFIG": str(world.config)})
    assert result.exit_code == 0
    assert "orders" in result.stdout


@pytest.mark.parametrize("command", ["plan", "deploy", "rollback", "adopt"])
def test_an_unknown_fraise_is_3_with_the_nearest_name(world: World, command: str) -> None:
    result = world.run(command, "ordres", "production")
    assert result.exit_code == 3
    assert "cannot find the fraise 'ordres'" in result.stderr
    assert "Did you mean 'orders'?" in result.stderr


@pytest.mark.parametrize("command", ["status", "history", "stats", "doctor"])
def test_an_unknown_environment_is_3_and_names_those_that_exist(world: World, command: str) -> None:
    result = world.run(command, "orders", "prod")
    assert result.exit_code == 3
    assert "'production', 'staging'" in result.stderr


def test_with_json_an_error_is_one_document_on_stderr(world: World) -> None:
    result = world.run("status", "ordres", "--json")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert error_of(result)["code"] == "not_found"
    assert error_of(result)["hint"]


def test_an_unexpected_error_is_one_line_and_1(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "state").write_text("a file where the folder belongs")
    done = subprocess.run(world.argv("history"), capture_output=True, text=True, check=False)
    assert done.returncode in (1, 4)
    assert done.stderr.startswith("fraisier: cannot ")
    assert "Traceback" not in done.stderr


# -- config


def test_validate_counts_what_it_found(world: World) -> None:
    result = world.run("config", "validate")
    assert result.exit_code == 0
    assert "1 fraise, 2 environments" in result.stdout


def test_validate_lists_every_problem_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("fraises:\n  orders:\n    typ: api\n    repository: 7\nnonsense: 1\n")
    result = CliRunner().invoke(main, ["--config", str(path), "config", "validate"])
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if f"{path}:" in line]
    assert len(lines) >= 3
    assert any(f"{path}:3:5: " in line for line in lines)
    assert any(f"{path}:5:1: " in line for line in lines)


def test_validate_as_json_lists_the_problems_as_fields(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("fraises: {}\nnonsense: 1\n")
    result = CliRunner().invoke(main, ["--config", str(path), "config", "validate", "--json"])
    problems = json.loads(result.stderr)["error"]["problems"]
    assert {"file", "line", "column", "message"} == set(problems[0])


def test_show_has_every_default_and_no_secret(world: World) -> None:
    shown = world.run("config", "show", "--json").stdout
    document = json.loads(shown)
    assert document["environments"]["orders/production"]["keep_releases"] == 5
    assert "s3cret-of-the-tests" not in shown
    assert "s3cret-of-the-tests" not in world.run("config", "show").stdout


def test_schema_is_a_json_schema() -> None:
    result = CliRunner().invoke(main, ["config", "schema"])
    assert json.loads(result.stdout)["properties"]["fraises"]


# -- looking


def test_list_has_a_line_per_environment(world: World) -> None:
    lines = world.run("list").stdout.splitlines()
    assert lines[0].split()[:2] == ["FRAISE", "ENVIRONMENT"]
    assert [line.split()[1] for line in lines[1:]] == ["production", "staging"]


def test_list_as_json_has_the_keys_of_its_view(world: World) -> None:
    rows = json.loads(world.run("list", "--json").stdout)
    assert rows == [
        {
            "fraise_id": "orders",
            "type": "api",
            "description": "Orders API",
            "forge": "github",
            "repository": "acme/orders",
            "environments": ["production", "staging"],
        }
    ]


def test_list_needs_no_store(world: World) -> None:
    world.run("list")
    assert not (world.folder / "state").exists()


def test_status_tells_what_runs_after_a_failure(world: World) -> None:
    with world.store() as store:
        deploy(store)
        fail(store)
    line = world.run("status", "orders", "production").stdout.splitlines()[1]
    assert line.split()[:6] == ["orders", "production", "failed", SHA, "1-5f1c0d2a77", "healthy"]


def test_status_names_the_step_that_runs(world: World) -> None:
    with world.store() as store:
        request(store)
        claim, attempt = begin(store)
        step(store, claim, attempt, StepName.build)
        assert world.run("status").stdout.splitlines()[1].split()[-1] == "build"


def test_status_shows_environments_that_were_never_deployed(world: World) -> None:
    assert world.run("status").stdout.count("never deployed") == 2


def test_status_as_json_has_the_rows_of_the_view(world: World) -> None:
    with world.store() as store:
        deploy(store)
    rows = json.loads(world.run("status", "--json").stdout)
    production = next(row for row in rows if row["environment"] == "production")
    assert production["status"] == "success"
    assert production["current_commit"] == SHA
    assert production["last_deployed"].endswith("Z")


def test_history_is_newest_first_and_can_be_filtered(world: World) -> None:
    with world.store() as store:
        first, second = deploy(store), fail(store)
        deploy(store, STAGING)
    every = json.loads(world.run("history", "orders", "production", "--json").stdout)
    assert [row["id"] for row in every] == [second, first]
    failed = json.loads(world.run("history", "--status", "failed", "--json").stdout)
    assert [row["id"] for row in failed] == [second]
    older = json.loads(world.run("history", "-n", "1", "--offset", "2", "--json").stdout)
    assert [row["id"] for row in older] == [first]


def test_in_a_pipe_ids_commits_and_times_are_whole(world: World) -> None:
    with world.store() as store:
        identifier = deploy(store)
    shown = world.run("history").stdout
    assert identifier in shown
    assert SHA in shown
    assert "refs/heads/main" in shown
    assert "Z  " in shown
    assert "\x1b" not in shown


def test_text_from_outside_cannot_control_the_terminal(world: World) -> None:
    with world.store() as store:
        request(store, by="eve\x1b[2J\u202eadmin\nroot")
    shown = world.run("history").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert len(shown.splitlines()) == 2


def test_an_empty_history_is_an_empty_list_and_a_word(world: World) -> None:
    assert json.loads(world.run("history", "--json").stdout) == []
    result = world.run("history")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no such deployments" in result.stderr


def test_stats_count_how_deployments_ended(world: World) -> None:
    with world.store() as store:
        deploy(store)
        fail(store)
    row = json.loads(world.run("stats", "--json").stdout)[0]
    assert (row["total"], row["succeeded"], row["failed"], row["success_rate"]) == (2, 1, 1, 0.5)
    assert "50 %" in world.run("stats").stdout


def test_show_finds_a_deployment_by_the_beginning_of_its_id(world: World) -> None:
    with world.store() as store:
        identifier = fail(store)
    result = world.run("show", identifier[:8])
    assert result.exit_code == 0
    assert identifier in result.stdout
    assert "✗ build" in result.stdout
    assert "oops" in result.stdout
    assert "Mend it and push again" in result.stdout


def test_show_as_json_has_the_steps(world: World) -> None:
    with world.store() as store:
        identifier = deploy(store)
    document = json.loads(world.run("show", identifier, "--json").stdout)
    assert document["id"] == identifier
    assert [each["step"] for each in document["steps"]] == ["fetch", "build"]


def test_show_of_an_unknown_id_is_3(world: World) -> None:
    assert world.run("show", "ffffffff").exit_code == 3


def test_logs_print_what_the_newest_deployment_printed(world: World) -> None:
    with world.store() as store:
        deploy(store)
        identifier = fail(store)
    assert world.run("logs", "orders", "production").stdout == "── build, attempt 1\noops\n"
    assert world.run("logs", identifier[:8]).stdout == "── build, attempt 1\noops\n"
    pieces = json.loads(world.run("logs", identifier, "--json").stdout)
    assert [(piece["step"], piece["text"]) for piece in pieces] == [("build", "oops\n")]


def test_followed_logs_end_with_the_deployment(world: World) -> None:
    with world.store() as store:
        identifier = deploy(store)
    result = world.run("logs", "-f", identifier)
    assert (result.exit_code, result.stdout) == (0, "── build, attempt 1\nbuilt\n")


def test_logs_of_what_was_never_deployed_is_3(world: World) -> None:
    result = world.run("logs", "orders", "staging")
    assert result.exit_code == 3
    assert "never deployed" in result.stderr


def test_the_log_of_a_unit_that_is_not_there_is_refused(world: World) -> None:
    result = world.run("logs", "--unit", "orders", "production")
    assert result.exit_code == 2
    assert "has no unit" in result.stderr


def test_webhooks_are_listed_with_their_verdict(world: World) -> None:
    from fraisier.application.ports import Delivery
    from fraisier.domain.push import EventKind, Push

    push = Push(forge="github", type="ping", kind=EventKind.ping, delivery_id="d-1", repository="acme/orders")
    with world.store() as store:
        store.record(Delivery(push=push, payload=b"{}", received_at=1.8e9)).result(10)
    row = json.loads(world.run("webhooks", "--json").stdout)[0]
    assert (row["delivery_id"], row["verdict"]) == ("d-1", "pong")
    assert "pong" in world.run("webhooks").stdout
    assert json.loads(world.run("webhooks", "--verdict", "accepted", "--json").stdout) == []


# -- changing


def test_cancel_ends_a_waiting_deployment(world: World) -> None:
    with world.store() as store:
        identifier = request(store).id
    result = world.run("cancel", identifier[:8])
    assert result.exit_code == 0
    assert "is cancelled" in result.stdout
    again = world.run("cancel", identifier)
    assert again.exit_code == 1
    assert again.stderr.startswith("fraisier: cannot ")


def test_no_wait_without_a_worker_stores_the_deployment_and_is_4(world: World) -> None:
    result = world.run("deploy", "orders", "production", "--no-wait")
    assert result.exit_code == 4
    identifier = result.stdout.strip()
    assert "no worker lives" in result.stderr
    assert "fraisier serve" in result.stderr
    rows = json.loads(world.run("history", "--json").stdout)
    assert [(row["id"], row["status"]) for row in rows] == [(identifier, "pending")]


def test_no_wait_with_a_worker_prints_the_id_and_is_0(world: World) -> None:
    with world.store() as store:
        store.register_worker("w1", info={"host": "here", "pid": os.getpid(), "version": "0", "digest": ""})
        result = world.run("deploy", "orders", "production", "--no-wait", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["status"] == "pending"


def test_a_rollback_with_nothing_to_go_back_to_is_3(world: World) -> None:
    result = world.run("rollback", "orders", "production")
    assert result.exit_code == 3
    assert "cannot roll orders/production back" in result.stderr


def test_adopt_asks_first(world: World) -> None:
    result = world.run("adopt", "orders", "production", stdin="n\n")
    assert result.exit_code == 1
    assert "Take over" in result.stderr


def test_a_plan_shows_every_command_and_changes_nothing(world: World) -> None:
    result = world.run("plan", "orders", "production")
    assert result.exit_code == 0, result.stderr
    assert "echo built" in result.stdout
    assert "git fetch" in result.stdout
    assert not (world.folder / "production").exists()
    document = json.loads(world.run("plan", "orders", "production", "--commit", OTHER_SHA, "--json").stdout)
    assert [each["name"] for each in document["steps"]][:2] == ["preflight", "fetch"]
    assert json.loads(world.run("history", "--json").stdout) == []


# -- who may


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the database to somebody else")
def test_only_the_owner_of_the_database_may_use_it(world: World) -> None:
    with world.store() as store:
        deploy(store)
    os.chown(world.folder / "state" / "fraisier.db", 65534, 65534)
    for args in (["status"], ["history"], ["deploy", "orders", "production"], ["serve"], ["worker"]):
        result = world.run(*args)
        assert result.exit_code == 2, args
        assert "sudo -u nobody fraisier" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the folder to somebody else")
def test_root_makes_no_database_in_somebody_else_s_folder(world: World) -> None:
    (world.folder / "state").mkdir()
    os.chown(world.folder / "state", 65534, 65534)
    assert world.run("status").exit_code == 2
    assert list((world.folder / "state").iterdir()) == []


# -- the variables of the configuration


def test_variables_are_found_beside_the_configuration(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLI_TEST_SECRET", "x")  # so that it is removed again afterwards
    monkeypatch.delenv("CLI_TEST_SECRET")
    world.config.write_text(world.config.read_text().replace("s3cret-of-the-tests", "${CLI_TEST_SECRET}"))
    assert world.run("list").exit_code == 2
    (world.folder / "secrets.env").write_text("CLI_TEST_SECRET=s3cret-of-the-tests\nLD_PRELOAD=/evil.so\n")
    assert world.run("list").exit_code == 0
    assert os.environ.get("LD_PRELOAD") is None


def test_the_production_key_is_the_one_that_the_tests_speak_of() -> None:
    assert str(PRODUCTION) == "orders/production"


def test_an_output_that_is_gone_does_not_change_the_exit_status() -> None:
    code = (
        "import sys; from fraisier.cli.boundary import flush; sys.stdout.write('x'); flush(); sys.exit(129)"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as gone:
        ended = subprocess.run([sys.executable, "-c", code], stdout=gone, env=buffered, check=False)
    assert ended.returncode == 129
