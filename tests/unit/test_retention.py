"""Which copies of backups go, and which never do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fraisier.domain.backup import Copy, CopyState, Retention, backup_name, made_at_of
from fraisier.domain.retention import kept, newest_verified, to_forget, to_prune

DAY = 86400.0
START = datetime(2026, 1, 1, 2, 30, tzinfo=UTC).timestamp()


def copy(day: float, **changes: object) -> Copy:
    made_at = START + day * DAY
    name = backup_name(made_at, f"{int(day * 1000):032x}")
    base = Copy(destination="disk", name=name, made_at=made_at, state=CopyState.whole)
    return replace(base, **changes)  # type: ignore[arg-type]


def days(names: list[str] | set[str]) -> list[float]:
    return sorted((made_at_of(name) - START) / DAY for name in names)


def test_the_newest_are_kept() -> None:
    assert days(kept([copy(day) for day in range(10)], Retention(last=3))) == [7, 8, 9]


def test_of_each_day_week_and_month_the_newest_is_kept() -> None:
    copies = [copy(day / 2) for day in range(2 * 120)]
    assert days(kept(copies, Retention(last=0, daily=3))) == [117.5, 118.5, 119.5]
    # 1 January 2026 is a Thursday: weeks end on days 3, 10, …; the last one is unfinished.
    assert days(kept(copies, Retention(last=0, weekly=3))) == [108.5, 115.5, 119.5]
    assert days(kept(copies, Retention(last=0, monthly=3))) == [58.5, 89.5, 119.5]


def test_days_without_backups_do_not_count() -> None:
    copies = [copy(0), copy(30), copy(60)]
    assert days(kept(copies, Retention(last=0, daily=2))) == [30, 60]


def test_a_week_that_lies_in_two_years_is_one() -> None:
    copies = [copy(-2), copy(0)]  # 30 December 2025 and 1 January 2026
    assert days(kept(copies, Retention(last=0, weekly=2))) == [0]


def test_what_no_rule_keeps_goes_oldest_first() -> None:
    copies = [copy(day) for day in (3, 1, 2, 0)]
    assert to_prune(copies, Retention(last=2), verified="") == [copy(0).name, copy(1).name]


def test_without_rules_everything_stays() -> None:
    assert to_prune([copy(day) for day in range(9)], Retention(last=0), verified="") == []


def test_nothing_goes_before_a_good_one_is_there() -> None:
    old = [copy(day) for day in range(5)]
    for bad in (
        copy(5, state=CopyState.damaged),
        copy(5, state=CopyState.unknown),
        copy(5, flaw="it could not be restored"),
    ):
        assert to_prune([*old, bad], Retention(last=1), verified="") == []
    assert len(to_prune([*old, copy(5)], Retention(last=1), verified="")) == 5


def test_the_last_verified_one_stays_however_old() -> None:
    copies = [copy(0, verified_at=START), *(copy(day) for day in range(1, 5))]
    assert copies[0].name not in to_prune(copies, Retention(last=1), verified="")
    elsewhere = [copy(day) for day in range(5)]
    assert to_prune(elsewhere, Retention(last=1), verified=copy(2).name) == [
        copy(0).name,
        copy(1).name,
        copy(3).name,
    ]


def test_damaged_ones_do_not_take_the_place_of_good_ones() -> None:
    damaged = [copy(day, state=CopyState.damaged) for day in (5, 6, 7)]
    copies = [*(copy(day) for day in range(5)), *damaged, copy(8)]
    gone = set(to_prune(copies, Retention(last=4), verified=""))
    assert {copy(day).name for day in (2, 3, 4, 8)}.isdisjoint(gone)
    assert {copy(5).name, copy(6).name, copy(7).name}.isdisjoint(gone)  # no older than what is kept
    assert {copy(0).name, copy(1).name} == gone


def test_what_nobody_has_looked_at_and_safety_copies_stay() -> None:
    copies = [copy(0, state=CopyState.unknown), copy(1, safety=True), copy(2), copy(3)]
    assert to_prune(copies, Retention(last=1), verified="") == [copy(2).name]


def test_safety_copies_take_no_backups_place() -> None:
    restored = [copy(day, safety=True) for day in (5, 6, 7, 8)]
    copies = [*(copy(day) for day in range(5)), *restored, copy(9)]
    assert days(to_prune(copies, Retention(last=3), verified="")) == [0, 1, 2]
    assert to_prune(copies[:5] + restored, Retention(last=5), verified="") == []


def test_a_good_safety_copy_does_not_let_backups_go() -> None:
    copies = [*(copy(day) for day in range(4)), copy(4, state=CopyState.damaged), copy(5, safety=True)]
    assert to_prune(copies, Retention(last=1), verified="") == []


def test_a_safety_copy_that_is_gone_is_not_forgotten() -> None:
    copies = [copy(0, state=CopyState.gone, safety=True), copy(1)]
    assert to_forget(copies, Retention(last=1)) == []


def test_the_last_verified_one_stays_though_it_failed_since() -> None:
    """A key that was exchanged, a server that went away: what was good once may be so again."""
    for failed in ({"flaw": "cannot decrypt"}, {"state": CopyState.damaged}):
        copies = [copy(0, verified_at=START), copy(1, verified_at=START, **failed), copy(2), copy(3)]
        assert days(to_prune(copies, Retention(last=1), verified="")) == [1, 2]
        assert days(to_prune(copies[1:], Retention(last=1), verified="")) == [2]


def test_what_is_gone_is_forgotten_when_no_rule_would_keep_it() -> None:
    copies = [copy(0, state=CopyState.gone), copy(1, state=CopyState.gone), copy(2)]
    assert to_prune(copies, Retention(last=2), verified="") == []
    assert to_forget(copies, Retention(last=2)) == [copy(0).name]


def test_the_newest_verified_is_good_and_whole_somewhere() -> None:
    copies = [
        copy(0, verified_at=1.0),
        copy(1, verified_at=2.0, state=CopyState.damaged),
        copy(2, verified_at=3.0, flaw="its query failed"),
    ]
    assert newest_verified(copies) == copy(0).name
    assert newest_verified([]) == ""


def test_names_tell_when() -> None:
    assert backup_name(START, "11111111-2222-4333-8444-5555deadbeef") == "20260101T023000Z-deadbeef"
    assert made_at_of("20260101T023000Z-deadbeef") == START
    for name in (
        "x",
        "20261301T023000Z-deadbeef",
        "20260101T023000Z-deadbeef\n",
        "../20260101T023000Z-deadbeef",
    ):
        assert made_at_of(name) == 0.0


COPIES = st.lists(
    st.builds(
        lambda day, state, verified, flaw, safety: copy(
            day, state=state, verified_at=START if verified else None, flaw=flaw, safety=safety
        ),
        st.integers(0, 400),
        st.sampled_from(CopyState),
        st.booleans(),
        st.sampled_from(("", "", "no")),
        st.booleans(),
    ),
    max_size=40,
    unique_by=lambda each: each.name,
)
RETENTIONS = st.builds(
    Retention,
    last=st.integers(0, 5),
    daily=st.integers(0, 5),
    weekly=st.integers(0, 3),
    monthly=st.integers(0, 3),
)


@given(copies=COPIES, retention=RETENTIONS)
def test_whatever_there_is_the_last_good_ones_stay(copies: list[Copy], retention: Retention) -> None:
    verified = newest_verified(copies)
    gone = set(to_prune(copies, retention, verified=verified))
    left = [each for each in copies if each.name not in gone]
    good = [each for each in copies if each.is_good and not each.safety]
    assert verified not in gone
    if good:
        assert max(good, key=lambda each: each.made_at) in left
    there = [each for each in copies if each.state is not CopyState.gone and not each.safety]
    for tried in (there, good):
        if any(each.verified_at is not None for each in tried):
            assert any(each.verified_at is not None for each in left if each in tried)
    if gone:
        assert max(there, key=lambda each: each.made_at).is_good
    assert len([each for each in left if each in good]) >= min(len(good), retention.last)
    assert not any(each.safety or each.state is CopyState.unknown for each in copies if each.name in gone)
    # Once more changes nothing.
    assert to_prune(left, retention, verified=newest_verified(left)) == []
