"""Times for people: how long ago, how long it took, and the local clock."""

from __future__ import annotations

from datetime import UTC, datetime

_STEPS = (
    (86400.0 * 365, "year"),
    (86400.0 * 30, "month"),
    (86400.0, "day"),
    (3600.0, "hour"),
    (60.0, "minute"),
)


def parse(value: object) -> float | None:
    """A view's time (ISO 8601, or Unix seconds) as Unix seconds; None for none."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return float(value)
    moment = datetime.fromisoformat(str(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def ago(value: object, now: float) -> str:
    """`3 minutes ago`; '' for no time."""
    then = parse(value)
    if then is None:
        return ""
    seconds = now - then
    if seconds < 0:
        return f"in {_rough(-seconds)}" if seconds < -1 else "just now"
    return f"{_rough(seconds)} ago" if seconds >= 1 else "just now"


def _rough(seconds: float) -> str:
    for size, unit in _STEPS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{int(seconds)} s"


def local(value: object) -> str:
    """The time on this machine's clock, with its zone; '' for no time."""
    then = parse(value)
    return "" if then is None else datetime.fromtimestamp(then).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def duration(seconds: float | None) -> str:
    """How long something took: `40 ms`, `3.2 s`, `2 min 5 s`, `1 h 20 min`; '' for None."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 0.9995:
        return f"{round(seconds * 1000)} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def between(start: object, end: object, now: float) -> float | None:
    """Seconds from `start` to `end`, or until now where there is no end; None before the start."""
    began = parse(start)
    if began is None:
        return None
    ended = parse(end)
    return (now if ended is None else ended) - began


def iso(seconds: float | None) -> str | None:
    """Unix seconds as the views have times: UTC, ISO 8601."""
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
