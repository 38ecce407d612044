"""Steps on several hosts, told together: a line for each step and turn, and one for each host that failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fraisier.cli.text import shorten

if TYPE_CHECKING:
    from fraisier.application.ports import Row

Group = tuple[Any, ...]  # attempt, phase, step


def group_of(step: Row) -> Group:
    """Steps of one group are the same step, on as many hosts."""
    return step["attempt"], step["phase"], step["step"]


class Folding:
    """Holds back steps that went well until all that began with them have ended."""

    def __init__(self) -> None:
        self._taken: set[Any] = set()

    def ended(self, steps: Sequence[Row], *, final: bool) -> list[list[Row]]:
        """What has ended since, in order: steps to be told together. Each is given once."""
        running = {group_of(step) for step in steps if step["state"] == "running"}
        told: dict[Group | Any, list[Row]] = {}
        for step in steps:
            if step["state"] == "running" or step["id"] in self._taken:
                continue
            folds = bool(step.get("host")) and step["state"] == "success"
            if folds and not final and (group_of(step) in running or not _is_behind(step, steps)):
                continue
            self._taken.add(step["id"])
            told.setdefault(group_of(step) if folds else step["id"], []).append(step)
        return list(told.values())


def _is_behind(step: Row, steps: Sequence[Row]) -> bool:
    """Whether something else has begun since: before, more hosts may come to the same step."""
    return any(each["id"] > step["id"] and group_of(each) != group_of(step) for each in steps)


def hosts_of(steps: Iterable[Row]) -> list[str]:
    """Their hosts, in order; none where there is only one."""
    return [step["host"] for step in steps if step.get("host")]


def in_few_words(hosts: Sequence[str], width: int) -> str:
    """`web1, web2`; of many how many, and as many names as fit."""
    named = ", ".join(hosts)
    if len(named) <= width:
        return named
    return f"{len(hosts)} hosts: {shorten(named, max(width - 12, 8))}"
