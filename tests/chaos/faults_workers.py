"""Several processes race for an environment, or several, while they are killed, stopped and woken up again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.several import Environment, several
from tests.chaos.world import World
from tests.integration.outside import Serve

ACT_EVERY = 0.25  # seconds, about
LONGEST_STOP = 2.5  # seconds, of a process; the lease is 1


@dataclass
class Member:
    """One process of the crowd. `asleep_until` is monotonic seconds, 0 = awake."""

    process: Serve
    receives: bool
    asleep_until: float = 0.0

    def stop(self, seconds: float) -> None:
        """SIGSTOP, for so long."""
        self.process.process.send_signal(signal.SIGSTOP)
        self.asleep_until = time.monotonic() + seconds

    def wake(self) -> None:
        """SIGCONT."""
        self.process.process.send_signal(signal.SIGCONT)
        self.asleep_until = 0.0

    def die(self) -> None:
        """kill -9, and a new one in its place."""
        self.process.kill()
        self.asleep_until = 0.0
        self.process.start(ready=False)


class Crowd:
    """Processes that work on the same site; at least one of those that receive is always awake."""

    def __init__(self, world: World, receivers: int, workers: int) -> None:
        self._world, self._dice = world, world.dice
        self.members = [Member(world.process(), receives=True) for _ in range(receivers)]
        self.members += [Member(world.process("worker"), receives=False) for _ in range(workers)]

    def disturb(self) -> None:
        """Kill or stop somebody, but for the one who receives."""
        awake = [each for each in self.members if not each.asleep_until and each is not self.receiver]
        if not awake:
            return
        member = self._dice.choice(awake)
        if self._dice.random() < 0.5:
            member.die()
        else:
            member.stop(self._dice.uniform(0.2, LONGEST_STOP))

    def change_receiver(self) -> None:
        """Another process that answers is left alone from now on, and all others are not."""
        ready = [
            m for m in self.members if m.receives and not m.asleep_until and m.process.get("/ready")[0] == 200
        ]
        if ready:
            self._receiver = self._dice.choice(ready)

    @property
    def receiver(self) -> Member:
        """Who is told of pushes at present."""
        return getattr(self, "_receiver", self.members[0])

    def wake_up(self, *, all_of_them: bool = False) -> None:
        """Whose time has come."""
        for member in self.members:
            if member.asleep_until and (all_of_them or time.monotonic() > member.asleep_until):
                member.wake()


def play(world: World, crowd: Crowd, acts: tuple[Callable[[Serve], object], ...]) -> None:
    """`length` disturbances, with what people do in between."""
    for number in range(world.length * 4):
        if number % 2:
            crowd.disturb()
        world.dice.choice(acts)(crowd.receiver.process)
        world.pause(ACT_EVERY)
        crowd.wake_up()
        if number % 4 == 3:
            crowd.change_receiver()
    crowd.wake_up(all_of_them=True)


def two_workers(world: World) -> str:
    """Two processes, one environment."""
    world.build()
    crowd = Crowd(world, receivers=2, workers=0)
    world.ended(world.push(crowd.receiver.process, "good"))
    play(world, crowd, (world.push, world.push, world.push, world.cancel, world.roll_back))
    world.goes_on(crowd.receiver.process)
    return outcomes(world)


def four_workers(world: World) -> str:
    """Four processes, three environments."""
    world.build()
    environments = several(world, ("staging", "testing"))
    crowd = Crowd(world, receivers=2, workers=2)
    acts = tuple(act for each in environments for act in (each.push, each.push, each.cancel, each.roll_back))
    play(world, crowd, acts)
    for each in environments:
        each.goes_on(crowd.receiver.process)
    return outcomes(world)


def outcomes(world: World) -> str:
    """How many attempts there were, of how many deployments."""
    (row,) = world.site.rows(
        "SELECT count(*) AS attempts, count(DISTINCT deployment) AS deployments FROM tb_deployment_attempts"
    )
    return f"{row['attempts']} attempts of {row['deployments']}"


__all__ = ["Environment", "four_workers", "two_workers"]
