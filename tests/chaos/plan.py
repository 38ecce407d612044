"""Which rounds are played: one per point that a story passes, per fault and store, or some drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from tests.chaos.points import Fault, Point
from tests.chaos.stories import Story

STORES = ("sqlite", "postgresql")
FAULTS = ("kill", "stop")
TWICE = 1 / 8
LATER = 40  # points that a successor passes at most before it is killed, too


@dataclass(frozen=True)
class Round:
    """A story, where a fault strikes in it, and on which store.

    `again` is after how many points the successor is killed, too; 0 = never.
    """

    story: str
    fault: Fault
    store: str
    again: int = 0

    def __str__(self) -> str:
        return f"{self.story} · {self.fault.point}"

    @property
    def kind(self) -> str:
        """The fault, for people."""
        return "kill twice" if self.again else self.fault.kind

    @property
    def name(self) -> str:
        """All that `--only` is looked for in."""
        return f"{self.store} · {self.kind} · {self}"


def new_points(
    stories: Sequence[Story], recorded: Mapping[str, Sequence[Point]]
) -> list[tuple[Story, Point]]:
    """Every point of every story but what another one has passed before it with the same past."""
    found: list[tuple[Story, Point]] = []
    known: set[Point] = set()  # of threads that perform nothing: the same in every story
    for number, story in enumerate(stories):
        steps = _until_like_any_other([point for point in recorded[story.name] if point.is_of_a_step])
        earlier = [recorded[other.name] for other in stories[:number] if other.beginning == story.beginning]
        shared = max((_shared(steps, other) for other in earlier), default=0)
        others = [p for p in recorded[story.name] if not p.is_of_a_step and p not in known]
        known |= {point for point in others if point.where in {"idle", "busy"}}
        found += [(story, point) for point in (*others, *steps[shared:])]
    return found


def _until_like_any_other(steps: Sequence[Point]) -> list[Point]:
    """A second attempt, or deployment, of a story is worth playing until its first step has ended."""
    again = (p for p in steps if (p.edge, p.what, p.number) == ("after", "end_step", 2))
    end = next(again, None)
    return list(steps[: steps.index(end) + 1] if end else steps)


def _shared(steps: Sequence[Point], other: Iterable[Point]) -> int:
    """How many points two stories have in common before they part."""
    theirs = [point for point in other if point.is_of_a_step]
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(steps, theirs, strict=False))))


def rounds(points: Iterable[tuple[Story, Point]], store: str, seed: int) -> list[Round]:
    """A round per write of the journal and fault, and one per act on the machine.

    An act is the same whatever the store: the seed says on which of them it is played, and with which fault.
    Every eighth of those that kill kills the successor, too.
    """
    found: list[Round] = []
    for story, point in points:
        dice = random.Random(f"{seed} {story.name} {point}")  # each point's own: the rest changes nothing
        faults, on = FAULTS, STORES
        if point.is_an_act:
            faults, on = (dice.choice(FAULTS),), (dice.choice(STORES),)
        if store in on:
            found += [Round(story.name, Fault(point, fault), store) for fault in faults]
        if store in on and dice.random() < TWICE:
            found.append(Round(story.name, Fault(point, "kill"), store, again=dice.randrange(1, LATER)))
    return found
