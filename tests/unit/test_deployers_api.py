"""What the deployment of a web service consists of, and the way back."""

import pytest

from fraisier.deployers.api import plan_deployment, plan_return, plan_rollback
from fraisier.deployers.common import Parts, candidate, command_env
from fraisier.domain.acts import CheckHealth, Command, Seal, Switch, UnitCommand
from fraisier.domain.fraise import BuildCommand, HealthCheck, TargetSpec
from fraisier.domain.plan import Phase, StepName, TargetActs
from fraisier.domain.secret import Secret
from tests.factories import SHA_A, environment

RESET = UnitCommand(argv=("systemctl", "reset-failed", "orders.service"), allow_failure=True)
RESTART = UnitCommand(argv=("systemctl", "restart", "orders.service"))
STOP = UnitCommand(argv=("systemctl", "stop", "orders.service"))
TARGET = TargetActs(release_failure=(RESET,), restart=(RESTART,), stop=(STOP,))
UP, DOWN = (Command(argv=(name,)) for name in ("up", "down"))
FULL = environment(
    user="orders",
    shared=(".env", "uploads/"),
    build=(BuildCommand(run="make", timeout=60),),
    target=TargetSpec(kind="systemd", unit="orders.service"),
    health_check=HealthCheck(url="http://127.0.0.1:8000/health"),
    env={"COLOUR": "red", "TOKEN": Secret("hunter2")},
)
RELEASE = candidate(FULL, "7-aaaaaaaaaa", SHA_A, "refs/heads/main")


def names(plan):
    return [step.name.value for step in plan.steps]


def test_a_full_deployment_has_the_steps_of_the_contract_in_order():
    plan = plan_deployment(FULL, RELEASE, Parts(target=TARGET, migrate_up=(UP,)))
    assert names(plan) == [
        "preflight", "fetch", "prepare", "link_shared", "build", "migrate",
        "activate", "restart", "check_health", "finish",
    ]  # fmt: skip


def test_without_a_unit_files_are_switched_and_nothing_is_restarted():
    plan = plan_deployment(environment(), candidate(environment(), "1-aaaaaaaaaa", SHA_A), Parts())
    assert names(plan) == ["preflight", "fetch", "prepare", "build", "activate", "finish"]


def test_a_release_is_sealed_after_it_is_built_and_before_it_is_switched_to():
    plan = plan_deployment(FULL, RELEASE, Parts(target=TARGET))
    acts = [act for step in plan.steps for act in step.acts]
    kinds = [type(act) for act in acts]
    assert kinds.index(Command) < kinds.index(Seal) < kinds.index(Switch)


def test_a_build_runs_as_the_user_in_the_release_with_its_environment_only():
    plan = plan_deployment(FULL, RELEASE, Parts())
    command = next(act for step in plan.steps for act in step.acts if isinstance(act, Command))
    assert (command.user, command.cwd, command.timeout) == (
        "orders",
        "/var/www/orders/releases/7-aaaaaaaaaa",
        60,
    )
    assert command.background  # the old release still serves
    assert set(command.env) == {"COLOUR", "TOKEN", "FRAISIER_COMMIT", "FRAISIER_REF", "FRAISIER_RELEASE"}
    assert command_env(FULL, RELEASE)["FRAISIER_REF"] == "refs/heads/main"


def test_a_failed_state_is_cleared_before_each_restart():
    for plan in (
        plan_deployment(FULL, RELEASE, Parts(target=TARGET)),
        plan_return(FULL, RELEASE, Parts(target=TARGET)),
        plan_rollback(FULL, "6-bbbbbbbbbb", Parts(target=TARGET)),
    ):
        restart = next(step for step in plan.steps if step.name is StepName.restart)
        assert restart.acts == (RESET, RESTART)


def test_the_way_back_brings_the_code_back_before_the_restart():
    plan = plan_rollback(FULL, "6-bbbbbbbbbb", Parts(target=TARGET, migrate_down=(DOWN,)))
    assert names(plan) == ["migrate", "activate", "restart", "check_health"]
    assert {step.phase for step in plan.steps} == {Phase.rollback}
    switch = plan.steps[1].acts[0]
    assert isinstance(switch, Switch)
    assert switch.to == "releases/6-bbbbbbbbbb"


def test_the_way_back_from_a_first_deployment_stops_the_unit_and_removes_current():
    plan = plan_rollback(FULL, "", Parts(target=TARGET))
    assert names(plan) == ["restart", "activate"]
    assert STOP in plan.steps[0].acts
    assert plan.steps[1].acts == (Switch(release="", current="/var/www/orders/current", to=""),)


def test_the_plan_can_be_shown_as_commands_without_secrets():
    plan = plan_deployment(FULL, RELEASE, Parts(target=TARGET, migrate_up=(UP,), migrate_down=(DOWN,)))
    lines = [act.describe() for step in plan.steps for act in step.acts]
    assert "sudo -u orders make    # in /var/www/orders/releases/7-aaaaaaaaaa" in lines
    assert "systemctl restart orders.service" in lines
    assert not any("hunter2" in line for line in lines)


@pytest.mark.parametrize("check", [None, HealthCheck(tcp="127.0.0.1:1"), HealthCheck(command="true")])
def test_health_is_described_whatever_it_is(check):
    assert CheckHealth(check=check).describe()
