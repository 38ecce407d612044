"""When a job is due: a cron expression (`cron`), or one as systemd's OnCalendar has them (`calendar`)."""

from __future__ import annotations

import zlib
from typing import Protocol

from fraisier.domain.calendar import read_calendar, split_zone
from fraisier.domain.cron import NICKNAMES, calendar_lines_of, fields_of, read_cron
from fraisier.domain.job import Job, Keeper, Schedule
from fraisier.domain.zones import zone_named

CRON_FIELDS = (5, 6)


class Times(Protocol):
    """Moments in Unix seconds, one after the other."""

    def after(self, moment: float) -> float | None:
        """The next one later than `moment`; None: there is none any more."""
        ...


class Several:
    """All times of several expressions, each once."""

    def __init__(self, *times: Times) -> None:
        self._times = times

    def after(self, moment: float) -> float | None:
        """The next one of any of them."""
        return min((at for each in self._times if (at := each.after(moment)) is not None), default=None)


def is_cron(expression: str) -> bool:
    """Whether an expression is one of cron rather than of systemd."""
    return len(expression.split()) in CRON_FIELDS or expression.lower() in (*NICKNAMES, "@reboot")


def check(expression: str) -> str:
    """'' or what is wrong with it, and where."""
    try:
        if is_cron(expression):
            fields_of(expression)
        else:
            read_calendar(expression)
    except ValueError as error:
        return str(error)
    return ""


def times_of(schedule: Schedule, keeper: Keeper = Keeper.worker) -> Times:
    """When it is due. A cron expression that systemd keeps comes when its calendar expressions do.

    Raises:
        ValueError: the expression or its zone is none; says what is wrong.
    """
    expression, zone = schedule.expression, schedule.timezone
    if not is_cron(expression):
        return read_calendar(expression, zone)
    if keeper is Keeper.systemd:
        return Several(*(read_calendar(line, zone) for line in calendar_lines_of(expression)))
    return read_cron(expression, zone)


def calendar_lines(schedule: Schedule) -> tuple[str, ...]:
    """What a systemd timer has as OnCalendar=, one line each.

    Raises:
        ValueError: systemd cannot keep it; says why.
    """
    expression, zone = schedule.expression, schedule.timezone
    if zone:
        zone_named(zone)
    if is_cron(expression):
        return tuple(f"{line} {zone}".rstrip() for line in calendar_lines_of(expression))
    read_calendar(expression, zone)
    words, own = split_zone(expression)
    return (" ".join([*words, own or zone]).rstrip(),)


def zone_in(expression: str) -> str:
    """The time zone that an expression names by itself; '' where it has none."""
    return "" if is_cron(expression) else split_zone(expression)[1]


def delay_of(job: Job, name: str, due: float) -> float:
    """How much later than `due` the run begins, in seconds: less than `jitter`, and always the same for both.

    `name` tells jobs apart that are due at the same time.
    """
    jitter = job.schedule.jitter if job.schedule else 0.0
    return jitter * (zlib.crc32(f"{name} {due:.0f}".encode()) / 2**32)


_WINDOWS = (60.0, 3600.0, 86400.0, 32 * 86400.0, 367 * 86400.0, 9 * 366 * 86400.0)
_MOST_COUNTED = 1000


def newest_until(times: Times, first: float, until: float) -> tuple[float, int]:
    """The newest time up to `until`, and how many there were before it since `first`, itself one of them.

    Of many, the first thousand are counted. `first` where there is no later one.
    """
    newest, counted = first, 0
    while counted < _MOST_COUNTED:
        following = times.after(newest)
        if following is None or following > until:
            return newest, counted
        newest, counted = following, counted + 1
    return max(newest, last_until(times, until) or newest), counted


def last_until(times: Times, until: float) -> float | None:
    """The newest time up to `until`; None where there was none within nine years."""
    for window in _WINDOWS:
        following = times.after(until - window)
        if following is None or following > until:
            continue
        while following is not None and following <= until:
            newest = following
            following = times.after(newest)
        return newest
    return None
