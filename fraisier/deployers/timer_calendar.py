"""A cron expression as what systemd's OnCalendar= means by the same: crontab(5), systemd.time(7)."""

from __future__ import annotations

from fraisier.domain.errors import Cause, StepFailed

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


def is_cron(expression: str) -> bool:
    """Whether it is a cron expression, and no calendar expression of systemd."""
    words = expression.split()
    return expression.startswith("@") or (len(words) in (5, 6) and ":" not in expression)


def on_calendar(expression: str) -> tuple[str, ...]:
    """One value of OnCalendar=, or two: cron takes a day if either of both fields names it.

    Raises:
        StepFailed: preflight, for what only cron has (`L`, `#`).
    """
    if not is_cron(expression):
        return (expression,)
    fields = _MACROS.get(expression.lower(), expression).split()
    if len(fields) not in (5, 6):
        raise _refused(expression)
    try:
        return _translated(fields if len(fields) == 6 else ["0", *fields])
    except (ValueError, IndexError):
        raise _refused(expression) from None


def _translated(fields: list[str]) -> tuple[str, ...]:
    second, minute, hour, day, month, weekday = fields
    time = ":".join(
        _list(_values(field, low, high))
        for field, low, high in ((hour, 0, 23), (minute, 0, 59), (second, 0, 59))
    )
    months = _list(_values(month, 1, 12, _MONTHS, 1))
    days = _list(_values(day, 1, 31))
    numbers = _values(weekday, 0, 7, [name.lower() for name in _DAYS], 0)
    names = ",".join(_DAYS[n] for n in sorted({n % 7 for n in numbers})) + " " if numbers is not None else ""
    # Debian's cron: a field that begins with a star restricts nothing by itself.
    if weekday.startswith("*") or day.startswith("*") or "?" in (day, weekday):
        return (f"{names}*-{months}-{days} {time}",)
    return (f"*-{months}-{days} {time}", f"{names}*-{months}-* {time}")


def _values(
    field: str, low: int, high: int, names: list[str] | None = None, first: int = 0
) -> list[int] | None:
    """The numbers that a field names; None: all."""
    if field in ("*", "?"):
        return None
    found: set[int] = set()
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        begin, dash, end = span.partition("-")
        if span == "*":
            start, stop = low, high
        else:
            start = _number(begin, names, first)
            stop = _number(end, names, first) if dash else high if slash else start
        if not low <= start <= high or not low <= stop <= high or stop < start:
            raise ValueError(part)
        found.update(range(start, stop + 1, int(step) if slash else 1))
    return sorted(found)


def _number(text: str, names: list[str] | None, first: int) -> int:
    if names and text in names:
        return names.index(text) + first
    return int(text)


def _list(values: list[int] | None) -> str:
    return "*" if values is None else ",".join(f"{value:02d}" for value in values)


def _refused(expression: str) -> StepFailed:
    message = f"cannot have systemd keep the schedule {expression!r}: it has no such expression"
    hint = "Write it as an OnCalendar expression, or say `keeper: worker`"
    return StepFailed(Cause.preflight, message, hint)
