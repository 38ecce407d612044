"""Time zones by name, and this machine's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

_QUARTER = 900  # seconds: clocks are set at the quarters of an hour, if at all


class OwnZone(tzinfo):
    """The zone of this machine (or of $TZ), with its rules for every date, as `time.localtime` knows them."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """East is positive."""
        found = moment or datetime(2000, 1, 1)  # noqa: DTZ001 - on the wall
        return _offset(found.year, found.timetuple().tm_yday, found.hour, found.minute // 15, found.fold)

    def dst(self, _moment: datetime | None) -> timedelta | None:
        """Not told."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """Its abbreviation, e.g. CET."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """The time on the wall; what it shows twice is told apart by `fold`."""
        since = int((moment.replace(tzinfo=None) - _EPOCH).total_seconds())
        offset, fold = _shown(since // _QUARTER)
        return (moment + offset).replace(fold=fold)


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, to count from


@lru_cache(maxsize=8192)
def _offset(year: int, day: int, hour: int, quarter: int, fold: int) -> timedelta:
    wall = datetime(year, 1, 1, hour, quarter * 15, fold=fold) + timedelta(days=day - 1)  # noqa: DTZ001
    return wall.replace(fold=fold).astimezone().utcoffset() or timedelta(0)


@lru_cache(maxsize=8192)
def _shown(quarter: int) -> tuple[timedelta, int]:
    shown = datetime.fromtimestamp(quarter * _QUARTER)  # noqa: DTZ006 - in this zone
    return shown - (_EPOCH + timedelta(seconds=quarter * _QUARTER)), shown.fold


def forget_own() -> None:
    """For tests, which change $TZ."""
    _offset.cache_clear()
    _shown.cache_clear()


OWN = OwnZone()


@lru_cache(maxsize=64)
def zone_named(name: str) -> tzinfo:
    """A zone of the IANA database; '' = this machine's own.

    Raises:
        ValueError: this machine knows no such zone.
    """
    if not name:
        return OWN
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # slow to import, and needed for schedules only

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        message = f"{name[:60]!r} is no time zone that this machine knows; expected e.g. Europe/Berlin or UTC"
        raise ValueError(message) from None
