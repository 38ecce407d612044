"""What the deployment of a backup consists of: its scripts come in, and nothing is dumped."""

from __future__ import annotations

import pytest

from fraisier.application.request_deployment import full_ref
from fraisier.deployers.by_type import deployer_of
from fraisier.deployers.common import Parts, candidate
from fraisier.domain.acts import Command, Prove, Prune, Switch
from fraisier.domain.errors import UsageError
from fraisier.domain.fraise import BuildCommand, Cutover, FraiseType
from fraisier.domain.plan import Phase
from tests.factories import SHA_A, environment, source

BACKUP = environment(type=FraiseType.backup, cutover=Cutover.trial, user="dumps")
RELEASE = candidate(BACKUP, "7-aaaaaaaaaa", SHA_A, "refs/heads/main")


def names(plan):
    return [step.name.value for step in plan.steps]


def test_scripts_are_switched_and_no_backup_is_made():
    plan = deployer_of(BACKUP).plan_deployment(BACKUP, RELEASE, Parts())
    assert names(plan) == ["preflight", "fetch", "prepare", "build", "activate", "finish"]
    commands = [act for step in plan.steps for act in step.acts if isinstance(act, Command)]
    assert commands == []
    assert [type(act) for act in plan.steps[-1].acts] == [Prove, Prune]


def test_they_are_tried_before_the_switch_where_that_is_wanted():
    tried = environment(
        type=FraiseType.backup, cutover=Cutover.trial, smoke=BuildCommand(run="sh -n dump.sh")
    )
    plan = deployer_of(tried).plan_deployment(tried, RELEASE, Parts())
    assert names(plan).index("check_health") < names(plan).index("activate")


def test_the_way_back_is_a_switch():
    plan = deployer_of(BACKUP).plan_rollback(BACKUP, "6-bbbbbbbbbb", Parts())
    assert plan.release == "6-bbbbbbbbbb"
    assert {step.phase for step in plan.steps} == {Phase.rollback}
    assert [act.release for step in plan.steps for act in step.acts if isinstance(act, Switch)] == [
        "6-bbbbbbbbbb"
    ]
    back = deployer_of(BACKUP).plan_return(BACKUP, RELEASE, Parts())
    assert "activate" in names(back)


def test_without_a_repository_there_is_nothing_to_deploy():
    bare = environment(type=FraiseType.backup, source=source(repository="", clone_url=""), branch="")
    assert not bare.deploys
    with pytest.raises(UsageError, match="it has no repository") as error:
        full_ref(bare, "", needed=True)
    assert "fraisier backup run orders production" in error.value.hint
