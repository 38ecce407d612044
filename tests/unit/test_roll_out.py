"""A deployment over several hosts: performed to its end or to the way back, on a real store and played hosts."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.control import Control
from fraisier.application.journal import Journal
from fraisier.domain.acts import Command, UnitCommand
from fraisier.domain.deployment import Status, Trigger
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import BuildOn, Database, Environment
from fraisier.domain.plan import Step, StepName, TargetActs
from fraisier.domain.rollout import Rollout
from fraisier.domain.secret import Redactor
from tests.factories import SHA_A, SHA_B, SHA_C
from tests.fleet import Death, Fleet, FleetTarget
from tests.fleet_database import SharedDatabase

Make = Callable[..., Fleet]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Fleet] = []

    def fleet(**options: Any) -> Fleet:
        made.append(Fleet(tmp_path, **options))
        for sha in (SHA_A, SHA_B, SHA_C):
            made[0].repository.commit(sha)
        return made[0]

    yield fleet
    for each in made:
        each.close()


@pytest.fixture
def fleet(make: Make) -> Fleet:
    return make()


def turns(fleet: Fleet, deployment: str) -> list[str]:
    """Which host began which step of its turn, in order."""
    steps = fleet.store.steps(deployment)
    return [f"{s['host']} {s['step']}" for s in steps if s["step"] in ("activate", "restart", "check_health")]


# ------------------------------------------------------------------------------------------ forward


def test_a_commit_becomes_the_running_release_of_every_host(fleet: Fleet) -> None:
    ended = fleet.deploy(SHA_A)
    assert (ended.status, ended.error_message) == (Status.success, "")
    assert fleet.runs == ["a", "a", "a"]
    assert {host.current for host in fleet.hosts.values()} == {ended.release}
    assert fleet.states() == ["current"] * 3
    (row,) = fleet.store.fraise_status()
    assert (row["current_commit"], row["current_release"], row["healthy"]) == (SHA_A, ended.release, True)


def test_one_host_at_a_time_is_changed_unless_more_are_allowed(make: Make) -> None:
    fleet = make()
    ended = fleet.deploy(SHA_A)
    each = [f"web{n} {step}" for n in (1, 2, 3) for step in ("activate", "restart", "check_health")]
    assert turns(fleet, ended.id) == each


def test_all_hosts_are_prepared_at_once_and_those_of_a_batch_changed_at_once(make: Make) -> None:
    fleet = make(size=4, rollout=Rollout(batch=3, canary=1))
    together = threading.Barrier(4)
    fleet.on_event = lambda event, told: (
        together.wait(10) if (event, told.get("step")) == ("step_started", "build") else None
    )
    batch = threading.Barrier(3)
    begun: list[str] = []

    def restarting(event: str, told: Any) -> None:
        if (event, told.get("step")) == ("step_started", "restart"):
            begun.append(told["host"])
            if told["host"] != "web1":
                batch.wait(10)
        elif (event, told.get("step")) == ("step_started", "build"):
            together.wait(10)

    fleet.on_event = restarting
    assert fleet.deploy(SHA_A).status is Status.success
    assert begun[0] == "web1"


def test_it_is_fetched_and_migrated_once_before_any_host_is_changed(fleet: Fleet) -> None:
    fleet.configure(database=Database(up="migrate up", down="migrate down"))
    ended = fleet.deploy(SHA_A)
    steps = [(s["step"], s["host"]) for s in fleet.store.steps(ended.id)]
    assert [host for step, host in steps if step == "fetch"] == [""]
    assert [host for step, host in steps if step == "migrate"] == ["web1"]
    migrated = steps.index(("migrate", "web1"))
    assert all(
        steps.index(("build", f"web{n}")) < migrated < steps.index(("activate", f"web{n}")) for n in (1, 2, 3)
    )
    assert fleet.repository.fetches == 1


@pytest.mark.parametrize("where", [BuildOn.each, BuildOn.first])
def test_a_release_is_built_on_each_host_or_on_the_first_and_sent(fleet: Fleet, where: BuildOn) -> None:
    fleet.configure(build_on=where, shared=("uploads/",))
    assert fleet.deploy(SHA_A).status is Status.success
    assert fleet.runs == ["a", "a", "a"]
    built = [any(c.argv[2:3] == ("echo building",) for c in host.commands) for host in fleet.hosts.values()]
    assert built == [True, where is BuildOn.each, where is BuildOn.each]
    markers = {
        host.read("/srv/orders/.fraisier/releases/1-aaaaaaaaaa.json") is not None
        for host in fleet.hosts.values()
    }
    assert markers == {True}


class MakingTarget(FleetTarget):
    """Makes something outside of the release's folder, as Docker Compose makes images."""

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        made = UnitCommand(argv=("fakectl", "images", Path(release_folder).name))
        return replace(super().acts(environment, release_folder), build=(made,))


@pytest.mark.parametrize("where", BuildOn)
def test_what_the_target_makes_it_makes_on_every_host_wherever_the_release_is_built(
    fleet: Fleet, where: BuildOn
) -> None:
    fleet.target = MakingTarget()
    fleet.this_machine()
    fleet.configure(build_on=where)
    ended = fleet.deploy(SHA_A)
    assert ended.status is Status.success, ended.error_message
    made = [host.acts.count(("fakectl", "images", ended.release)) for host in fleet.hosts.values()]
    assert made == [1, 1, 1]


def test_a_release_is_built_on_the_next_host_where_the_first_cannot(make: Make) -> None:
    fleet = make(rollout=Rollout(max_failures=1))
    fleet.configure(build_on=BuildOn.first)
    fleet[1].scripts["echo building"] = 1
    assert fleet.deploy(SHA_A).status is Status.success
    assert fleet.runs == ["-", "a", "a"]


def test_what_is_built_here_is_built_once_and_sent_to_every_host(fleet: Fleet) -> None:
    fleet.configure(build_on=BuildOn.here)
    here = fleet.this_machine()
    ended = fleet.deploy(SHA_A)
    assert ended.status is Status.success, ended.error_message
    assert fleet.runs == ["a", "a", "a"]
    assert [c.argv[2] for c in here.commands] == ["echo building"]
    steps = [(step["step"], step["host"]) for step in fleet.store.steps(ended.id)]
    assert [host for step, host in steps if step == "prepare"] == [""]
    assert [host for step, host in steps if step == "build"] == ["", "web1", "web2", "web3"]


def test_hosts_keep_no_more_releases_than_they_should(fleet: Fleet) -> None:
    fleet.configure(keep_releases=2)
    for sha in (SHA_A, SHA_B, SHA_C):
        fleet.deploy(sha)
    for host in fleet.hosts.values():
        assert host.list("/srv/orders/releases") == ["2-bbbbbbbbbb", "3-cccccccccc"]


# ------------------------------------------------------------------------------------------ failures


def test_a_release_that_is_unhealthy_on_one_host_is_taken_back_from_all(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet[2].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.unhealthy)
    assert "1 of 3 hosts did not come along (max_failures is 0): web2: " in ended.error_message
    assert "503" in ended.error_message
    assert fleet.runs == ["a", "a", "a"]
    assert fleet.states() == ["current"] * 3
    assert fleet.store.fraise_status()[0]["quarantined_commits"] == [SHA_B]
    assert "web3 activate" not in turns(fleet, ended.id)


def test_an_allowed_failure_is_named_and_runs_what_it_ran_before(make: Make) -> None:
    fleet = make(rollout=Rollout(max_failures=1))
    fleet.deploy(SHA_A)
    fleet[2].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.success
    assert "web2 runs 1-aaaaaaaaaa" in ended.error_message
    assert fleet.runs == ["b", "a", "b"]
    assert fleet.states() == ["current", "behind", "current"]
    row = fleet.rows()["web2"]
    assert (row["release"], row["commit"], row["cause"]) == ("1-aaaaaaaaaa", SHA_A, "unhealthy")
    assert fleet.store.fraise_status()[0]["healthy"] is False
    assert fleet.store.fraise_status()[0]["quarantined_commits"] == []


def test_each_host_goes_back_to_its_own_previous_release(make: Make) -> None:
    fleet = make(rollout=Rollout(max_failures=1, canary=0))
    fleet.deploy(SHA_A)
    fleet[1].unhealthy = {"b"}
    fleet.deploy(SHA_B)
    assert fleet.runs == ["a", "b", "b"]
    fleet[1].unhealthy = set()
    fleet[2].unhealthy = fleet[3].unhealthy = {"c"}
    ended = fleet.deploy(SHA_C)
    assert ended.status is Status.rolled_back
    assert fleet.runs == ["a", "b", "b"]
    assert fleet.states() == ["behind", "current", "current"]
    assert "web1 runs 1-aaaaaaaaaa" in ended.error_message


def test_a_first_release_that_fails_leaves_nothing_running_anywhere(fleet: Fleet) -> None:
    fleet[3].unhealthy = {"a"}
    ended = fleet.deploy(SHA_A)
    assert (ended.status, ended.cause) == (Status.failed, Cause.unhealthy)
    assert fleet.runs == ["-", "-", "-"]
    assert [host.current for host in fleet.hosts.values()] == ["", "", ""]
    assert fleet.states() == ["unknown"] * 3


def test_the_database_goes_back_once(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet.configure(database=Database(up="migrate up", down="migrate down"))
    fleet[3].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.rolled_back
    done = [c.describe().partition(" #")[0].strip() for h in fleet.hosts.values() for c in h.commands]
    assert [line for line in done if line.startswith("migrate")] == ["migrate up", "migrate down"]


def test_a_build_that_fails_on_one_host_changes_none(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet[2].scripts["echo building"] = 1
    ended = fleet.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.build)
    assert "web2" in ended.error_message
    assert turns(fleet, ended.id) == []
    assert fleet.runs == ["a", "a", "a"]
    assert fleet.states() == ["current"] * 3


class NothingToDump:
    """A dumper that finds nothing."""

    suffix = ".dump"

    def dump(self, url: Any, file: str, *, timeout: float) -> Command:
        return Command(argv=("echo", '{"nothing": "it is empty"}'), timeout=timeout)


def test_a_unit_that_starts_too_slowly_after_a_backup_bars_the_commit(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet.dumpers = {"command": NothingToDump()}
    fleet.configure(database=Database(backup_before_deploy=True, backup_command="dump"))

    def slow(act: str) -> None:
        if act == "act":
            fleet[1].on_act = lambda _: None
            raise StepFailed(Cause.timeout, "cannot finish the restart within 90 s")

    fleet.at_turn_of("web1", lambda: setattr(fleet[1], "on_act", slow), step="restart")
    ended = fleet.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.timeout), ended.error_message
    assert fleet.store.fraise_status()[0]["quarantined_commits"] == [SHA_B]


def test_a_cancel_takes_back_what_was_brought_in(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet.wish(SHA_B)
    control = Control()
    fleet.on_event = lambda event, told: (
        control.cancel("ada") if told.get("host") == "web2" and told.get("step") == "restart" else None
    )
    ended = fleet.perform(control)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.cancelled)
    assert fleet.runs == ["a", "a", "a"]


def test_a_cancel_does_not_wait_for_the_pause_to_end(make: Make) -> None:
    fleet = make(rollout=Rollout(pause=3600.0))
    fleet.deploy  # noqa: B018 - nothing was deployed before
    control = Control()
    fleet.on_event = lambda event, told: (
        threading.Timer(0.05, control.cancel, ("ada",)).start()
        if (event, told.get("step")) == ("step_ended", "check_health")
        else None
    )
    fleet.wish(SHA_A)
    ended = fleet.perform(control)
    assert ended.cause is Cause.cancelled
    assert fleet.runs == ["-", "-", "-"]


# ------------------------------------------------------------------------------------------ hosts that are away


def test_a_host_that_is_away_from_the_start_is_named_if_that_is_allowed(make: Make) -> None:
    fleet = make(rollout=Rollout(max_failures=1))
    fleet.deploy(SHA_A)
    fleet[1].away = True
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.success
    assert "web1 cannot be reached, and is believed to run 1-aaaaaaaaaa" in ended.error_message
    assert fleet.runs == ["a", "b", "b"]
    assert fleet.states() == ["unreachable", "current", "current"]


def test_a_host_that_is_away_and_may_not_be_has_the_deployment_tried_again(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet[3].away = True
    fleet.wish(SHA_B)
    waiting = fleet.run(fleet.claim(), Control())
    assert waiting is not None
    assert (waiting.status, waiting.cause) == (Status.pending, Cause.network)
    assert fleet.states() == ["current", "current", "unreachable"]
    fleet[3].away = False
    fleet.until_due()
    assert fleet.perform().status is Status.success
    assert fleet.runs == ["b", "b", "b"]


def test_a_host_that_goes_away_in_its_turn_is_named_and_the_others_go_back(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet.at_turn_of("web2", lambda: setattr(fleet[2], "away", True))
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.rolled_back
    assert "web2 cannot be reached, and is believed to run 1-aaaaaaaaaa" in ended.error_message
    assert (fleet.runs[0], fleet.runs[2]) == ("a", "a")
    assert fleet.states() == ["current", "unreachable", "current"]
    assert fleet.store.fraise_status()[0]["quarantined_commits"] == []


def test_a_host_that_goes_away_behind_the_switch_is_believed_to_run_the_new_release(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet.at_turn_of("web2", lambda: setattr(fleet[2], "away", True), step="check_health")
    ended = fleet.deploy(SHA_B)
    assert "web2 cannot be reached, and is believed to run 2-bbbbbbbbbb" in ended.error_message
    assert fleet.runs == ["a", "b", "a"]


def test_where_nobody_can_be_reached_any_more_the_way_back_has_failed(make: Make) -> None:
    fleet = make(size=2)
    fleet.deploy(SHA_A)

    def cut() -> None:
        for host in fleet.hosts.values():
            host.away = True

    fleet.at_turn_of("web2", cut, step="restart")
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.rollback_failed
    assert "web1 cannot be reached, and is believed to run 2-bbbbbbbbbb" in ended.error_message
    assert "web2 cannot be reached" in ended.error_message


def test_a_host_that_cannot_go_back_is_broken_and_said_so(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet[1].unhealthy = {"a"}
    fleet[2].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.rollback_failed
    assert "web1 did not come back" in ended.error_message
    assert fleet.states() == ["broken", "current", "current"]


# ------------------------------------------------------------------------------------------ healing


def test_who_is_back_is_brought_to_what_the_environment_runs(make: Make) -> None:
    fleet = make(rollout=Rollout(max_failures=1))
    fleet.deploy(SHA_A)
    fleet[3].away = True
    fleet.deploy(SHA_B)
    before = fleet.store.fraise_status()[0]
    fleet[3].away = False
    ended = fleet.heal()
    assert (ended.status, ended.error_message, ended.trigger) == (Status.success, "", Trigger.heal)
    assert fleet.runs == ["b", "b", "b"]
    assert fleet[3].current == fleet[1].current
    assert fleet.states() == ["current"] * 3
    assert {step["host"] for step in fleet.store.steps(ended.id)} == {"", "web3"}
    after = fleet.store.fraise_status()[0]
    assert (after["current_deployment_id"], after["last_deployed"]) == (
        before["current_deployment_id"],
        before["last_deployed"],
    )
    assert after["healthy"] is True


def test_who_is_back_from_a_rollout_that_failed_goes_back_as_the_others_did(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet.at_turn_of("web2", lambda: setattr(fleet[2], "away", True), step="check_health")
    fleet.deploy(SHA_B)
    assert fleet.runs == ["a", "b", "a"]
    fleet[2].away = False
    assert fleet.heal().status is Status.success
    assert fleet.runs == ["a", "a", "a"]
    assert fleet.states() == ["current"] * 3


def test_who_is_back_from_a_first_deployment_that_failed_runs_nothing(fleet: Fleet) -> None:
    fleet.at_turn_of("web2", lambda: setattr(fleet[2], "away", True), step="check_health")
    assert fleet.deploy(SHA_A).status is Status.failed
    fleet[2].away = False
    assert fleet.heal().status is Status.success
    assert fleet.runs == ["-", "-", "-"]
    assert fleet.states() == ["unknown"] * 3


def test_who_was_only_away_is_looked_at_and_not_restarted(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet[2].away = True
    fleet.configure(retry_for=0.0)
    assert fleet.deploy(SHA_B).status is Status.failed
    assert fleet.states() == ["current", "unreachable", "current"]
    fleet[2].away = False
    starts = fleet[2].units.starts
    ended = fleet.heal()
    assert ended.status is Status.success
    assert (fleet[2].units.starts, fleet.states()) == (starts, ["current"] * 3)


def test_who_was_cut_off_on_the_way_back_is_restarted_when_it_is_back(fleet: Fleet) -> None:
    """Its link may say the right release while its unit still runs the other one."""
    fleet.deploy(SHA_A)
    fleet[3].unhealthy = {"b"}

    def cut(event: str, told: Any) -> None:
        if (event, told.get("phase"), told.get("step")) == ("step_started", "rollback", "restart"):
            fleet[1].away = fleet[1].away or told.get("host") == "web1"

    fleet.on_event = cut
    assert fleet.deploy(SHA_B).status is Status.rolled_back
    assert (fleet[1].current[:1], fleet.runs) == ("1", ["b", "a", "a"])
    fleet[1].away = False
    assert fleet.heal().status is Status.success
    assert fleet.runs == ["a", "a", "a"]


def test_an_environment_is_not_well_while_a_host_is_away(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet[2].away = True
    fleet.configure(retry_for=0.0)
    fleet.deploy(SHA_B)
    assert fleet.store.fraise_status()[0]["healthy"] is False
    fleet[2].away = False
    fleet.heal()
    assert fleet.store.fraise_status()[0]["healthy"] is True


def test_older_commands_of_a_host_end_before_anything_else_is_done_when_it_is_back(make: Make) -> None:
    fleet = make(rollout=Rollout(max_failures=1))
    fleet.deploy(SHA_A)
    fleet[3].away = True
    fleet.deploy(SHA_B)
    fleet[3].away, fleet[3].scopes = False, {"/srv/orders": 1}
    done: list[str] = []
    fleet[3].on_act = lambda act: done.append(f"{act} {len(fleet[3].scopes)}")
    fleet.heal()
    assert done[0] == "adopt 1"
    assert not [each for each in done[1:] if each.endswith("1")]
    assert fleet[3].token == fleet[1].token + 1


def test_a_host_that_is_still_away_stays_named(make: Make) -> None:
    fleet = make(rollout=Rollout(max_failures=2))
    fleet.deploy(SHA_A)
    fleet[2].away = fleet[3].away = True
    fleet.deploy(SHA_B)
    fleet[2].away = False
    ended = fleet.heal()
    assert ended.status is Status.success
    assert "web3 cannot be reached" in ended.error_message
    assert fleet.states() == ["current", "current", "unreachable"]


def test_a_release_that_does_not_work_on_a_host_that_is_back_is_no_reason_to_bar_it(make: Make) -> None:
    fleet = make(rollout=Rollout(max_failures=1))
    fleet.deploy(SHA_A)
    fleet[3].away = True
    fleet.deploy(SHA_B)
    fleet[3].away, fleet[3].unhealthy = False, {"b"}
    assert fleet.heal().status is Status.rolled_back
    assert fleet.runs == ["b", "b", "a"]
    row = fleet.store.fraise_status()[0]
    assert (row["quarantined_commits"], row["current_commit"]) == ([], SHA_B)
    assert fleet.rows()["web3"]["state"] == "behind"
    assert not [each for each in fleet.store.standings(fleet.environment.key) if each.is_healed_by_itself]


def test_a_host_that_was_away_at_the_takeover_is_taken_over_before_anything_is_done_there(
    fleet: Fleet,
) -> None:
    fleet.deploy(SHA_A)
    fleet.wish(SHA_B)
    claim = fleet.claim()

    def die() -> None:
        raise Death

    fleet.at_turn_of("web2", die, step="restart")
    with pytest.raises(Death):
        fleet.run(claim, Control())
    fleet[1].away, fleet[2].unhealthy = True, {"b"}
    fleet.store.register_worker("w2", info={})
    fleet.store.retire_worker("w")
    fleet.at_turn_of("web2", lambda: setattr(fleet[1], "away", False), step="check_health")
    ended = fleet.run(fleet.claim("w2"), Control())
    assert ended is not None
    assert (ended.status, fleet.runs) == (Status.rolled_back, ["a", "a", "a"])
    assert fleet[1].token == fleet[2].token == claim.token + 1


# ------------------------------------------------------------------------------------------ a person goes back


def test_a_person_goes_back_on_all_hosts_also_where_the_release_was_never_built(make: Make) -> None:
    fleet = make(size=2)
    first = fleet.deploy(SHA_A)
    fleet.deploy(SHA_B)
    fleet.add_host("web3")
    fleet.deploy(SHA_C)
    fleet.wish(SHA_A, trigger=Trigger.rollback, release=first.release)
    assert fleet.perform().status is Status.success
    assert fleet.runs == ["a", "a", "a"]
    assert {host.current for host in fleet.hosts.values()} == {first.release}


def test_a_release_that_is_nowhere_is_not_gone_back_to(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet.wish(SHA_B, trigger=Trigger.rollback, release="9-bbbbbbbbbb")
    ended = fleet.perform()
    assert (ended.status, ended.cause) == (Status.failed, Cause.preflight)
    assert "cannot go back to release 9-bbbbbbbbbb" in ended.error_message
    assert fleet.runs == ["a", "a", "a"]


def test_a_full_disk_on_one_host_is_tried_again_and_blames_no_commit(fleet: Fleet) -> None:
    fleet[2].scripts["echo building"] = StepFailed(Cause.disk, "cannot write: no space left")
    fleet.wish(SHA_A)
    waiting = fleet.run(fleet.claim(), Control())
    assert waiting is not None
    assert (waiting.status, waiting.cause) == (Status.pending, Cause.disk)


# ------------------------------------------------------------------------------------------ before the switch


def test_a_release_that_is_sick_beside_the_old_one_on_the_first_host_was_never_switched_to(
    make: Make,
) -> None:
    fleet = make(beside=True)
    fleet.deploy(SHA_A)
    fleet[1].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.unhealthy)
    assert turns(fleet, ended.id)[:2] == ["web1 restart", "web1 check_health"]
    assert fleet.runs == ["a", "a", "a"]
    assert [host.idle for host in fleet.hosts.values()] == [[], [], []]
    assert fleet.states() == ["current"] * 3
    row = fleet.store.fraise_status()[0]
    assert (row["healthy"], row["quarantined_commits"]) == (True, [SHA_B])


def test_one_that_is_sick_where_another_host_has_it_already_is_rolled_back(make: Make) -> None:
    fleet = make(beside=True)
    fleet.deploy(SHA_A)
    fleet[2].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.unhealthy)
    assert fleet.runs == ["a", "a", "a"]
    assert [host.idle for host in fleet.hosts.values()] == [[], [], []]


def test_a_cancel_beside_the_old_release_ends_cancelled(make: Make) -> None:
    fleet = make(beside=True)
    fleet.deploy(SHA_A)
    fleet.wish(SHA_B)
    control = Control()
    fleet.at_turn_of("web1", lambda: control.cancel("ada"), step="check_health")
    assert fleet.perform(control).status is Status.cancelled
    assert fleet.runs == ["a", "a", "a"]
    assert fleet[1].idle == []


def test_a_host_that_is_lost_beside_the_old_release_has_the_deployment_tried_again(make: Make) -> None:
    fleet = make(beside=True)
    fleet.deploy(SHA_A)
    fleet.at_turn_of("web1", lambda: setattr(fleet[1], "away", True), step="check_health")
    fleet.wish(SHA_B)
    waiting = fleet.run(fleet.claim(), Control())
    assert waiting is not None
    assert (waiting.status, waiting.cause) == (Status.pending, Cause.network)
    assert fleet.states() == ["unreachable", "current", "current"]
    fleet[1].away = False
    fleet.until_due()
    assert fleet.perform().status is Status.success
    assert fleet.runs == ["b", "b", "b"]
    assert fleet[1].idle == []


def test_a_database_goes_back_behind_an_instance_that_was_never_switched_to(make: Make) -> None:
    fleet = make(beside=True)
    base = SharedDatabase(fleet)
    fleet.deploy(SHA_A)
    base.wanted = ["1", "2"]
    fleet[1].unhealthy = {"b"}
    ended = fleet.deploy(SHA_B)
    assert ended.status is Status.failed
    assert (base.applied, fleet.runs) == (["1"], ["a", "a", "a"])


def test_too_many_workers_that_die_beside_the_old_release_end_it_failed(make: Make) -> None:
    fleet = make(beside=True)
    fleet.deploy(SHA_A)
    fleet.retries = replace(fleet.retries, most_interruptions=1)
    fleet.wish(SHA_B)

    def die() -> None:
        raise Death

    claim = fleet.claim()
    fleet.at_turn_of("web1", die, step="check_health")
    with pytest.raises(Death):
        fleet.run(claim, Control())
    fleet.store.hand_back(claim)
    ended = fleet.perform()
    assert (ended.status, ended.cause) == (Status.failed, Cause.interrupted)
    assert fleet.runs == ["a", "a", "a"]
    assert fleet[1].idle == []


def test_a_cancelled_deployment_whose_worker_died_early_leaves_the_hosts_alone(fleet: Fleet) -> None:
    fleet.deploy(SHA_A)
    fleet.deploy(SHA_B)
    asked = fleet.wish(SHA_C)
    fleet.repository.failures = [StepFailed(Cause.cancelled, "cannot fetch: it was cancelled")]
    claim, control = fleet.claim(), Control()

    def hear(event: str, told: Any) -> None:
        if (event, told.get("step")) == ("step_started", "fetch"):
            control.cancel("ada")
            fleet.store.cancel(asked, by="ada")
        if (event, told.get("step")) == ("step_ended", "fetch"):
            raise Death

    fleet.on_event = hear
    with pytest.raises(Death):
        fleet.run(claim, control)
    fleet.on_event = lambda *_: None
    fleet.store.hand_back(claim)
    control = Control()
    control.cancel("ada")
    ended = fleet.perform(control)
    assert ended.status is Status.cancelled
    assert fleet.runs == ["b", "b", "b"]
    assert fleet.states() == ["current"] * 3


# ------------------------------------------------------------------------------------------ old instances


def test_old_instances_run_until_every_host_has_the_release(make: Make) -> None:
    fleet = make(beside=True)
    first = fleet.deploy(SHA_A)
    seen: list[list[list[str]]] = []
    fleet.at_turn_of("web3", lambda: seen.append([host.idle for host in fleet.hosts.values()]))
    assert fleet.deploy(SHA_B).status is Status.success
    assert seen[0][:2] == [[f"orders.service@{first.release}"]] * 2
    assert [host.idle for host in fleet.hosts.values()] == [[], [], []]


@pytest.mark.parametrize("dies", [False, True])
def test_a_cancel_is_too_late_once_every_host_has_the_release(make: Make, dies: bool) -> None:
    fleet = make(beside=True, at_once=1)
    fleet.deploy(SHA_A)
    asked = fleet.wish(SHA_B)
    claim, control = fleet.claim(), Control()

    def cancel() -> None:
        fleet.store.cancel(asked, by="ada")
        control.cancel("ada")
        if dies:
            raise Death

    fleet.at_turn_of("web2", cancel, step="finish")
    if dies:
        with pytest.raises(Death):
            fleet.run(claim, control)
        fleet.store.hand_back(claim)
        claim = fleet.claim()
    ended = fleet.run(claim, control)
    assert ended is not None
    assert ended.status is Status.success
    assert fleet.runs == ["b", "b", "b"]
    assert [host.idle for host in fleet.hosts.values()] == [[], [], []]


def test_who_is_lost_in_its_turn_together_with_the_worker_blames_no_commit(make: Make) -> None:
    fleet = make(beside=True)
    fleet.deploy(SHA_A)
    fleet[1].lost_with = {"b"}
    fleet.wish(SHA_B)
    claim = fleet.claim()

    def hear(event: str, told: Any) -> None:
        if (event, told.get("step"), told.get("state")) == ("step_ended", "restart", "failed"):
            raise Death

    fleet.on_event = hear
    with pytest.raises(Death):
        fleet.run(claim, Control())
    fleet.on_event = lambda *_: None
    fleet.store.hand_back(claim)
    waiting = fleet.perform()
    assert (waiting.status, waiting.cause) == (Status.pending, Cause.network)
    assert fleet.store.fraise_status()[0]["quarantined_commits"] == []


@pytest.mark.parametrize("killed", [False, True])
def test_a_full_disk_in_a_hosts_turn_bars_no_commit_also_after_a_kill(fleet: Fleet, killed: bool) -> None:
    fleet.deploy(SHA_A)
    fleet.wish(SHA_B)
    claim = fleet.claim()

    def fill(act: str) -> None:
        if act == "point":
            fleet[1].on_act = lambda _: None
            raise OSError(errno.ENOSPC, "No space left on device")

    def hear(event: str, told: Any) -> None:
        if killed and (event, told.get("state")) == ("step_ended", "failed"):
            raise Death

    fleet[1].on_act, fleet.on_event = fill, hear
    if killed:
        with pytest.raises(Death):
            fleet.run(claim, Control())
        fleet.on_event = lambda *_: None
        fleet.store.hand_back(claim)
        claim = fleet.claim()
    ended = fleet.run(claim, Control())
    assert ended is not None
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.disk)
    assert fleet.runs == ["a", "a", "a"]
    assert fleet.store.fraise_status()[0]["quarantined_commits"] == []


# ------------------------------------------------------------------------------------------ secrets


class Watched(str):
    """A secret that tells when it is looked at for the second time, and waits for `goes_on` then."""

    def __new__(cls, text: str) -> Watched:
        made = super().__new__(cls, text)
        made.looks, made.seen, made.goes_on = 0, threading.Event(), threading.Event()
        return made

    looks: int
    seen: threading.Event
    goes_on: threading.Event

    def __hash__(self) -> int:
        self.looks += 1
        if self.looks == 2:
            self.seen.set()
            self.goes_on.wait(0.3)  # it may be that nobody else can go on before
        return super().__hash__()


def test_what_two_hosts_tell_at_the_same_time_is_kept_from_the_output_of_both(fleet: Fleet) -> None:
    fleet.wish(SHA_A)
    first, second = Watched("secret-of-web1"), "secret-of-web2"
    journal = Journal(fleet.store, fleet.claim(), Control(), Redactor([]), fleet.listen)
    journal.begin(fleet.codec.dump(fleet.environment))
    journal.learn = lambda host: [first] if host == "web1" else [second]

    def look(host: str) -> None:
        with journal.step(Step(name=StepName.preflight, acts=()), "", threading.Event(), host=host):
            pass

    other = threading.Thread(target=look, args=("web1",))
    other.start()
    assert first.seen.wait(60)
    look("web2")
    first.goes_on.set()
    other.join()
    assert "secret-of" not in journal.redact(f"{first!s} {second}")
