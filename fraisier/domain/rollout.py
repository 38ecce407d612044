"""Several hosts of one environment: in which order they get a release, and when all of them go back.

A deployment over several hosts is a row of moves. Each one follows from where the hosts stand, by `next_move`
and nothing else; so a worker that takes over from a dead one goes on as that one would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from fraisier.domain.errors import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a release gets to the hosts of an environment.

    `batch` hosts at once (with `percent`, that share of all of them, rounded up); the first `canary` ones go
    before all others; `pause` seconds between two batches. More than `max_failures` hosts that do not come
    along, or any of the canaries, are too many: everybody goes back.
    """

    batch: int = 1
    percent: bool = False
    max_failures: int = 0
    pause: float = 0.0
    canary: int = 1

    def size(self, hosts: int) -> int:
        """How many of so many hosts are changed at once."""
        return max(1, -(-hosts * self.batch // 100) if self.percent else self.batch)


class HostState(StrEnum):
    """Where a host stands. The first four are those of a deployment that is under way."""

    waiting = "waiting"  # its turn has not come: it runs what it ran before
    changing = "changing"  # its turn has come: it may run either release
    failed = "failed"  # did not come along, and has to go back
    returning = "returning"  # everybody goes back, and this one has not yet
    current = "current"  # runs what the environment runs
    behind = "behind"  # can be reached, and runs another release than the environment
    broken = "broken"  # can be reached, did not come along and did not come back
    unreachable = "unreachable"  # cannot be reached: what it runs is what was last known
    unknown = "unknown"  # nothing was ever deployed to it


LOST = frozenset({HostState.failed, HostState.behind, HostState.broken, HostState.unreachable})
UNDER_WAY = frozenset({HostState.waiting, HostState.changing, HostState.failed, HostState.returning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one host stands, and what it runs as far as is known.

    `previous` is what it goes back to in `deployment`, the last one that was about it; `touched` whether its
    turn had come there. `unfinished`: a turn, or a way back, was cut off, so that its unit may run something
    else than its link says. `cause` and `detail` say why it did not come along.
    """

    host: str
    state: HostState = HostState.unknown
    release: str = ""
    commit: str = ""
    previous: str = ""
    previous_commit: str = ""
    deployment: str = ""
    touched: bool = False
    unfinished: bool = False
    cause: Cause | None = None
    detail: str = ""

    @property
    def is_healed_by_itself(self) -> bool:
        """Whether a worker looks after it: nobody's release is to blame for where it stands."""
        blameless = self.cause is not None and self.cause.is_retried
        return self.state is HostState.unreachable or (self.state in LOST and blameless)


@dataclass(frozen=True, slots=True)
class BringIn:
    """These hosts get the release now, all at once, after a pause in seconds."""

    hosts: tuple[str, ...]
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class TakeBack:
    """These hosts did not come along, which is allowed: they go back, and the others go on."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GoBack:
    """Too many did not come along: these hosts go back, and that is the end of it."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Every host has the release, or is named among those that did not come along."""


Move = BringIn | TakeBack | GoBack | Done


def next_move(rollout: Rollout, standings: Sequence[Standing]) -> Move:
    """What is next, where the hosts stand so. They are in the order of the configuration."""
    if any(each.state is HostState.returning for each in standings):
        return GoBack(who_returns(standings))
    if are_too_many_lost(rollout, standings):
        return GoBack(who_returns(standings))
    broken = _names(standings, HostState.failed)
    if broken:
        return TakeBack(broken)
    most = rollout.size(len(standings))
    half_done = _names(standings, HostState.changing)
    if half_done:  # their worker died
        return BringIn(half_done[:most])
    waiting = _names(standings, HostState.waiting)
    if not waiting:
        return Done()
    pause = rollout.pause if any(each.touched for each in standings) else 0.0
    canaries = [name for name in _canaries(rollout, standings) if name in waiting]
    return BringIn(tuple(canaries or waiting)[:most], pause)


def planned_turns(rollout: Rollout, hosts: Sequence[str]) -> list[list[str]]:
    """The hosts in the order in which they come, where all goes well: who comes together stands together."""
    standings = {name: Standing(host=name, state=HostState.waiting) for name in hosts}
    turns: list[list[str]] = []
    while isinstance(move := next_move(rollout, [*standings.values()]), BringIn):
        turns.append([*move.hosts])
        for name in move.hosts:
            standings[name] = replace(standings[name], state=HostState.current, touched=True)
    return turns


def are_too_many_lost(rollout: Rollout, standings: Sequence[Standing]) -> bool:
    """Whether the rollout has failed: by the number of hosts that are lost to it, or by a canary.

    One that was lost before its turn came is replaced as a canary by the host after it.
    """
    lost = [each for each in standings if each.state in LOST]
    canaries = set(_canaries(rollout, standings))
    nobody_is_left = bool(lost) and len(lost) == len(standings)
    return len(lost) > rollout.max_failures or nobody_is_left or any(each.host in canaries for each in lost)


def who_returns(standings: Sequence[Standing]) -> tuple[str, ...]:
    """Whom the release has touched, and who is not known to have gone back from it already."""
    gone = (HostState.behind, HostState.broken)
    return tuple(each.host for each in standings if each.touched and each.state not in gone)


def at_rest(standing: Standing, release: str) -> Standing:
    """A standing after the deployment has ended, where the environment is said to run `release`."""
    if standing.state in (HostState.unreachable, HostState.broken, HostState.unknown):
        return standing
    if standing.state in (HostState.changing, HostState.failed, HostState.returning):
        return replace(standing, state=HostState.broken)  # nobody came to it, or could say what became of it
    if not standing.release and not release:
        return replace(standing, state=HostState.unknown, cause=None, detail="")
    if standing.release == release:
        return replace(standing, state=HostState.current, cause=None, detail="")
    return replace(standing, state=HostState.behind)


def _canaries(rollout: Rollout, standings: Sequence[Standing]) -> tuple[str, ...]:
    able = [each.host for each in standings if each.touched or each.state not in LOST]
    return tuple(able[: rollout.canary])


def _names(standings: Sequence[Standing], state: HostState) -> tuple[str, ...]:
    return tuple(each.host for each in standings if each.state is state)
