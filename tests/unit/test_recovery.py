"""What a deployment whose worker died goes on with, for a death at every place."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Cutover
from fraisier.domain.migration import Story
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.recovery import MOST_INTERRUPTIONS, Course, resume

FORWARD = [
    StepName.preflight, StepName.fetch, StepName.prepare, StepName.link_shared, StepName.build, StepName.migrate,
    StepName.activate, StepName.restart, StepName.check_health, StepName.finish,
]  # fmt: skip


@dataclass(frozen=True)
class Entry:
    name: StepName
    state: StepState = StepState.success
    phase: Phase = Phase.deploy
    attempt: int = 1
    release: str = "7-abc"
    error: str = ""
    cause: Cause | None = None
    hint: str = ""
    host: str = ""
    retried: bool = False


def until(name: StepName, state: StepState) -> list[Entry]:
    """A journal whose last entry is `name` in `state`, all before it well."""
    before = FORWARD[: FORWARD.index(name)]
    return [*map(Entry, before), Entry(name, state)]


def test_an_empty_journal_starts_at_the_first_step():
    assert resume([]).course is Course.start_over


@pytest.mark.parametrize("name", FORWARD[:5])
@pytest.mark.parametrize("state", [StepState.running, StepState.interrupted, StepState.success])
def test_a_death_before_the_migration_starts_over_in_a_new_folder(name, state):
    assert resume(until(name, state)).course is Course.start_over


@pytest.mark.parametrize("state", [StepState.running, StepState.interrupted])
def test_an_interrupted_migration_is_never_repeated(state):
    resumption = resume(until(StepName.migrate, state))
    assert (resumption.course, resumption.cause) == (Course.conclude, Cause.migration_interrupted)
    assert "between" in resumption.error


def test_a_migration_that_somebody_stopped_is_concluded_and_said():
    resumption = resume(until(StepName.migrate, StepState.cancelled))
    assert (resumption.course, resumption.cause) == (Course.conclude, Cause.cancelled)
    assert "between" in resumption.error
    assert "between" not in resume(until(StepName.build, StepState.cancelled)).error


def test_a_migration_that_was_done_is_not_done_again():
    resumption = resume(until(StepName.migrate, StepState.success))
    assert (resumption.course, resumption.release, resumption.migrated) == (Course.go_on, "7-abc", True)


@pytest.mark.parametrize("name", FORWARD[6:])
@pytest.mark.parametrize("state", [StepState.running, StepState.interrupted, StepState.success])
def test_a_death_at_or_after_the_switch_goes_on_with_the_same_release(name, state):
    resumption = resume(until(name, state))
    assert (resumption.course, resumption.release) == (Course.go_on, "7-abc")


@pytest.mark.parametrize("name", [StepName.restart, StepName.check_health])
def test_a_release_that_had_failed_is_rolled_back(name):
    journal = until(name, StepState.failed)
    assert resume(journal).course is Course.roll_back


def test_a_migration_that_failed_only_lacks_its_ending():
    resumption = resume(until(StepName.migrate, StepState.failed))
    assert (resumption.course, resumption.cause) == (Course.conclude, Cause.migration)


@pytest.mark.parametrize("name", FORWARD[:5])
def test_a_failure_before_the_migration_whose_cause_nobody_noted_is_tried_again(name):
    assert resume(until(name, StepState.failed)).course is Course.start_over
    assert resume(until(name, StepState.cancelled)).course is Course.conclude


def failed(name: StepName, cause: Cause, **fields: str) -> list[Entry]:
    """A journal whose last entry failed for a cause that was noted."""
    *before, last = until(name, StepState.failed)
    return [*before, replace(last, cause=cause, error="cannot", hint="Do", **fields)]


RETRIED = [cause for cause in Cause if cause.is_retried]


@pytest.mark.parametrize("name", [*FORWARD[:5], StepName.migrate])
@pytest.mark.parametrize("cause", RETRIED)
def test_what_blames_no_commit_and_left_nothing_is_begun_again(name, cause):
    assert resume(failed(name, cause), database=Story()).course is Course.start_over


@pytest.mark.parametrize("name", FORWARD[:6])
@pytest.mark.parametrize("cause", [Cause.build, Cause.timeout, Cause.commit_not_found, Cause.backup])
def test_what_blames_somebody_only_lacks_its_ending(name, cause):
    resumption = resume(failed(name, cause), database=Story())
    assert (resumption.course, resumption.cause, resumption.failed_at) == (Course.conclude, cause, name)
    assert (resumption.error, resumption.hint) == ("cannot", "Do")


@pytest.mark.parametrize("database", [None, Story(planned=True)], ids=["no notes", "planned"])
@pytest.mark.parametrize("cause", RETRIED)
def test_a_migration_that_had_begun_is_not_repeated_whatever_stopped_it(cause, database):
    resumption = resume(failed(StepName.migrate, cause), database=database)
    assert (resumption.course, resumption.cause) == (Course.conclude, cause)


@pytest.mark.parametrize("cause", [*RETRIED, Cause.restart])
def test_behind_the_switch_the_cause_is_the_one_that_was_noted(cause):
    resumption = resume(failed(StepName.restart, cause))
    assert (resumption.course, resumption.cause) == (Course.roll_back, cause)


@pytest.mark.parametrize(("cause", "course"), [(Cause.disk, Course.retry), (Cause.restart, Course.conclude)])
def test_an_instance_beside_is_stopped_before_its_release_is_tried_again(cause, course):
    """Also where that had begun already."""
    beside = [*until(StepName.migrate, StepState.success), *failed(StepName.restart, cause)[-1:]]
    stopping = [*beside, Entry(StepName.finish, StepState.running, Phase.rollback)]
    for journal in (beside, stopping):
        assert resume(journal, Cutover.blue_green).course is course


def test_who_takes_the_database_back_does_not_try_again():
    journal = [
        *until(StepName.migrate, StepState.success),
        *failed(StepName.restart, Cause.disk)[-1:],
        Entry(StepName.migrate, StepState.running, Phase.rollback),
    ]
    assert resume(journal, Cutover.blue_green).course is Course.conclude


def test_what_failed_on_one_host_of_several_ends_nothing():
    assert resume(failed(StepName.build, Cause.build, host="web1")).course is Course.start_over


def test_a_way_back_that_had_begun_is_gone_to_its_end():
    journal = [
        *until(StepName.check_health, StepState.failed)[:-1],
        Entry(StepName.check_health, StepState.failed, error="HTTP 503"),
        Entry(StepName.activate, StepState.running, Phase.rollback, release="6-old"),
    ]
    resumption = resume(journal)
    assert (resumption.course, resumption.cause) == (Course.roll_back, Cause.unhealthy)
    assert (resumption.release, resumption.error) == ("7-abc", "HTTP 503")


def test_a_database_that_was_taken_back_is_not_taken_back_twice():
    journal = [
        *until(StepName.restart, StepState.failed),
        Entry(StepName.migrate, StepState.success, Phase.rollback),
        Entry(StepName.activate, StepState.running, Phase.rollback),
    ]
    assert resume(journal).undone


def test_a_retry_remembers_the_migration_of_an_earlier_attempt():
    journal = [
        *until(StepName.migrate, StepState.success),
        Entry(StepName.preflight, StepState.running, attempt=2),
    ]
    resumption = resume(journal)
    assert (resumption.course, resumption.migrated) == (Course.start_over, True)


def test_an_attempt_that_was_to_be_tried_again_is_tried_again():
    journal = [replace(entry, retried=True) for entry in until(StepName.fetch, StepState.failed)]
    assert resume(journal).course is Course.start_over


def test_a_second_try_that_dies_is_not_judged_by_the_first():
    first = [replace(entry, retried=True) for entry in until(StepName.build, StepState.failed)]
    second = [replace(entry, attempt=2) for entry in until(StepName.fetch, StepState.running)]
    assert resume([*first, *second]).course is Course.start_over


def test_a_way_down_that_was_interrupted_is_never_repeated():
    journal = [
        *until(StepName.restart, StepState.failed),
        Entry(StepName.migrate, StepState.interrupted, Phase.rollback),
    ]
    resumption = resume(journal)
    assert (resumption.course, resumption.undone, resumption.torn) == (Course.roll_back, True, True)


def test_only_the_database_is_taken_back_where_nothing_was_switched():
    journal = [
        *until(StepName.migrate, StepState.success),
        Entry(StepName.migrate, StepState.success, Phase.rollback),
    ]
    resumption = resume(journal)
    assert (resumption.course, resumption.undone) == (Course.conclude, True)


@pytest.mark.parametrize(
    ("name", "course"), [(StepName.build, Course.conclude), (StepName.restart, Course.roll_back)]
)
def test_a_deployment_that_takes_its_workers_along_is_not_tried_for_ever(name, course):
    journal = until(name, StepState.interrupted)
    assert resume(journal, interruptions=MOST_INTERRUPTIONS - 1).course not in (course,)
    resumption = resume(journal, interruptions=MOST_INTERRUPTIONS)
    assert (resumption.course, resumption.cause) == (course, Cause.interrupted)


_entries = st.builds(
    Entry,
    st.sampled_from(StepName),
    st.sampled_from(StepState),
    st.sampled_from(Phase),
    st.integers(1, 3),
    cause=st.none() | st.sampled_from(Cause),
    host=st.sampled_from(["", "web1"]),
    retried=st.booleans(),
)


@given(st.lists(_entries, max_size=15))
def test_every_journal_has_a_way_on(journal):
    resumption = resume(sorted(journal, key=lambda entry: entry.attempt))
    if resumption.course in (Course.conclude, Course.roll_back):
        assert resumption.cause is not None
