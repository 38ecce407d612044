"""Calendar expressions as systemd's OnCalendar has them, and the times that they name.

https://www.freedesktop.org/software/systemd/man/latest/systemd.time.html#Calendar%20Events
As with systemd, a time that a clock skips in spring is not there on that day, and one that it shows twice in
autumn counts when it is shown first.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from fraisier.domain.zones import zone_named

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FULL_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FIRST_YEAR, LAST_YEAR = 1970, 2199  # as systemd's
MOST_FROM_END = 28  # likewise: the shortest month
EXAMPLE = "e.g. 'Mon..Fri *-*-* 02:30:00', '*-*~01 06:00' or 'daily'"

NAMED = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "semi-annually": "*-01,07-01 00:00:00",
    "biannually": "*-01,07-01 00:00:00",
    "bi-annually": "*-01,07-01 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
    "anually": "*-01-01 00:00:00",  # systemd takes it, too
}

_PIECE = re.compile(r"(?P<first>[0-9]{1,6})(?:\.\.(?P<last>[0-9]{1,6}))?(?:/(?P<step>[0-9]{1,6}))?\Z")
_FIELDS = {
    "year": (FIRST_YEAR, LAST_YEAR),
    "month": (1, 12),
    "day": (1, 31),
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 59),
}
_ALL_DAYS = frozenset(range(7))


@dataclass(frozen=True, slots=True)
class CalendarTimes:
    """A calendar expression. `months` holds for years that are in `years`, and so on.

    `from_end`: days count from the end of the month, 1 is its last. `weekdays` count from Monday, 0.
    """

    weekdays: frozenset[int]
    years: tuple[int, ...]
    months: tuple[int, ...]
    days: tuple[int, ...]
    clock: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # hours, minutes, seconds
    zone: tzinfo
    from_end: bool = False

    def after(self, moment: float) -> float | None:
        """The next time later than `moment`, in Unix seconds; None: there is none any more."""
        wall = datetime.fromtimestamp(int(moment // 1), self.zone).replace(tzinfo=None, fold=0)
        # A clock that was set back shows again what it has shown: the times of then are gone.
        for found in self._on_the_wall(wall + timedelta(seconds=1)):
            shown = found.replace(tzinfo=self.zone)
            at = shown.timestamp()
            skipped = datetime.fromtimestamp(at, self.zone).replace(tzinfo=None, fold=0) != found
            if at > moment and not skipped:
                return at
        return None

    @property
    def never_comes(self) -> bool:
        """Whether no year has such a day."""
        return next(self._dates(datetime(min(self.years), 1, 1)), None) is None  # noqa: DTZ001 - on the wall

    def _on_the_wall(self, start: datetime) -> Iterator[datetime]:
        """Every time from `start` on that the expression names, whether a clock shows it or not."""
        for day in self._dates(start):
            begin = (start.hour, start.minute, start.second) if day.date() == start.date() else (0, 0, 0)
            for hour, minute, second in self._times(begin):
                yield day.replace(hour=hour, minute=minute, second=second)

    def _dates(self, start: datetime) -> Iterator[datetime]:
        for year in self.years[bisect_left(self.years, start.year) :]:
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in self._days_of(year, month):
                    date = datetime(year, month, day)  # noqa: DTZ001 - on the wall
                    if date.date() >= start.date() and date.weekday() in self.weekdays:
                        yield date

    def _days_of(self, year: int, month: int) -> Iterable[int]:
        last = monthrange(year, month)[1]
        if self.from_end:
            return sorted({last + 1 - day for day in self.days if day <= last})
        return (day for day in self.days if day <= last)

    def _times(self, begin: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
        hours, minutes, seconds = self.clock
        for hour in hours[bisect_left(hours, begin[0]) :]:
            from_minute = begin[1] if hour == begin[0] else 0
            for minute in minutes[bisect_left(minutes, from_minute) :]:
                from_second = begin[2] if (hour, minute) == begin[:2] else 0
                for second in seconds[bisect_left(seconds, from_second) :]:
                    yield hour, minute, second


def read_calendar(text: str, zone: str = "") -> CalendarTimes:
    """An expression; `zone` is for one that names none.

    Raises:
        ValueError: it is none, or never comes; says what is wrong, and where.
    """
    words, named = split_zone(text)
    if not words:
        raise ValueError(f"{text[:60]!r} is no calendar expression; expected {EXAMPLE}")
    name = words[0].lower() if len(words) == 1 else ""
    if name in NAMED:
        words = NAMED[name].split()
    weekdays, rest = _weekdays(words, text)
    date, clock = _parts(rest, text)
    months_and_days = date.partition("~") if "~" in date else date.rpartition("-")
    year, month = _year_and_month(months_and_days[0], text)
    found = CalendarTimes(
        weekdays=weekdays,
        years=_numbers("year", year, text),
        months=_numbers("month", month, text),
        days=_numbers("day", months_and_days[2], text, from_end="~" in date),
        clock=_clock(clock, text),
        zone=zone_named(named or zone),
        from_end="~" in date,
    )
    if found.never_comes:
        raise ValueError(f"{text[:60]!r} never comes: no such month has such a day")
    return found


def split_zone(text: str) -> tuple[list[str], str]:
    """The words of an expression, and the zone that stands at its end, or ''."""
    words = text.split()
    if len(words) > 1 and words[-1].upper() == "UTC":
        return words[:-1], "UTC"
    if len(words) > 1 and words[-1][:1].isupper():
        return words[:-1], words[-1]
    return words, ""


def _weekdays(words: list[str], text: str) -> tuple[frozenset[int], list[str]]:
    if not words or not words[0][:1].isalpha():
        return _ALL_DAYS, words
    found: set[int] = set()
    for part in words[0].rstrip(",").split(","):
        first, dots, last = part.partition("..") if ".." in part else part.partition("-")
        begin = _weekday(first, text)
        end = _weekday(last, text) if dots else begin
        if end < begin:
            raise ValueError(f"{part[:30]!r} in {text[:60]!r} runs backwards; a week begins on Monday")
        found |= set(range(begin, end + 1))
    return frozenset(found), words[1:]


def _weekday(word: str, text: str) -> int:
    for names in (DAYS, FULL_DAYS):
        if word.lower() in names:
            return names.index(word.lower())
    raise ValueError(
        f"{word[:20]!r} in {text[:60]!r} is neither a day of the week nor a known name; {EXAMPLE}"
    )


def _parts(words: list[str], text: str) -> tuple[str, str]:
    """Date and time of the day."""
    dates = [word for word in words if ":" not in word]
    clocks = [word for word in words if ":" in word]
    if len(dates) > 1 or len(clocks) > 1 or (dates and clocks and words.index(dates[0])):
        raise ValueError(f"{text[:60]!r} is no calendar expression; expected {EXAMPLE}")
    if dates and not ("-" in dates[0] or "~" in dates[0]):
        raise ValueError(f"{dates[0][:30]!r} in {text[:60]!r} is neither a date nor a time; {EXAMPLE}")
    return dates[0] if dates else "*-*-*", clocks[0] if clocks else "00:00:00"


def _year_and_month(text: str, whole: str) -> tuple[str, str]:
    if text.count("-") > 1:
        raise ValueError(f"{whole[:60]!r} has a date of too many parts; expected year-month-day")
    year, dash, month = text.partition("-")
    return (year, month) if dash else ("*", year)


def _clock(text: str, whole: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    parts = text.split(":")
    if not 2 <= len(parts) <= 3:
        raise ValueError(f"{text[:30]!r} in {whole[:60]!r} is no time of the day; expected e.g. 02:30:00")
    hours, minutes, seconds = (*parts, "00")[:3]
    if "." in seconds.replace("..", ""):
        raise ValueError(f"{text[:30]!r} in {whole[:60]!r} has parts of a second; expected whole ones")
    return (
        _numbers("hour", hours, whole),
        _numbers("minute", minutes, whole),
        _numbers("second", seconds, whole),
    )


def _numbers(field: str, text: str, whole: str, *, from_end: bool = False) -> tuple[int, ...]:
    """`*`, `1,4`, `1..5`, `0/15`, `1..9/2` as numbers."""
    lowest, highest = (1, MOST_FROM_END) if from_end else _FIELDS[field]
    if text == "*":
        return tuple(range(lowest, highest + 1))
    found: set[int] = set()
    for piece in text.split(","):
        match = _PIECE.match(piece)
        if match is None:
            raise ValueError(
                f"{piece[:30]!r} is no {field} of {whole[:60]!r}; expected e.g. *, 3, 1..5 or 0/2"
            )
        read = _year if field == "year" else int
        first, step = read(match["first"]), int(match["step"] or 0)
        last = read(match["last"]) if match["last"] else first
        if last < first or (field == "second" and match["last"] and last == first):
            raise ValueError(f"{piece[:30]!r} in the {field}s of {whole[:60]!r} runs backwards")
        reach = first - 1 if from_end else highest - first
        too_far = not match["last"] and step > reach  # for systemd, a step that leads nowhere is none
        if first < lowest or last > highest or too_far or (match["step"] and not step):
            raise ValueError(
                f"{piece[:30]!r} in the {field}s of {whole[:60]!r} is out of range; {lowest} to {highest}"
            )
        if match["last"] or not step:
            found |= set(range(first, last + 1, step or 1))
        else:  # from the end of the month, steps lead to its last day
            found |= set(range(first, 0, -step) if from_end else range(first, highest + 1, step))
    return tuple(sorted(found))


def _year(text: str) -> int:
    year = int(text)
    return year + (2000 if year < 70 else 1900) if len(text) <= 2 else year
