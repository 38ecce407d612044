"""In which order hosts come, and when all of them go back: whatever becomes of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.domain.errors import Cause
from fraisier.domain.rollout import (
    LOST,
    BringIn,
    Done,
    GoBack,
    HostState,
    Rollout,
    Standing,
    TakeBack,
    at_rest,
    next_move,
    planned_turns,
    who_returns,
)
from fraisier.domain.rollout_words import lost_along, named

S = HostState
TOUCHED = (S.changing, S.failed, S.returning)


def standing(name: str, state: HostState, *, touched: bool | None = None, **fields: object) -> Standing:
    was = state in TOUCHED if touched is None else touched
    return Standing(host=name, state=state, touched=was, release="1-old", previous="1-old", **fields)  # type: ignore[arg-type]


def hosts(*states: HostState) -> list[Standing]:
    return [
        standing(f"web{number}", state, touched=state in (*TOUCHED, S.current))
        for number, state in enumerate(states, 1)
    ]


# ---------------------------------------------------------------------------------------- by example


@pytest.mark.parametrize(
    ("rollout", "count", "turns"),
    [
        (Rollout(), 3, ["1", "2", "3"]),
        (Rollout(batch=2), 5, ["1", "2 3", "4 5"]),
        (Rollout(batch=2, canary=0), 5, ["1 2", "3 4", "5"]),
        (Rollout(batch=3, canary=2), 6, ["1 2", "3 4 5", "6"]),
        (Rollout(batch=1, canary=2), 3, ["1", "2", "3"]),
        (Rollout(batch=25, percent=True, canary=0), 9, ["1 2 3", "4 5 6", "7 8 9"]),
        (Rollout(batch=100, percent=True), 4, ["1", "2 3 4"]),
        (Rollout(batch=1, percent=True, canary=0), 2, ["1", "2"]),
        (Rollout(canary=5), 1, ["1"]),
    ],
)
def test_hosts_come_by_batches_canaries_first(rollout: Rollout, count: int, turns: list[str]) -> None:
    found = planned_turns(rollout, [str(number) for number in range(1, count + 1)])
    assert [" ".join(turn) for turn in found] == turns


def test_between_two_batches_there_is_a_pause_and_none_before_the_first() -> None:
    rollout = Rollout(pause=10.0)
    assert next_move(rollout, hosts(S.waiting, S.waiting)) == BringIn(("web1",), 0.0)
    assert next_move(rollout, hosts(S.current, S.waiting)) == BringIn(("web2",), 10.0)


def test_one_failure_more_than_allowed_takes_everybody_back_who_was_touched() -> None:
    rollout = Rollout(batch=2, max_failures=1)
    now = hosts(S.current, S.failed, S.failed, S.waiting)
    assert next_move(rollout, now) == GoBack(("web1", "web2", "web3"))


def test_an_allowed_failure_goes_back_alone() -> None:
    now = hosts(S.current, S.failed, S.waiting)
    assert next_move(Rollout(max_failures=1), now) == TakeBack(("web2",))


def test_a_canary_that_fails_is_always_too_many() -> None:
    assert next_move(Rollout(max_failures=2), hosts(S.failed, S.waiting, S.waiting)) == GoBack(("web1",))


def test_a_host_that_was_lost_before_its_turn_is_no_canary() -> None:
    gone = standing("web1", S.unreachable, touched=False)
    rest = hosts(S.unreachable, S.waiting, S.waiting)[1:]
    assert next_move(Rollout(max_failures=1), [gone, *rest]) == BringIn(("web2",))


def test_the_turn_of_a_host_whose_worker_died_is_repeated_before_anybody_elses() -> None:
    now = hosts(S.current, S.waiting, S.changing)
    assert next_move(Rollout(batch=2), now) == BringIn(("web3",))


def test_a_way_back_that_was_begun_is_finished() -> None:
    now = hosts(S.current, S.returning, S.waiting)
    assert next_move(Rollout(max_failures=9), now) == GoBack(("web1", "web2"))


def test_where_nobody_is_left_the_rollout_has_failed() -> None:
    lost = [standing(name, S.unreachable, touched=False) for name in ("web1", "web2")]
    assert next_move(Rollout(max_failures=2, canary=0), lost) == GoBack(())


def test_at_rest_a_host_is_measured_by_what_the_environment_runs() -> None:
    assert at_rest(standing("a", S.waiting), "1-old").state is S.current
    assert at_rest(standing("a", S.behind, detail="sick"), "1-old") == standing("a", S.current)
    assert at_rest(standing("a", S.waiting), "2-new").state is S.behind
    assert at_rest(standing("a", S.unreachable), "1-old").state is S.unreachable
    assert at_rest(standing("a", S.changing), "1-old").state is S.broken
    assert at_rest(Standing(host="a", state=S.behind), "").state is S.unknown


def test_who_is_not_as_the_environment_is_named_with_what_it_runs() -> None:
    said = named([*hosts(S.current, S.behind, S.broken), standing("db", S.unreachable)])
    assert "web1" not in said
    assert "web2 runs 1-old" in said
    assert "web3 did not come back" in said
    assert "db cannot be reached, and is believed to run 1-old" in said
    assert named(hosts(S.current)) == ""


def test_a_release_is_blamed_before_a_host_that_is_away() -> None:
    away = standing("a", S.unreachable, cause=Cause.network, detail="a: no route")
    sick = standing("b", S.failed, cause=Cause.unhealthy, detail="b: HTTP 503")
    failure = lost_along([away, sick, standing("c", S.waiting)], Rollout(), [])
    assert failure.cause is Cause.unhealthy
    assert "2 of 3 hosts did not come along (max_failures is 0): a: no route; b: HTTP 503" in failure.message


# ------------------------------------------------------------------------------------- whatever happens


class World:
    """Hosts that do as the dice say: what becomes of a turn, and of the way back."""

    def __init__(self, rollout: Rollout, count: int, dice: st.DataObject) -> None:
        self.rollout, self.dice = rollout, dice
        self.turns: list[tuple[str, ...]] = []
        lost = st.sampled_from([S.waiting, S.waiting, S.waiting, S.waiting, S.unreachable, S.behind])
        self.hosts = {
            name: standing(name, dice.draw(lost), touched=False) for name in (f"h{n}" for n in range(count))
        }

    @property
    def standings(self) -> Sequence[Standing]:
        return list(self.hosts.values())

    def turn(self, name: str) -> None:
        ends = [
            S.current,
            S.current,
            S.current,
            S.failed,
            S.unreachable,
            S.changing,
        ]  # changing: its worker died
        state = self.dice.draw(st.sampled_from(ends))
        release = "2-new" if state in (S.current, S.unreachable) else "1-old"
        self.hosts[name] = replace(self.hosts[name], state=state, touched=True, release=release)

    def back(self, name: str) -> None:
        state = self.dice.draw(st.sampled_from([S.behind, S.behind, S.broken, S.unreachable]))
        release = "1-old" if state is S.behind else self.hosts[name].release
        self.hosts[name] = replace(self.hosts[name], state=state, release=release)

    def play(self) -> str:
        for _ in range(1000):
            move = next_move(self.rollout, self.standings)
            if isinstance(move, BringIn):
                self.turns.append(move.hosts)
                for name in move.hosts:
                    assert self.hosts[name].state in (S.waiting, S.changing)
                    self.turn(name)
            elif isinstance(move, TakeBack):
                for name in move.hosts:
                    self.back(name)
            elif isinstance(move, GoBack):
                for name in move.hosts:
                    self.hosts[name] = replace(self.hosts[name], state=S.returning)
                if self.dice.draw(st.booleans()) and move.hosts:
                    continue  # its worker died here
                for name in who_returns(self.standings):
                    self.back(name)
                return "back"
            else:
                return "done"
        raise AssertionError("the rollout does not end")


rollouts = st.builds(
    Rollout,
    batch=st.integers(1, 100),
    percent=st.booleans(),
    max_failures=st.integers(0, 4),
    canary=st.integers(0, 3),
)


@given(rollouts, st.integers(1, 9), st.data())
def test_never_more_than_a_batch_at_once_and_canaries_before_all_others(
    rollout: Rollout, count: int, dice: st.DataObject
) -> None:
    world = World(rollout, count, dice)
    able = [each.host for each in world.standings if each.state is S.waiting]
    world.play()
    assert all(len(turn) <= rollout.size(count) for turn in world.turns)
    begun = [name for turn in world.turns for name in turn]
    first = list(dict.fromkeys(begun))
    assert first == able[: len(first)]
    canaries = set(able[: rollout.canary])
    for turn in world.turns:
        assert set(turn) <= canaries or canaries.isdisjoint(turn)


@given(rollouts, st.integers(1, 9), st.data())
def test_in_the_end_every_host_has_the_release_or_is_named(
    rollout: Rollout, count: int, dice: st.DataObject
) -> None:
    world = World(rollout, count, dice)
    ended = world.play()
    right = "2-new" if ended == "done" else "1-old"
    rest = [at_rest(each, right) for each in world.standings]
    said = named(rest)
    for each in rest:
        assert (each.release == right and each.state is S.current) or each.host in said
    assert not {each.state for each in rest} & {S.waiting, S.changing, S.failed, S.returning}


@given(rollouts, st.integers(1, 9), st.data())
def test_too_many_failures_leave_nobody_with_the_new_release_who_could_be_reached(
    rollout: Rollout, count: int, dice: st.DataObject
) -> None:
    world = World(rollout, count, dice)
    ended = world.play()
    lost = [each for each in world.standings if each.state in LOST]
    if ended == "back":
        assert not [each.host for each in world.standings if each.touched and each.state not in LOST]
        assert all(each.release == "1-old" for each in world.standings if each.state is S.behind)
    else:
        assert len(lost) <= rollout.max_failures
        assert all(each.state is S.current for each in world.standings if each not in lost)


@given(st.integers(1, 300), st.integers(1, 100))
def test_a_share_of_hosts_is_rounded_up_and_never_nobody(count: int, percent: int) -> None:
    size = Rollout(batch=percent, percent=True).size(count)
    assert 1 <= size <= count
    assert size - 1 < count * percent / 100 <= size


def test_nothing_is_done_where_all_have_it() -> None:
    assert next_move(Rollout(), hosts(S.current, S.current)) == Done()
