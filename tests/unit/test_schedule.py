"""When a job is due. What systemd itself makes of calendar expressions: tests/integration/test_calendar_of_systemd.py."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraisier.domain import zones
from fraisier.domain.job import Job, Keeper, Schedule
from fraisier.domain.schedule import calendar_lines, check, delay_of, is_cron, times_of, zone_in

BERLIN = "Europe/Berlin"


def instant(text: str) -> float:
    """UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def due(expression: str, after: str, count: int, *, zone: str = BERLIN, keeper: str = "worker") -> list[str]:
    """The next times after an instant, in UTC."""
    times = times_of(Schedule(expression=expression, timezone=zone), Keeper(keeper))
    found, moment = [], instant(after)
    for _ in range(count):
        at = times.after(moment)
        assert at is not None
        moment = at
        found.append(datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00"))
    return found


# In Berlin the clock goes from 2:00 to 3:00 at 01:00 UTC on 2026-03-29, and from 3:00 back to 2:00 at 01:00
# UTC on 2026-10-25.
TABLE = [
    # what, expression, after, times
    ("every night", "30 4 * * *", "2026-11-23 12:00", ["2026-11-24 03:30", "2026-11-25 03:30"]),
    ("summer time", "30 4 * * *", "2026-03-28 12:00", ["2026-03-29 02:30", "2026-03-30 02:30"]),
    ("cron: right after a skipped hour", "30 2 * * *", "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:30"]),
    ("cron: once in an hour shown twice", "30 2 * * *", "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
    ("cron: once, asked in the second of them", "45 2 * * *", "2026-10-25 01:10", ["2026-10-26 01:45"]),
    ("cron: every hour goes by", "0 * * * *", "2026-10-24 23:30", ["2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00"]),
    ("cron: every hour, one skipped", "0 * * * *", "2026-03-28 23:30", ["2026-03-29 00:00", "2026-03-29 01:00", "2026-03-29 02:00"]),
    ("cron: a leap day", "0 12 29 2 *", "2026-01-01 00:00", ["2028-02-29 11:00", "2032-02-29 11:00"]),
    ("cron: no leap year in 2100", "0 12 29 2 *", "2096-03-01 00:00", ["2104-02-29 11:00"]),
    ("cron: the 31st where there is one", "0 0 31 * *", "2026-03-01 00:00", ["2026-03-30 22:00", "2026-05-30 22:00"]),
    ("cron: day of month or of week", "0 12 13 * 5", "2026-11-01 00:00", ["2026-11-06 11:00", "2026-11-13 11:00", "2026-11-20 11:00", "2026-11-27 11:00", "2026-12-04 11:00", "2026-12-11 11:00", "2026-12-13 11:00"]),
    ("cron: the last day", "0 12 L * *", "2028-02-01 00:00", ["2028-02-29 11:00", "2028-03-31 10:00"]),
    ("cron: with seconds", "*/30 * * * * *", "2026-11-23 12:00", ["2026-11-23 12:00:30", "2026-11-23 12:01"]),
    ("cron: a name", "@weekly", "2026-11-23 12:00", ["2026-11-28 23:00", "2026-12-05 23:00"]),
    ("calendar: a skipped hour is not there", "*-*-* 02:30", "2026-03-28 12:00", ["2026-03-30 00:30"]),
    ("calendar: once in an hour shown twice", "*-*-* 02:30", "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
    ("calendar: hours by their first showing", "hourly", "2026-10-24 23:30", ["2026-10-25 00:00", "2026-10-25 02:00"]),
    ("calendar: a leap day", "*-02-29 12:00", "2026-01-01 00:00", ["2028-02-29 11:00", "2032-02-29 11:00"]),
    ("calendar: the last day of February", "*-02~01", "2027-01-01 00:00", ["2027-02-27 23:00", "2028-02-28 23:00"]),
    ("calendar: the last Monday", "Mon *-*~07/1 12:00", "2026-11-01 00:00", ["2026-11-30 11:00", "2026-12-28 11:00"]),
    ("calendar: weekdays", "Mon..Fri 12:00", "2026-11-27 12:00", ["2026-11-30 11:00", "2026-12-01 11:00"]),
    ("calendar: steps", "*:0/20", "2026-11-23 12:30", ["2026-11-23 12:40", "2026-11-23 13:00"]),
    ("calendar: its own zone", "12:00 America/New_York", "2026-11-23 12:00", ["2026-11-23 17:00"]),
    ("calendar: seconds", "*:*:05,35", "2026-11-23 12:00", ["2026-11-23 12:00:05", "2026-11-23 12:00:35"]),
    ("calendar: a year", "2027-01-01 12:00", "2026-11-23 12:00", ["2027-01-01 11:00"]),
    ("calendar: weekly begins on Monday", "weekly", "2026-11-23 12:00", ["2026-11-29 23:00"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "after", "times"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_when_a_job_is_due(expression: str, after: str, times: list[str]) -> None:
    assert due(expression, after, len(times)) == times


def test_a_time_that_is_over_never_comes_again() -> None:
    assert times_of(Schedule(expression="2020-01-01")).after(instant("2026-01-01")) is None


# A cron expression that systemd keeps comes when its timers do; but for hours that clocks skip, or show twice.
CRON_AND_TIMERS = [
    ("30 2 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00"]),
    ("*/20 * * * *", ["*-*-* *:00,20,40:00"]),
    ("0 0 1,15 * 5", ["*-*-01,15 00:00:00", "Fri *-*-* 00:00:00"]),
    ("0 0 */10 * 5", ["Fri *-*-01,11,21,31 00:00:00"]),
    ("0 6 L * *", ["*-*~01 06:00:00"]),
    ("0 6 LW * *", ["Mon,Tue,Wed,Thu,Fri *-*~01 06:00:00", "Fri *-*~02 06:00:00", "Fri *-*~03 06:00:00"]),
    ("0 6 * * 5L", ["Fri *-*~07/1 06:00:00"]),
    ("0 6 * * MON#2", ["Mon *-*-08..14 06:00:00"]),
    ("0 9-17 * JAN-MAR,DEC 7", ["Sun *-01..03,12-* 09..17:00:00"]),
    ("@daily", ["*-*-* 00:00:00"]),
    ("5 4 3 2 1 *", ["*-01-02 03:04:05"]),
    ("0 9-17/4 * * mon-fri", ["Mon,Tue,Wed,Thu,Fri *-*-* 09,13,17:00:00"]),
    ("0 0 */9 * 1", ["Mon *-*-01,10,19,28 00:00:00"]),
    ("0 0 29 feb *", ["*-02-29 00:00:00"]),
    ("5/20 0 * * *", ["*-*-* 00:05,25,45:00"]),
]


@pytest.mark.parametrize(("expression", "lines"), CRON_AND_TIMERS)
def test_a_cron_expression_as_lines_of_a_timer(expression: str, lines: list[str]) -> None:
    zoned = calendar_lines(Schedule(expression=expression, timezone=BERLIN))
    assert zoned == tuple(f"{line} {BERLIN}" for line in lines)
    after = "2026-04-10 00:00"
    assert due(expression, after, 20, zone="UTC") == due(expression, after, 20, zone="UTC", keeper="systemd")


def test_a_calendar_expression_stands_in_a_timer_as_it_is_with_its_zone() -> None:
    assert calendar_lines(Schedule(expression="Mon 10:00", timezone=BERLIN)) == (f"Mon 10:00 {BERLIN}",)
    assert calendar_lines(Schedule(expression="Mon 10:00 UTC", timezone=BERLIN)) == ("Mon 10:00 UTC",)


def test_what_a_timer_cannot_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot name together; let Fraisier's worker keep it"):
        calendar_lines(Schedule(expression="0 0 */2 * MON#1"))


@pytest.mark.parametrize(
    ("expression", "cron", "zone"),
    [
        ("*/5 * * * *", True, ""),
        ("0 */5 * * * *", True, ""),
        ("@daily", True, ""),
        ("daily", False, ""),
        ("Mon *-*-* 10:00 Europe/Berlin", False, BERLIN),
        ("daily utc", False, "UTC"),
    ],
)
def test_the_two_languages_are_told_apart(expression: str, cron: bool, zone: str) -> None:
    assert is_cron(expression) is cron
    assert zone_in(expression) == zone


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("61 * * * *", "'61' is no minute of '61 * * * *'; expected 0-59"),
        ("0 24 * * *", "'24' is no hour of"),
        ("0 0 * * MON#9", "'MON#9' is no day-of-week of"),
        ("0 0 30 2 *", "never comes: no such month has such a day"),
        ("@reboot", "is none of @yearly"),
        ("nightly", "'nightly' in 'nightly' is neither a day of the week nor a known name"),
        ("25:00", "'25' in the hours of '25:00' is out of range; 0 to 23"),
        ("*:*/5", "'*/5' is no minute of '*:*/5'; expected e.g. *, 3, 1..5 or 0/2"),
        ("*-02-30", "never comes"),
        ("Fri..Mon 10:00", "runs backwards; a week begins on Monday"),
        ("10:00 *-*-*", "is no calendar expression"),
        ("10:00:00.5", "has parts of a second"),
        ("*-*~29", "out of range; 1 to 28"),
        ("1-2-3-4 10:00", "has a date of too many parts"),
        ("10:00 Mars/Base", "'Mars/Base' is no time zone that this machine knows"),
        ("10", "is neither a date nor a time"),
        ("", "is no calendar expression"),
    ],
)
def test_what_is_wrong_is_told_and_where(expression: str, words: str) -> None:
    assert words in check(expression)


_cron = st.tuples(
    st.sampled_from(["*", "0", "*/7", "30", "1,59"]),
    st.sampled_from(["*", "2", "*/5", "1-4", "23"]),
    st.sampled_from(["*", "1", "*/9", "31", "L"]),
    st.sampled_from(["*", "2", "3,10", "*/5"]),
    st.sampled_from(["*", "0", "1-5", "SUN", "5L"]),
).map(" ".join)
_calendar = st.builds(
    lambda week, date, clock: " ".join(filter(None, (week, date, clock))),
    st.sampled_from(["", "Mon", "Sat,Sun", "Mon..Fri"]),
    st.sampled_from(["*-*-*", "*-*-31", "*-*~1", "*-02-29", "*-3,10-25..31", "*-*-1/9"]),
    st.sampled_from(["02:30", "*:0/7", "1..4:15", "*:*:30", "23:59:59"]),
)


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(_cron, _calendar).filter(lambda text: not check(text)),
    st.sampled_from([BERLIN, "UTC", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.integers(int(instant("2026-01-01")), int(instant("2030-01-01"))),
)
def test_times_follow_one_another_and_none_is_passed_over(expression: str, zone: str, moment: int) -> None:
    times = times_of(Schedule(expression=expression, timezone=zone))
    found = [float(moment)]
    for _ in range(5):
        at = times.after(found[-1])
        assert at is not None
        found.append(at)
    assert all(earlier < later for earlier, later in pairwise(found))
    fresh = times_of(Schedule(expression=expression, timezone=zone))
    # Whoever begins to ask at any moment in between is told the same next time.
    assert [fresh.after(later - 1) for later in found[:0:-1]] == found[:0:-1]
    assert fresh.after((found[1] + found[2]) / 2) == found[2]


@pytest.fixture
def own_zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    if before is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = before
    _forget()


def _forget() -> None:
    time.tzset()
    zones.forget_own()


@pytest.mark.usefixtures("own_zone")
@pytest.mark.parametrize("name", [BERLIN, "Australia/Lord_Howe", "UTC", "America/St_Johns"])
def test_this_machines_own_zone_is_as_the_one_of_the_same_name(name: str) -> None:
    os.environ["TZ"] = name
    _forget()
    named, moment = zones.zone_named(name), instant("2025-12-31")
    for _ in range(600):
        moment += timedelta(hours=16, minutes=7).total_seconds()
        there, here = datetime.fromtimestamp(moment, named), datetime.fromtimestamp(moment, zones.OWN)
        assert (there.replace(tzinfo=None), there.fold, there.utcoffset()) == (
            here.replace(tzinfo=None),
            here.fold,
            here.utcoffset(),
        )
        assert here.timestamp() == moment


def test_jitter_is_the_same_each_time_and_differs_between_jobs() -> None:
    job = Job(name="a", run="x", schedule=Schedule(expression="daily", jitter=60.0))
    delays = [delay_of(job, f"shop/production/{name}", 1.8e9) for name in range(200)]
    assert delays == [delay_of(job, f"shop/production/{name}", 1.8e9) for name in range(200)]
    assert all(0 <= delay < 60 for delay in delays)
    assert max(delays) - min(delays) > 50
    assert delay_of(Job(name="a", run="x"), "x", 1.8e9) == 0
