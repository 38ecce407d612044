"""The command line where an environment is paused, or outside of its allowed times: what waits, and who is told."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fraisier.application.ports import Store
from fraisier.domain.deployment import Status, Trigger
from fraisier.domain.fraise import EnvironmentKey
from tests.unit.cli_world import PRODUCTION, SHA, STAGING, World, begin, deploy, request
from tests.unit.test_check_environments import findings, only

WHY = "the disk is being replaced"
# Shut today and for some days: a window on the day before yesterday.
SHUT = f"{('mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun')[(datetime.now(ZoneInfo('UTC')) - timedelta(days=2)).weekday()]} 08:00-17:00 UTC"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path)


@pytest.fixture
def shut(world: World) -> World:
    """An installation whose production is outside of its allowed times."""
    text = world.config.read_text().replace("production: {branch", f"production: {{allowed: {SHUT}, branch")
    world.config.write_text(text)
    return world


def pause(world: World) -> None:
    result = world.run("pause", "orders", "production", "--reason", WHY, env={"SUDO_USER": "anna"})
    assert result.exit_code == 0, result.stderr


def history(world: World) -> list[dict[str, object]]:
    return json.loads(world.run("history", "--json").stdout)


def audit(world: World) -> list[tuple[str, str, str, str]]:
    with sqlite3.connect(world.folder / "state" / "fraisier.db") as connection:
        rows = connection.execute("SELECT actor, action, subject, detail FROM tb_audit_log ORDER BY pk")
        return [row for row in rows if row[1] in ("pause", "resume", "promote")]


def test_a_pause_is_shown_with_who_and_why_and_ends(world: World) -> None:
    pause(world)
    shown = world.run("status", "orders", "production").stdout
    assert "paused by anna since" in shown
    assert WHY in shown
    (row,) = json.loads(world.run("status", "orders", "production", "--json").stdout)
    assert (row["paused"], row["paused_by"], row["paused_reason"]) == (True, "anna", WHY)
    assert WHY in row["held_because"]
    assert row["held_until"] is None
    again = world.run("resume", "orders", "production", env={"SUDO_USER": "bert"})
    assert (again.exit_code, again.stdout) == (0, "orders/production goes on.\n")
    assert "paused" not in world.run("status", "orders", "production").stdout
    assert "was not paused" in world.run("resume", "orders", "production").stdout
    assert audit(world) == [
        ("anna", "pause", "orders/production", json.dumps({"reason": WHY}, separators=(",", ":"))),
        ("bert", "resume", "orders/production", "{}"),
    ]


def test_what_runs_goes_on_and_is_named(world: World) -> None:
    with world.store() as store:
        running = request(store)
        begin(store)
        shown = world.run("pause", "orders", "production", "--reason", WHY).stdout
        assert f"Deployment {running.id[:8]} runs, and goes on to its end" in shown
        assert f"fraisier cancel {running.id[:8]}" in shown


@pytest.mark.parametrize(
    ("reason", "said"),
    [("", "without a reason"), ("\x1b[31m \n\t", "[31m"), ("x" * 501, "of 501 characters")],
)
def test_a_reason_is_one_short_line(world: World, reason: str, said: str) -> None:
    result = world.run("pause", "orders", "production", "--reason", reason)
    if result.exit_code == 0:
        assert said in world.run("status", "orders", "production").stdout
        assert "\x1b" not in world.run("status", "orders", "production", "--json").stdout
    else:
        assert result.exit_code == 2
        assert said in result.stderr


@pytest.mark.parametrize("command", [["pause", "--reason", "x"], ["resume"]])
def test_what_is_not_configured_is_not_found(world: World, command: list[str]) -> None:
    assert world.run(*command, "orders", "nowhere").exit_code == 3


@pytest.mark.parametrize("waiting", ["--wait", "--no-wait"])
def test_deploy_in_a_pause_stores_it_and_says_at_once_why_nothing_happens(world: World, waiting: str) -> None:
    pause(world)
    result = world.run("deploy", "orders", "production", waiting)
    assert result.exit_code == 4
    assert WHY in result.stderr
    assert "fraisier resume orders production" in result.stderr
    assert [row["status"] for row in history(world)] == ["pending"]
    assert "1 waiting: paused by anna" in world.run("status", "orders", "production").stdout
    (row,) = history(world)
    assert "orders/production is paused by anna" in world.run("show", str(row["id"])).stdout
    went_on = world.run("resume", "orders", "production").stdout
    assert "1 deployment waits no longer for this" in went_on


def test_what_a_person_wanted_before_is_not_done_after_the_pause(world: World) -> None:
    """Or tomorrow an older wish would undo what was insisted on today."""
    pause(world)
    for words in (["--commit", SHA], ["--commit", "0b" * 20], ["--force"]):
        assert world.run("deploy", "orders", "production", *words, "--no-wait").exit_code == 4
    assert [row["status"] for row in history(world)] == ["pending", "superseded", "superseded"]
    world.run("resume", "orders", "production")
    assert world.run("deploy", "orders", "production", "--no-wait").exit_code == 4, "no worker lives"
    assert [row["status"] for row in history(world)][:2] == ["pending", "pending"], "outside of holds as ever"


def test_deploy_outside_of_allowed_times_says_until_when_it_waits(shut: World) -> None:
    result = shut.run("deploy", "orders", "production")
    assert result.exit_code == 4
    assert f"outside of its allowed times ({SHUT}) until 20" in result.stderr
    assert "08:00 UTC" in result.stderr
    assert "1 waiting: outside of its allowed times" in shut.run("status").stdout
    (row,) = json.loads(shut.run("status", "orders", "production", "--json").stdout)
    assert row["held_until"].endswith("T08:00:00.000000Z")
    assert [row["status"] for row in history(shut)] == ["pending"]


def test_a_pause_outside_of_allowed_times_is_both(shut: World) -> None:
    pause(shut)
    error = json.loads(shut.run("deploy", "orders", "production", "--json", "--no-wait").stderr)["error"]
    assert error["code"] == "on_hold"
    assert WHY in error["message"]
    assert "outside of its allowed times" in error["message"]
    went_on = shut.run("resume", "orders", "production").stdout
    assert "1 deployment waits still: orders/production is outside" in went_on


def test_plan_says_that_it_would_wait(world: World, shut: World) -> None:
    pause(world)
    shown = world.run("plan", "orders", "production")
    assert shown.exit_code == 0
    assert "It would wait: orders/production is paused by anna" in shown.stdout
    document = json.loads(world.run("plan", "orders", "production", "--json").stdout)
    assert WHY in document["held_because"]
    assert "It would wait" not in world.run("plan", "orders", "staging").stdout


def test_the_doctor_warns(shut: World) -> None:
    pause(shut)
    found = only(findings(shut, "orders", "production", "--offline"), "orders/production", "allowed")
    assert found["verdict"] == "warning"
    assert WHY in found["message"]
    assert "fraisier resume" in found["hint"]
    shut.run("resume", "orders", "production")
    found = only(findings(shut, "orders", "production", "--offline"), "orders/production", "allowed")
    assert "outside of its allowed times" in found["message"]


def test_list_shows_the_times(shut: World) -> None:
    assert SHUT in shut.run("list").stdout


# ------------------------------------------------------------------------------------------ promote


def serve(store: Store, key: EnvironmentKey, commit: str = SHA) -> str:
    return deploy(store, key, commit)


def test_promote_requests_the_commit_that_is_healthy(world: World) -> None:
    with world.store() as store:
        serve(store, STAGING)
        result = world.run(
            "promote", "orders", "staging", "production", "--no-wait", env={"SUDO_USER": "anna"}
        )
        assert result.exit_code == 4, "no worker lives"
        row = store.deployment(result.stdout.strip())
        (status,) = store.fraise_status("orders", "production")
    assert (row["environment"], row["commit"], row["ref"]) == ("production", SHA, "")
    assert (row["trigger"], row["requested_by"], row["status"]) == ("manual", "anna", "pending")
    assert status["seen_tip"] == "?", "no sweep undoes it"
    assert "orders/staging runs 5f1c0d2a77 in good health (1-5f1c0d2a77)" in result.stderr
    actor, action, subject, detail = audit(world)[-1]
    assert (actor, action, subject) == ("anna", "promote", row["id"])
    assert json.loads(detail)["from"] == "orders/staging"


def test_a_dry_run_changes_nothing(world: World) -> None:
    with world.store() as store:
        serve(store, STAGING)
        before = store.history()
        result = world.run("promote", "orders", "staging", "production", "--dry-run")
        document = json.loads(
            world.run("promote", "orders", "staging", "production", "--dry-run", "--json").stdout
        )
        assert store.history() == before
    assert result.exit_code == 0
    assert "orders/production runs nothing yet" in result.stdout
    assert "cannot be told here" in result.stdout
    assert document["commit"] == SHA
    assert (document["replaces"], document["brought"], document["runs_already"]) == (None, None, False)


def test_what_runs_there_already_is_not_deployed_again_unless_forced(world: World) -> None:
    with world.store() as store:
        serve(store, STAGING)
        serve(store, PRODUCTION)
        count = len(store.history())
        result = world.run("promote", "orders", "staging", "production")
        assert (result.exit_code, len(store.history())) == (0, count)
        assert "runs it already" in result.stdout
        assert world.run("promote", "orders", "staging", "production", "--no-wait", "--force").exit_code == 4
        assert len(store.history()) == count + 1


def test_nothing_is_promoted_from_where_nothing_runs(world: World) -> None:
    result = world.run("promote", "orders", "staging", "production")
    assert result.exit_code == 1
    assert "nothing runs there" in result.stderr
    assert history(world) == []


def test_nothing_is_promoted_from_where_it_is_not_healthy(world: World) -> None:
    from fraisier.application.ports import Ending, Serving

    with world.store() as store:
        request(store, STAGING)
        claim, attempt = begin(store, STAGING)
        serving = Serving(release="1-5f1c0d2a77", commit=SHA, healthy=False)
        store.finish(claim, attempt, Ending(status=Status.rollback_failed, serving=serving))
    result = world.run("promote", "orders", "staging", "production")
    assert result.exit_code == 1
    assert "1-5f1c0d2a77 is not healthy there" in result.stderr


def test_what_was_deployed_from_another_repository_is_not_promoted(world: World) -> None:
    from fraisier import wiring
    from fraisier.application.ports import Ending, Serving

    with world.store() as store:
        request(store, STAGING)
        claim, _ = begin(store, STAGING)
        configuration = wiring.load(str(world.config))
        resolved = wiring.assemble(configuration, store=store).codec.dump(configuration.environments[STAGING])
        attempt = store.begin_attempt(claim, resolved=resolved)
        serving = Serving(release="1-5f1c0d2a77", commit=SHA, healthy=True)
        store.finish(claim, attempt, Ending(status=Status.success, serving=serving))
    assert world.run("promote", "orders", "staging", "production", "--dry-run").exit_code == 0
    text = world.config.read_text().replace("repository: acme/orders", "repository: acme/invoices")
    world.config.write_text(text)
    result = world.run("promote", "orders", "staging", "production", "--dry-run")
    assert result.exit_code == 1
    assert "it runs acme/orders of github" in result.stderr


@pytest.mark.parametrize(
    ("names", "status"),
    [(("staging", "staging"), 2), (("staging", "nowhere"), 3), (("nowhere", "staging"), 3)],
)
def test_both_ends_of_a_promotion_must_be_environments(
    world: World, names: tuple[str, str], status: int
) -> None:
    assert world.run("promote", "orders", *names).exit_code == status


def test_a_promotion_to_a_paused_environment_waits(world: World) -> None:
    with world.store() as store:
        serve(store, STAGING)
        pause(world)
        result = world.run("promote", "orders", "staging", "production")
        assert result.exit_code == 4
        assert WHY in result.stderr
        (row,) = store.history("orders", "production")
        assert (row["status"], row["trigger"]) == ("pending", Trigger.manual)
