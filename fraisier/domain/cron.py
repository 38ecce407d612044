"""Cron expressions, as Debian's cron takes them: https://manpages.debian.org/stable/cron/crontab.5.en.html

Five fields, or six with seconds before them. Where neither day of the month nor day of the week begins with
`*`, either is enough. A job that names its time, and would come in the hour that a clock skips, comes right
after it; in the hour that is shown twice it comes once. One with `*` for the minute or the hour goes by.
cronsim does it: https://github.com/cuu508/cronsim
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo

from cronsim import CronSim, CronSimError

from fraisier.domain.zones import zone_named

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = {
    "second": "0-59, */10, 1,31",
    "minute": "0-59, */10, 1,31",
    "hour": "0-23, */6, 9-17",
    "day-of-month": "1-31, L for the last one, LW for the last one from Monday to Friday",
    "month": "1-12, or JAN to DEC",
    "day-of-week": "0-7 (0 and 7 are Sunday), SUN to SAT, 5L for the last Friday, MON#1 for the first Monday",
}
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_WORKDAYS = frozenset(range(1, 6))


class CronTimes:
    """The times that a cron expression names. For one thread: it remembers where it was."""

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self._expression, self._zone = expression, zone
        self._at: float | None = None
        self._next: Iterator[datetime] = iter(())

    def after(self, moment: float) -> float | None:
        """The next time later than `moment`, in Unix seconds; None: there is none any more."""
        if moment != self._at:
            self._next = CronSim(self._expression, datetime.fromtimestamp(moment, self._zone))
        for found in self._next:
            # In the hour that is shown twice, what names its time is told as of the first time.
            if (at := found.timestamp()) > moment:
                self._at = at
                return at
        return None


def read_cron(expression: str, zone: str = "") -> CronTimes:
    """A cron expression.

    Raises:
        ValueError: it is none, or never comes; says what is wrong, and where.
    """
    fields = fields_of(expression)
    return CronTimes(" ".join(fields), zone_named(zone))


def fields_of(expression: str) -> list[str]:
    """The fields of an expression that is right; nicknames in full.

    Raises:
        ValueError: as `read_cron`.
    """
    if expression.startswith("@"):
        if expression.lower() not in NICKNAMES:
            raise ValueError(f"{expression[:60]!r} is none of {', '.join(NICKNAMES)}")
        return NICKNAMES[expression.lower()].split()
    fields = expression.split()
    names = list(_FIELDS)[-len(fields) :]
    for index, name in enumerate(names):
        alone = ["*"] * len(fields)
        alone[index] = fields[index]
        if not _is_right(" ".join(alone)):
            message = f"{fields[index][:30]!r} is no {name} of {expression[:60]!r}"
            raise ValueError(f"{message}; expected {_FIELDS[name]}")
    if not _is_right(expression):
        raise ValueError(f"{expression[:60]!r} never comes: no such month has such a day")
    return fields


def _is_right(expression: str) -> bool:
    try:
        return next(CronSim(expression, datetime(2000, 1, 1)), None) is not None  # noqa: DTZ001 - on the wall
    except (CronSimError, AssertionError):
        return False


def calendar_lines_of(expression: str) -> tuple[str, ...]:
    """The same as calendar expressions of systemd, without a zone; a timer has one OnCalendar for each.

    Raises:
        ValueError: there is no such expression.
    """
    fields = fields_of(expression)
    cron = CronSim(" ".join(fields), datetime(2000, 1, 1))  # noqa: DTZ001 - only to read the expression
    clock = ":".join(
        _list(numbers, most) for numbers, most in ((cron.hours, 24), (cron.minutes, 60), (cron.seconds, 60))
    )
    month = "*" if len(cron.months) == 12 else _list(cron.months, 0)
    by_month = list(_days_of_month(cron))
    by_week = list(_days_of_week(cron))
    if cron.day_and:
        dates = [_both(one, other, expression) for one in by_month for other in by_week]
    else:
        dates = by_month + by_week
    return tuple(f"{_weekdays(week)}*-{month}{days} {clock}" for week, days in dates)


# Days of the week (cron's numbers; all: None), and days of the month as an expression has them.
_Dates = tuple[frozenset[int] | None, str]
_ANY = "-*"


def _days_of_month(cron: CronSim) -> Iterator[_Dates]:
    days = cron.days
    numbers = {day for day in days if day > 0}
    if len(numbers) == 31:
        yield None, _ANY
        return
    if numbers:
        yield None, "-" + _list(numbers, 0)
    if CronSim.LAST in days:
        yield None, "~01"
    if CronSim.LAST_WEEKDAY in days:
        yield _WORKDAYS, "~01"
        yield frozenset({5}), "~02"  # the last one is a Saturday
        yield frozenset({5}), "~03"  # or a Sunday


def _days_of_week(cron: CronSim) -> Iterator[_Dates]:
    plain = frozenset(day % 7 for day in cron.weekdays if isinstance(day, int))
    if len(plain) == 7:
        yield None, _ANY
        return
    if plain:
        yield plain, _ANY
    for item in sorted(item for item in cron.weekdays if isinstance(item, tuple)):
        day, which = item
        days = "~07/1" if which == CronSim.LAST else f"-{which * 7 - 6:02}..{min(which * 7, 31):02}"
        yield frozenset({day % 7}), days


def _both(one: _Dates, other: _Dates, expression: str) -> _Dates:
    if one[1] != _ANY and other[1] != _ANY:
        message = f"{expression[:60]!r} has days that a timer of systemd cannot name together"
        raise ValueError(f"{message}; let Fraisier's worker keep it (keeper: worker)")
    week = other[0] if one[0] is None else one[0] if other[0] is None else one[0] & other[0]
    return week, one[1] if one[1] != _ANY else other[1]


def _weekdays(days: frozenset[int] | None) -> str:
    return "" if days is None else ",".join(_DAYS[day] for day in sorted(days)) + " "


def _list(numbers: Iterable[int], most: int) -> str:
    """1,2,3,7 -> 01..03,07; all of them: *."""
    given = sorted(numbers)
    if len(given) == most:
        return "*"
    runs: list[list[int]] = []
    for number in given:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]:02}..{run[-1]:02}" if len(run) > 1 else f"{run[0]:02}" for run in runs)
