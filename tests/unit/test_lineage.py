"""A fetched commit is judged by ancestry beside what runs, not by when its push arrived."""

from fraisier.domain.deployment import Status, Trigger
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import OnForcePush
from fraisier.domain.lineage import Lineage, judge, touches
from tests.factories import SHA_A, SHA_B, SHA_C, environment


def lineage(**changes):
    facts = {"commit": SHA_B, "tip": SHA_B, "current": SHA_A, "is_descendant_of_current": True}
    return Lineage(**{**facts, **changes})


def test_a_descendant_is_deployed():
    assert judge(environment(), Trigger.webhook, lineage()) is None


def test_the_first_deployment_has_nothing_to_compare_with():
    assert judge(environment(), Trigger.webhook, lineage(current="", is_descendant_of_current=False)) is None


def test_a_late_delivery_of_an_ancestor_is_superseded():
    late = lineage(tip=SHA_C, is_ancestor_of_current=True, is_descendant_of_current=False)
    refusal = judge(environment(), Trigger.webhook, late)
    assert refusal is not None
    assert (refusal.status, refusal.cause) == (Status.superseded, Cause.older_than_current)


def test_an_ancestor_that_is_the_present_tip_is_a_force_push():
    forced = lineage(is_ancestor_of_current=True, is_descendant_of_current=False)
    assert judge(environment(), Trigger.webhook, forced) is None
    refusal = judge(environment(on_force_push=OnForcePush.refuse), Trigger.sweep, forced)
    assert refusal is not None
    assert refusal.cause is Cause.force_push_refused


def test_a_person_who_names_an_old_commit_gets_it():
    late = lineage(tip=SHA_C, is_ancestor_of_current=True, is_descendant_of_current=False)
    assert judge(environment(on_force_push=OnForcePush.refuse), Trigger.manual, late) is None


def test_a_push_that_touches_no_watched_path_is_cancelled():
    refusal = judge(environment(root="services/a"), Trigger.webhook, lineage(changed=["services/b/x.py"]))
    assert refusal is not None
    assert (refusal.status, refusal.cause) == (Status.cancelled, Cause.paths_unchanged)


def test_what_cannot_be_compared_is_deployed():
    assert judge(environment(root="services/a"), Trigger.webhook, lineage(changed=None)) is None


def test_paths_are_patterns_or_folders():
    watching = environment(paths=("src/*.py", "deploy/"))
    assert touches(watching, ["src/a.py"])
    assert touches(watching, ["deploy/unit.service"])
    assert not touches(watching, ["README.md", "src/a.txt", "deployment/x"])


def test_paths_win_over_root():
    watching = environment(root="services/a", paths=("libs/",))
    assert touches(watching, ["libs/x"])
    assert not touches(watching, ["services/a/x"])
