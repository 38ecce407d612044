"""When deployments may begin by themselves: `allowed: "mon-fri 08:00-17:00 Europe/Berlin"`.

A window is open whenever a clock on the wall shows one of its times. So a time that a clock skips in spring
is not shown at all, and one that it shows twice in autumn counts twice. A window over midnight belongs to the
day on which it begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WHOLE_DAY = 24 * 60  # minutes
EXAMPLE = '"mon-fri 08:00-17:00" or "fri 22:00-02:00 Europe/Berlin"'

_SPEC = re.compile(
    r"(?P<days>[a-z][a-z,-]*)?\s*(?P<times>[0-9]{1,2}:[0-9]{2}\s*-\s*[0-9]{1,2}:[0-9]{2})?"
    r"(?:\s+(?P<zone>[A-Z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}))?\Z"
)
# A zone's clock is set forward or back less often than this; twice within it would be missed.
_STEP = 6 * 3600
# Windows recur every week. One that a clock skips this week is there in the next.
_HORIZON = timedelta(days=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Days of the week (0 = Monday) and minutes since midnight. `end` is above 1440 after midnight.

    `zone` is a name of the IANA database; '' = this machine's own zone.
    """

    days: tuple[int, ...]
    start: int
    end: int
    zone: str = ""

    def __str__(self) -> str:
        days = "daily" if len(self.days) == len(DAYS) else ",".join(_runs(self.days))
        return f"{days} {_clock(self.start)}-{_clock(self.end)}{' ' + self.zone if self.zone else ''}"

    def shows(self, wall: datetime) -> bool:
        """Whether a clock on the wall shows a time of this window."""
        minute = wall.hour * 60 + wall.minute
        today, yesterday = wall.weekday(), (wall.weekday() - 1) % len(DAYS)
        return (today in self.days and self.start <= minute < self.end) or (
            yesterday in self.days and minute < self.end - WHOLE_DAY
        )


def parse(text: str) -> Window:
    """`mon-fri 08:00-17:00 Europe/Berlin` as a window; days, times and zone may each be left out.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    found = _SPEC.match(" ".join(text.split()))
    if found is None or not (found["days"] or found["times"]):
        raise ValueError(f"{text[:60]!r} is no window; expected e.g. {EXAMPLE}")
    start, end = _times(found["times"]) if found["times"] else (0, WHOLE_DAY)
    window = Window(days=_days(found["days"] or "daily"), start=start, end=end, zone=found["zone"] or "")
    zone_of(window)
    return window


def _days(text: str) -> tuple[int, ...]:
    if text == "daily":
        return tuple(range(len(DAYS)))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        for day in (first, last) if dash else (first,):
            if day not in DAYS:
                raise ValueError(f"{day[:20]!r} is no day; expected {', '.join(DAYS)}, or daily")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days |= {day % len(DAYS) for day in range(begin, end + 1 + (len(DAYS) if end < begin else 0))}
    return tuple(sorted(days))


def _runs(days: tuple[int, ...]) -> Iterator[str]:
    """0, 1, 2, 5 -> mon-wed, sat."""
    for first in (day for day in days if day - 1 not in days):
        last = next(day for day in range(first, len(DAYS)) if day + 1 not in days)
        yield DAYS[first] if first == last else f"{DAYS[first]}-{DAYS[last]}"


def _times(text: str) -> tuple[int, int]:
    start, end = (_minutes(each.strip()) for each in text.split("-"))
    if start in (WHOLE_DAY, end):
        raise ValueError(
            f"{text!r} has no length; expected e.g. 08:00-17:00, or 00:00-24:00 for the whole day"
        )
    return start, end if end > start else end + WHOLE_DAY


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes >= 60 or hours * 60 + minutes > WHOLE_DAY:
        raise ValueError(f"{text!r} is no time of the day; expected 00:00 to 24:00")
    return hours * 60 + minutes


def _clock(minutes: int) -> str:
    minutes = minutes if minutes <= WHOLE_DAY else minutes - WHOLE_DAY
    return f"{minutes // 60:02}:{minutes % 60:02}"


def zone_of(window: Window) -> tzinfo | None:
    """The window's time zone; None: this machine's own, as `datetime` understands it.

    Raises:
        ValueError: this machine knows no such zone.
    """
    return _zone(window.zone) if window.zone else None


@lru_cache
def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # most configurations name no zone

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError) as error:
        message = (
            f"{name!r} is no time zone that this machine knows; expected e.g. Europe/Berlin (package tzdata)"
        )
        raise ValueError(message) from error


def is_open(windows: Iterable[Window], at: float) -> bool:
    """Whether one of the windows is open at a moment (Unix seconds). Without any, nothing is ever closed."""
    windows = tuple(windows)
    return not windows or any(each.shows(datetime.fromtimestamp(at, zone_of(each))) for each in windows)


def opens_at(windows: Iterable[Window], at: float) -> float:
    """The first moment not before `at` (Unix seconds) at which one of the windows is open."""
    windows = tuple(windows)
    return at if is_open(windows, at) else min(_opens(each, at) for each in windows)


def shown_opening(windows: Iterable[Window], at: float) -> str:
    """`opens_at` for people, by the clock of the window that opens first: 2026-11-24 08:00 CET."""
    first = min(windows, key=lambda each: _opens(each, at))
    opening = datetime.fromtimestamp(_opens(first, at), zone_of(first))
    return (opening if first.zone else opening.astimezone()).strftime("%Y-%m-%d %H:%M %Z")


def _opens(window: Window, at: float) -> float:
    """Where a clock on the wall comes to a window's start, or jumps into it."""
    zone = zone_of(window)
    found = (each for each in (*_starts(window, at, zone), *_jumps(at, zone)) if each > at)
    return min(each for each in found if is_open((window,), each))


def _starts(window: Window, at: float, zone: tzinfo | None) -> Iterator[float]:
    """Both moments where the clock shows the start twice. Where it skips it, neither is of use."""
    day = datetime.fromtimestamp(at, zone).date() - timedelta(days=1)
    for _ in range(_HORIZON.days):
        for fold in (0, 1):
            yield _moment(day, window.start, zone, fold)
        day += timedelta(days=1)


def _moment(day: date, minutes: int, zone: tzinfo | None, fold: int) -> float:
    wall = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=zone, fold=fold)
    return wall.timestamp()


def _jumps(at: float, zone: tzinfo | None) -> Iterator[float]:
    """When the clock is set forward or back, to the second."""
    before = int(at)
    for _ in range(int(_HORIZON.total_seconds()) // _STEP):
        after = before + _STEP
        if _offset(before, zone) != _offset(after, zone):
            yield _jump_between(before, after, zone)
        before = after


def _jump_between(before: int, after: int, zone: tzinfo | None) -> float:
    old = _offset(before, zone)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _offset(middle, zone) == old else (before, middle)
    return float(after)


def _offset(at: int, zone: tzinfo | None) -> timedelta | None:
    return datetime.fromtimestamp(at, UTC).astimezone(zone).utcoffset()
