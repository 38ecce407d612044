"""Which copies of backups go. Days, weeks (ISO 8601) and months are UTC's.

A copy that is not good never stands for one that is: the rules count good ones among themselves. What is
damaged goes no earlier than it would if it were good; what nobody has looked at never goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

from fraisier.domain.backup import Copy, CopyState, Retention

_SLOTS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: tuple(at.isocalendar())[:2],
    "monthly": lambda at: (at.year, at.month),
}


def kept(copies: Sequence[Copy], retention: Retention) -> set[str]:
    """The names of those that the rules keep: the newest `last`, and the newest of each day, week, month that
    has any, for as many of those as the rule says.

    As restic's: https://restic.readthedocs.io/en/stable/060_forget.html
    """
    newest_first = sorted(copies, key=lambda copy: (copy.made_at, copy.name), reverse=True)
    found = {copy.name for copy in newest_first[: retention.last]}
    for rule, slot_of in _SLOTS.items():
        slots: dict[tuple[int, ...], str] = {}
        for copy in newest_first:
            slots.setdefault(slot_of(datetime.fromtimestamp(copy.made_at, UTC)), copy.name)
        found.update(list(slots.values())[: getattr(retention, rule)])
    return found


def to_prune(copies: Sequence[Copy], retention: Retention, *, verified: str) -> list[str]:
    """The names of one destination's copies that go, oldest first.

    None goes unless the newest of all is good. `verified` is the newest backup of the environment that was
    brought back and found good ('' = none): its copy stays, and so does this destination's own newest
    verified one; where something was found wrong with each of those since, the newest that was ever good.
    Safety copies stand for nothing but what a restore replaced: they stay, and no rule counts them.
    """
    present = [copy for copy in copies if copy.state is not CopyState.gone and not copy.safety]
    if not present or not _any_rule(retention):
        return []
    if not max(present, key=_age).is_good:
        return []
    good = [copy for copy in present if copy.is_good]
    stay = kept(good, retention) | kept(present, retention) | {verified} | _newest_verified(present)
    return [
        copy.name
        for copy in sorted(present, key=_age)
        if copy.name not in stay and copy.state is not CopyState.unknown
    ]


def to_forget(copies: Sequence[Copy], retention: Retention) -> list[str]:
    """The names of those that are gone, and that no rule would keep if they were there; safety copies are
    forgotten by nobody but a person.
    """
    counted = [copy for copy in copies if not copy.safety]
    stay = kept(counted, retention)
    return [
        copy.name
        for copy in sorted(counted, key=_age)
        if copy.state is CopyState.gone and copy.name not in stay and _any_rule(retention)
    ]


def _any_rule(retention: Retention) -> bool:
    return any((retention.last, retention.daily, retention.weekly, retention.monthly))


def _age(copy: Copy) -> tuple[float, str]:
    return (copy.made_at, copy.name)


def _newest_verified(copies: Sequence[Copy]) -> set[str]:
    tried = [copy for copy in copies if copy.verified_at is not None]
    return {max(tried, key=lambda copy: (copy.is_good, *_age(copy))).name} if tried else set()


def newest_verified(copies: Collection[Copy]) -> str:
    """The newest backup that was brought back and found good, and that is whole somewhere; '' = none."""
    tried = [copy for copy in copies if copy.verified_at is not None and copy.is_good]
    return max(tried, key=_age).name if tried else ""
