"""One table says which status may follow which, and what a wish leads to."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.domain.deployment import AUTOMATIC, MAY_FOLLOW, Status, Trigger, decide
from fraisier.domain.errors import Cause, ForbiddenTransition, StepFailed
from tests.factories import SHA_A, SHA_B, wish

FINAL = {"success", "failed", "rolled_back", "rollback_failed", "cancelled", "superseded"}


@dataclass(frozen=True)
class Earlier:
    id: str
    status: str
    trigger: str
    commit: str


def test_the_spelling_is_the_contract():
    assert [s.value for s in Status] == [
        "pending", "running", "success", "failed", "rolled_back", "rollback_failed", "cancelled", "superseded",
    ]  # fmt: skip


def test_every_status_has_its_row_and_ended_ones_stay():
    assert set(MAY_FOLLOW) == set(Status)
    assert {s.value for s in Status if s.is_final} == FINAL


@given(st.sampled_from(Status), st.sampled_from(Status))
def test_only_what_the_table_allows_follows(before, after):
    if after in MAY_FOLLOW[before]:
        assert before.check(after) is after
    else:
        with pytest.raises(ForbiddenTransition, match="cannot change"):
            before.check(after)


@given(st.lists(st.sampled_from(Status), max_size=12))
def test_no_walk_leaves_a_final_status(walk):
    status = Status.pending
    for following in walk:
        if following in MAY_FOLLOW[status]:
            assert not status.is_final
            status = following


def test_a_push_of_what_was_asked_for_last_asks_for_nothing():
    newest = Earlier("1", "success", "webhook", SHA_A)
    assert decide(wish(SHA_A), newest, [], quarantined=False).reason == "already_requested"


def test_pushes_a_b_a_deploy_a_twice():
    newest = Earlier("2", "pending", "webhook", SHA_B)
    decision = decide(wish(SHA_A), newest, [newest], quarantined=False)
    assert decision.requested
    assert decision.superseded == ("2",)


@pytest.mark.parametrize("trigger", [Trigger.manual, Trigger.api, Trigger.rollback, Trigger.scheduled])
def test_a_person_may_ask_for_the_same_again(trigger):
    newest = Earlier("1", "failed", "webhook", SHA_A)
    assert decide(wish(SHA_A, trigger=trigger), newest, [], quarantined=False, refused=True).requested


@pytest.mark.parametrize("trigger", sorted(set(Trigger) - {Trigger.rollback, Trigger.heal}))
def test_a_quarantined_commit_is_deployed_only_by_force(trigger):
    assert decide(wish(SHA_A, trigger=trigger), None, [], quarantined=True).reason == "quarantined"
    assert decide(wish(SHA_A, trigger=trigger, force=True), None, [], quarantined=True).requested


def test_a_way_back_is_never_barred():
    assert decide(wish(SHA_A, trigger=Trigger.rollback), None, [], quarantined=True).requested


@pytest.mark.parametrize("trigger", sorted(AUTOMATIC))
def test_a_refused_force_push_is_not_deployed_by_itself(trigger):
    assert decide(wish(SHA_A, trigger=trigger), None, [], quarantined=False, refused=True).reason == "refused"


def test_a_manual_deployment_that_waits_is_not_superseded_by_a_push():
    manual = Earlier("1", "pending", "manual", SHA_B)
    pushed = Earlier("2", "pending", "webhook", SHA_B)
    assert decide(wish(SHA_A), pushed, [manual, pushed], quarantined=False).superseded == ("2",)


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause.is_retried or "interrupted" in cause])
def test_who_fails_without_a_word_of_advice_is_given_one(cause: Cause) -> None:
    assert StepFailed(cause, "cannot go on").hint
    assert StepFailed(cause, "cannot go on", "Do this").hint == "Do this"
