"""When deployments may begin by themselves, also where clocks are set forward and back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraisier.domain.window import DAYS, Window, is_open, opens_at, parse, shown_opening

BERLIN = "Europe/Berlin"
# Half an hour of difference, a whole day skipped, summer time that ends at midnight, none at all.
ZONES = (BERLIN, "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "America/Havana", "UTC")


def at(text: str, zone: str = BERLIN, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def opens(window: str, now: str, *, fold: int = 0) -> str:
    moment = opens_at([parse(f"{window} {BERLIN}")], at(now, fold=fold))
    return datetime.fromtimestamp(moment, ZoneInfo(BERLIN)).isoformat(" ", "seconds")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mon-fri 08:00-17:00", "mon-fri 08:00-17:00"),
        ("mon-fri   8:00 - 17:00", "mon-fri 08:00-17:00"),
        ("fri-mon 22:00-04:00 Europe/Berlin", "mon,fri-sun 22:00-04:00 Europe/Berlin"),
        ("mon,wed-thu 00:00-24:00", "mon,wed-thu 00:00-24:00"),
        ("sat,sun", "sat-sun 00:00-24:00"),
        ("08:00-17:00", "daily 08:00-17:00"),
        ("daily 08:00-24:00 UTC", "daily 08:00-24:00 UTC"),
        ("22:00-00:00", "daily 22:00-24:00"),
    ],
)
def test_a_window_is_read_and_shown(text: str, shown: str) -> None:
    assert str(parse(text)) == shown
    assert parse(shown) == parse(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is no window"),
        ("always", "'always' is no day"),
        ("mon-funday 08:00-17:00", "'funday' is no day"),
        ("mon- 08:00-17:00", "'' is no day"),
        ("mon 08:00", "is no window"),
        ("mon 08:00-08:00", "has no length"),
        ("mon 24:00-08:00", "has no length"),
        ("mon 08:60-17:00", "is no time of the day"),
        ("mon 08:00-24:01", "is no time of the day"),
        ("mon 08:00-17:00 Europe/Bärlin", "is no window"),
        ("mon 08:00-17:00 Europe/Nowhere", "is no time zone"),
        ("mon 08:00-17:00 ../../etc/passwd", "is no window"),
        ("mon 08:00-17:00\n; rm", "is no window"),
    ],
)
def test_what_is_no_window_is_refused_with_the_reason(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse(text)


@pytest.mark.parametrize(
    ("window", "now", "opening"),
    [
        ("mon-fri 08:00-17:00", "2026-11-23 07:59:59", "2026-11-23 08:00:00+01:00"),
        ("mon-fri 08:00-17:00", "2026-11-23 08:00:00", "2026-11-23 08:00:00+01:00"),
        ("mon-fri 08:00-17:00", "2026-11-23 16:59:59", "2026-11-23 16:59:59+01:00"),
        ("mon-fri 08:00-17:00", "2026-11-27 17:00:00", "2026-11-30 08:00:00+01:00"),
        ("fri 22:00-04:00", "2026-11-28 03:59:00", "2026-11-28 03:59:00+01:00"),
        ("fri 22:00-04:00", "2026-11-28 04:00:00", "2026-12-04 22:00:00+01:00"),
        # In spring 02:00 becomes 03:00: the clock jumps into the window, or past it.
        ("sun 02:30-05:00", "2026-03-29 01:00:00", "2026-03-29 03:00:00+02:00"),
        ("sun 02:15-02:45", "2026-03-29 01:00:00", "2026-04-05 02:15:00+02:00"),
        # In autumn 03:00 becomes 02:00: the clock shows the window twice, or jumps back into it.
        ("sun 02:15-02:45", "2026-10-25 02:50:00", "2026-10-25 02:15:00+01:00"),
        ("sun 01:30-02:30", "2026-10-25 02:30:00", "2026-10-25 02:00:00+01:00"),
    ],
)
def test_a_window_opens_when_the_clock_on_the_wall_says_so(window: str, now: str, opening: str) -> None:
    assert opens(window, now) == opening


def test_the_second_time_that_a_clock_shows_is_another_moment() -> None:
    assert opens("sun 02:15-02:45", "2026-10-25 02:50:00", fold=1) == "2026-11-01 02:15:00+01:00"


def test_without_windows_nothing_is_ever_closed() -> None:
    assert is_open((), 0.0)
    assert opens_at((), 5.0) == 5.0


def test_of_several_windows_the_first_that_opens_counts() -> None:
    windows = [parse(f"mon 09:00-10:00 {BERLIN}"), parse("mon 07:30-08:00 UTC")]
    assert opens_at(windows, at("2026-11-23 01:00")) == at("2026-11-23 08:30")
    assert shown_opening(windows, at("2026-11-23 01:00")) == "2026-11-23 07:30 UTC"
    assert shown_opening(windows[:1], at("2026-11-23 01:00")) == "2026-11-23 09:00 CET"


@contextmanager
def machine_in(zone: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


@given(
    spec=st.builds(
        lambda days, start, length: (tuple(sorted(days)), start, start + length),
        st.sets(st.integers(0, 6), min_size=1),
        st.integers(0, 1439),
        st.integers(1, 1440),
    ),
    zone=st.sampled_from(ZONES),
    # Around changes of clocks, and anywhere.
    now=st.one_of(
        st.sampled_from([at("2026-03-29 03:00"), at("2026-10-25 02:00"), at("2026-04-05 02:00", ZONES[2])]),
        st.integers(int(at("2011-12-20 00:00")), int(at("2027-06-01 00:00"))).map(float),
    ).flatmap(lambda base: st.integers(-3 * 86400, 3 * 86400).map(lambda by: base + by)),
)
@settings(max_examples=60, deadline=None)
def test_opening_is_the_first_moment_at_which_the_clock_shows_the_window(
    spec: tuple[tuple[int, ...], int, int], zone: str, now: float
) -> None:
    days, start, end = spec
    window = Window(days=days, start=start, end=min(end, start + 1440), zone=zone)
    opening = opens_at([window], now)
    assert opening >= now
    assert is_open([window], opening)
    assert opening == now or not is_open([window], now)
    # Nothing was open before: looked at minute by minute, as far as that takes no time.
    clock = ZoneInfo(zone)
    minute = int(now // 60 * 60) + 60
    while minute < min(opening, now + 36 * 3600):
        assert not window.shows(datetime.fromtimestamp(minute, clock))
        minute += 60
    # The machine's own zone is no different from naming it.
    with machine_in(zone):
        own = Window(days=days, start=start, end=window.end)
        assert opens_at([own], now) == opening
        assert is_open([own], now) == is_open([window], now)


@given(st.integers(0, 6), st.integers(0, 1439))
def test_a_window_and_its_rest_of_the_week_are_never_both_open(day: int, start: int) -> None:
    window = Window(days=(day,), start=start, end=start + 60)
    whole = parse("daily 00:00-24:00")
    for hour in range(7 * 24):
        wall = datetime(2026, 11, 23, tzinfo=UTC).replace(day=23 + hour // 24, hour=hour % 24)
        assert whole.shows(wall)
        inside = (wall.weekday() * 1440 + wall.hour * 60 - day * 1440 - start) % (7 * 1440) < 60
        assert window.shows(wall) == inside, DAYS[day]
