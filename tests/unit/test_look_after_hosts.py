"""Hosts that could not be reached: looked at with growing pauses, and asked for when they are back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fraisier.application.look_after_hosts import FIRST, LONGEST, LookAfterHosts
from fraisier.application.tools import Tools
from fraisier.domain.rollout import Rollout
from tests.factories import KEY, SHA_A, SHA_B, SHA_C
from tests.fakes import FakeClock
from tests.fleet import Fleet


class Watch:
    """Somebody who looks after the hosts of a fleet, on a clock that passes when told to."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.clock, self.stop = fleet, FakeClock(), threading.Event()
        self.told: list[str] = []
        nothing: Any = {}
        tools = Tools(
            hosts=fleet.hosts,
            targets=nothing,
            probers=nothing,
            migrations=nothing,
            repository=fleet.repository,
            clock=self.clock,
        )
        self.look_after = LookAfterHosts(
            tools, fleet.store, lambda event, _: self.told.append(event), self.stop
        )

    def after(self, seconds: float) -> list[str]:
        """What happens at the next look."""
        self.clock.advance(seconds)
        self.told.clear()
        configuration: Any = SimpleNamespace(environments={KEY: self.fleet.environment})
        self.look_after(configuration)
        return list(self.told)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """web3 was away when b was deployed."""
    made = Fleet(tmp_path, rollout=Rollout(max_failures=1))
    for sha in (SHA_A, SHA_B, SHA_C):
        made.repository.commit(sha)
    made.deploy(SHA_A)
    made[3].away = True
    made.deploy(SHA_B)
    yield made
    made.close()


def test_a_host_that_is_back_is_healed_by_a_deployment_of_its_own(fleet: Fleet) -> None:
    watch = Watch(fleet)
    assert watch.after(0) == []
    fleet[3].away = False
    assert watch.after(FIRST) == ["healing_requested"]
    fleet.perform()
    assert fleet.runs == ["b", "b", "b"]
    assert watch.after(LONGEST) == []


def test_pauses_grow_while_it_is_away_and_begin_anew_another_time(fleet: Fleet) -> None:
    watch = Watch(fleet)
    watch.after(0)
    assert watch.after(FIRST) == ["host_unreachable"]
    assert watch.after(FIRST) == []
    assert watch.after(FIRST) == ["host_unreachable"]
    for _ in range(10):
        assert watch.after(LONGEST) == ["host_unreachable"]
    assert watch.after(LONGEST - 1) == []
    fleet[3].away = False
    assert watch.after(1) == ["healing_requested"]
    fleet.perform()
    watch.after(0)
    fleet[3].away = True
    fleet.deploy(SHA_C)
    watch.after(0)
    assert watch.after(FIRST) == ["host_unreachable"]


def test_what_waits_already_brings_the_host_along(fleet: Fleet) -> None:
    watch = Watch(fleet)
    watch.after(0)
    fleet[3].away = False
    fleet.wish(SHA_C)
    assert watch.after(FIRST) == []
    fleet.perform()
    assert fleet.runs == ["c", "c", "c"]


def test_a_release_that_is_sick_on_a_host_is_not_tried_there_again_by_itself(fleet: Fleet) -> None:
    watch = Watch(fleet)
    watch.after(0)
    fleet[3].away, fleet[3].unhealthy = False, {"b"}
    assert watch.after(FIRST) == ["healing_requested"]
    fleet.perform()
    assert watch.after(LONGEST) == []


def test_a_connection_that_hangs_does_not_keep_a_worker_from_ending(fleet: Fleet) -> None:
    watch = Watch(fleet)
    watch.after(0)
    hangs = threading.Event()
    fleet[3].kind = lambda path: hangs.wait(60) and "folder"  # type: ignore[assignment,method-assign,return-value]
    watch.stop.set()
    assert watch.after(FIRST) == []
    hangs.set()
