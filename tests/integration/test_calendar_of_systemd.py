"""Calendar expressions are what systemd makes of them: compared with `systemd-analyze calendar`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from fraisier.domain.calendar import read_calendar
from fraisier.domain.job import Schedule
from fraisier.domain.schedule import calendar_lines, check

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")

EXPRESSIONS = """\
minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|Daily
02:30|*-*-* 02:30:00|Mon..Fri 02:30|Sat,Sun 20/2:00|Monday,fri *-*-* 3:4:5|Mon-Wed 5:00|Mon,Tue, 10:00
*:0/20|*:*:0/20|1..5/2:0|1..3,7..9/2:0|*-*-1..22/7|2-3|26..28-1-1|2026..2028-1-1 10:00|*-*-31
*-*~1|*-*~7/2|*-*~1..3|*-*~3..9/4|*-2~1..3/1|Mon *-*~07/1 03:00|*-02-29 12:00|*-02~01
Mon|*-*-*|12-25 10:00|*-1,4,7,10-1 0:0|*-*-8..14 6:00|*:7,37|0/6:30"""
ZONES = ("Europe/Berlin", "America/New_York", "UTC")
# Around both changes of the clock in Berlin and in New York, and before a leap year.
MOMENTS = (
    "2026-03-28 21:00:00",
    "2026-10-24 21:00:00",
    "2026-03-08 04:00:00",
    "2026-11-01 03:00:00",
    "2027-12-30 00:00:00",
)
WRONG = (
    "10",
    "24:00",
    "*-*~29",
    "*:*/10",
    "Fri..Mon 10:00",
    "Mon, Tue 10:00",
    "*-13-1",
    "10:00 Mon",
    "*-*~0",
    "1:60",
)


def systemd(expression: str, zone: str, moment: str, count: int) -> list[float] | None:
    """The next times as systemd tells them; None where it refuses."""
    done = subprocess.run(
        ["systemd-analyze", "calendar", f"--base-time={moment} UTC", f"--iterations={count}", expression],
        env={**os.environ, "TZ": zone, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    told = re.findall(r"\(in UTC\): \w+ (\S+ \S+) UTC", done.stdout) or re.findall(
        r"(?:elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", done.stdout
    )
    return [datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in told]


def ours(expression: str, zone: str, moment: str, count: int) -> list[float]:
    times, found = read_calendar(expression, zone), list[float]()
    at: float | None = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    while len(found) < count and at is not None:
        at = times.after(at)
        found += [] if at is None else [at]
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_expression_comes_when_it_does_for_systemd(zone: str, moment: str) -> None:
    differ = [
        expression
        for expression in EXPRESSIONS.replace("\n", "|").split("|")
        if ours(expression, zone, moment, 8) != systemd(expression, zone, moment, 8)
    ]
    assert not differ


@pytest.mark.parametrize("expression", WRONG)
def test_what_systemd_refuses_is_refused(expression: str) -> None:
    assert systemd(expression, "UTC", MOMENTS[0], 1) is None
    assert check(expression)


@pytest.mark.parametrize(
    "cron", ["*/15 9-17 * * 1-5", "0 0 1,15 * 5", "0 6 LW * *", "0 6 * * MON#2", "30 4 L 2 *"]
)
def test_systemd_reads_what_is_made_of_cron(cron: str) -> None:
    for line in calendar_lines(Schedule(expression=cron, timezone="Europe/Berlin")):
        told = systemd(line, "UTC", MOMENTS[0], 5)
        assert told is not None
        assert told == ours(line, "UTC", MOMENTS[0], 5)
