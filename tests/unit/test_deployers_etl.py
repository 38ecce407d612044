"""What the deployment of a pipeline consists of: it is tried before anything uses it."""

from dataclasses import replace

import pytest

from fraisier.deployers import by_type
from fraisier.deployers.common import Parts, candidate
from fraisier.deployers.etl import plan_deployment, plan_return, plan_rollback
from fraisier.domain.acts import Command, Prove, Prune, Switch, UnitCommand
from fraisier.domain.cutover_cost import risk_of
from fraisier.domain.fraise import BuildCommand, Cutover, FraiseType
from fraisier.domain.job import Job, OnRunning
from fraisier.domain.job_acts import HoldRuns
from fraisier.domain.plan import BRING_IN, Phase, StepName, StepState, TargetActs
from fraisier.domain.recovery import Course, resume
from fraisier.domain.secret import Secret
from tests.factories import SHA_A, environment

UP, DOWN = (Command(argv=(name,)) for name in ("up", "down"))
TIMERS, STOP = (UnitCommand(argv=("systemctl", word, "nightly.timer")) for word in ("restart", "stop"))
ETL = environment(
    type=FraiseType.etl,
    cutover=Cutover.trial,
    user="etl",
    smoke=BuildCommand(run="python load.py --dry-run", timeout=60),
    env={"TOKEN": Secret("hunter2")},
)
RELEASE = candidate(ETL, "7-aaaaaaaaaa", SHA_A, "refs/heads/main")


def names(plan):
    return [step.name.value for step in plan.steps]


def test_a_release_is_migrated_for_and_tried_before_it_is_switched_to():
    plan = plan_deployment(ETL, RELEASE, Parts(migrate_up=(UP,)))
    assert names(plan) == [
        "preflight", "fetch", "prepare", "build", "migrate", "check_health", "activate", "finish",
    ]  # fmt: skip


def test_it_is_tried_in_its_own_folder_as_the_user_within_its_time():
    step = next(s for s in plan_deployment(ETL, RELEASE, Parts()).steps if s.name is StepName.check_health)
    (smoke,) = step.acts
    assert isinstance(smoke, Command)
    assert smoke.argv == ("/bin/sh", "-c", "python load.py --dry-run")
    assert (smoke.cwd, smoke.user, smoke.timeout) == (RELEASE.folder, "etl", 60)
    assert smoke.env["FRAISIER_RELEASE"] == RELEASE.name


def test_it_is_tried_with_the_parameters_that_a_run_has_where_none_are_given():
    """Or a script that reads them fails its trial, and its commit is not deployed again."""
    job = Job(name="main", run="load", parameters={"day": "yesterday", "mode": None})
    plan = plan_deployment(replace(ETL, jobs={"main": job}), RELEASE, Parts())
    step = next(step for step in plan.steps if step.name is StepName.check_health)
    told = {name: value for name, value in step.acts[0].env.items() if "PARAM" in name or "JOB" in name}
    assert told == {"FRAISIER_JOB": "main", "FRAISIER_PARAM_DAY": "yesterday"}


def test_the_pipeline_itself_is_not_run():
    plan = plan_deployment(environment(type=FraiseType.etl, cutover=Cutover.trial), RELEASE, Parts())
    assert not [act for step in plan.steps for act in step.acts if isinstance(act, Command)]


def test_what_is_good_is_noted_and_old_releases_go():
    finish = plan_deployment(ETL, RELEASE, Parts()).steps[-1]
    assert [type(act) for act in finish.acts] == [Prove, Prune]


def test_the_health_of_nothing_is_waited_for_after_the_switch():
    switches = [
        act
        for plan in (plan_deployment(ETL, RELEASE, Parts()), plan_rollback(ETL, "6-bbbbbbbbbb", Parts()))
        for step in plan.steps
        for act in step.acts
        if isinstance(act, Switch)
    ]
    assert [act.restarts for act in switches] == [False, False]


def test_a_person_goes_back_to_a_release_without_trying_it_again():
    plan = plan_return(ETL, RELEASE, Parts(migrate_down=(DOWN,)))
    assert names(plan) == ["preflight", "migrate", "activate", "finish"]


def test_the_way_back_takes_the_database_back_before_the_code():
    plan = plan_rollback(
        ETL, "6-bbbbbbbbbb", Parts(migrate_down=(DOWN,), target=TargetActs(restart=(TIMERS,)))
    )
    assert names(plan) == ["migrate", "activate", "restart"]
    assert {step.phase for step in plan.steps} == {Phase.rollback}


def test_the_way_back_from_a_first_deployment_stops_what_it_started_and_removes_current():
    plan = plan_rollback(ETL, "", Parts(target=TargetActs(stop=(STOP,))))
    assert names(plan) == ["restart", "activate"]
    switch = plan.steps[-1].acts[0]
    assert isinstance(switch, Switch)
    assert switch.release == ""


def test_every_type_has_a_deployer():
    for each in FraiseType:
        assert by_type.deployer_of(environment(type=each)).plan_deployment


class Journaled:
    attempt, phase, release, error, retried = 1, Phase.deploy, RELEASE.name, "", False
    cause, hint, host = None, "", ""

    def __init__(self, name, state=StepState.interrupted):
        self.name, self.state = name, state


@pytest.mark.parametrize(
    ("step", "state", "course", "switched"),
    [
        (StepName.build, StepState.interrupted, Course.start_over, False),
        (StepName.check_health, StepState.interrupted, Course.go_on, False),
        (StepName.check_health, StepState.failed, Course.conclude, False),
        (StepName.activate, StepState.interrupted, Course.go_on, True),
        (StepName.restart, StepState.failed, Course.roll_back, True),
    ],
)
def test_a_failed_trial_leaves_current_alone_whoever_goes_on(step, state, course, switched):
    found = resume([Journaled(step, state)], Cutover.trial)
    assert (found.course, found.switched) == (course, switched)


def test_who_goes_on_after_the_build_finds_a_step_even_where_nothing_is_tried():
    """Without a smoke command there is no check_health to go on from."""
    plan = plan_deployment(environment(type=FraiseType.etl, cutover=Cutover.trial), RELEASE, Parts())
    assert [s.name for s in plan.after(*BRING_IN[Cutover.trial])] == [StepName.activate, StepName.finish]


@pytest.mark.parametrize("how", [OnRunning.wait, OnRunning.cancel])
def test_runs_are_dealt_with_after_the_trial_and_before_the_switch(how):
    pipeline = replace(ETL, jobs={"main": Job(name="main", run="load")}, on_running=how)
    for plan in (plan_deployment(pipeline, RELEASE, Parts()), plan_return(pipeline, RELEASE, Parts())):
        steps = {step.name: step.acts for step in plan.steps}
        assert steps[StepName.check_health][-1] == HoldRuns(on_running=how)
        assert names(plan).index("check_health") < names(plan).index("activate")
    assert steps[StepName.check_health] == (HoldRuns(on_running=how),), "what was good is not tried again"


@pytest.mark.parametrize("how", [OnRunning.wait, OnRunning.cancel])
def test_runs_are_dealt_with_before_the_database_changes_or_is_backed_up(how):
    pipeline = replace(ETL, jobs={"main": Job(name="main", run="load")}, on_running=how)
    plan = plan_deployment(pipeline, RELEASE, Parts(backup=(DOWN,), migrate_up=(UP,)))
    steps = {step.name: step.acts for step in plan.steps}
    assert steps[StepName.backup] == (HoldRuns(on_running=how), DOWN)
    assert names(plan).index("backup") < names(plan).index("migrate")
    assert steps[StepName.migrate] == (UP,)
    assert steps[StepName.check_health][-1] == HoldRuns(on_running=how), "another try does not migrate again"
    back = plan_return(pipeline, RELEASE, Parts(migrate_down=(DOWN,)))
    assert names(back)[:4] == ["preflight", "backup", "migrate", "check_health"]


def test_a_backup_without_a_migration_holds_nothing_back():
    pipeline = replace(ETL, jobs={"main": Job(name="main", run="load")})
    plan = plan_deployment(pipeline, RELEASE, Parts(backup=(DOWN,)))
    assert next(step.acts for step in plan.steps if step.name is StepName.backup) == (DOWN,)


def test_who_lets_runs_go_on_beneath_a_migration_is_told():
    pipeline = replace(ETL, jobs={"main": Job(name="main", run="load")})
    plan = plan_deployment(pipeline, RELEASE, Parts(migrate_up=(UP,)))
    going_on = replace(pipeline, on_running=OnRunning.new_release_next)
    assert risk_of(pipeline, plan) == ""
    assert "while the database is migrated" in risk_of(going_on, plan)
    assert risk_of(going_on, plan_deployment(going_on, RELEASE, Parts())) == ""


def test_runs_are_left_alone_where_the_next_one_has_the_new_release():
    jobs = {"main": Job(name="main", run="load")}
    pipeline = replace(ETL, jobs=jobs, on_running=OnRunning.new_release_next)
    acts = [a for step in plan_deployment(pipeline, RELEASE, Parts()).steps for a in step.acts]
    assert not [act for act in acts if isinstance(act, HoldRuns)]
    without = plan_deployment(ETL, RELEASE, Parts()).steps
    assert not [act for step in without for act in step.acts if isinstance(act, HoldRuns)]
