"""Clocks that are set: of the machine that Fraisier runs on, and of the PostgreSQL server.

Not the machine's own clock: others work here. A process of Fraisier is told another time of day by Python
itself, the server by libfaketime (https://github.com/wolfcw/libfaketime, Debian's package of that name), each
with what a file says whenever it is asked for. CLOCK_MONOTONIC and CLOCK_BOOTTIME stay as they are, as on a
machine whose clock is set. Python cannot have libfaketime: its sleep(3) fails there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos.world import World
from tests.integration.outside import Serve
from tests.servers.postgresql import running

HOURS = (-50, -24, -3, -1, 1, 3, 24, 50)

# Python imports a module of this name before anything else: https://docs.python.org/3/library/site.html
_SITECUSTOMIZE = """
import pathlib, time
_true, _note = time.time, pathlib.Path(__file__).with_name("ahead")
time.time = lambda: _true() + float(_note.read_text()[:-1])
"""


class Clock:
    """A time of day. Who has `of_python`, or `of_c`, in its environment goes by it."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "ahead"
        folder.chmod(0o755)  # the server runs as somebody else
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self.of_python = {"PYTHONPATH": str(folder)}
        self.set(0)

    @property
    def of_c(self) -> dict[str, str]:
        """For programs that ask the C library."""
        library = next(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"), None)
        if library is None:
            pytest.skip("libfaketime is not installed (Debian: libfaketime)")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._note),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, hours: float) -> None:
        """So far from the true time."""
        new = self._note.with_suffix(".new")
        new.write_text(f"{hours * 3600:+.0f}s")
        new.chmod(0o644)
        new.rename(self._note)


@contextmanager
def _clock() -> Iterator[Clock]:
    with TemporaryDirectory(prefix="fraisier-clock-", dir="/var/tmp") as folder:
        yield Clock(Path(folder))


def clock_of_the_machine(world: World) -> str:
    """Two processes; the clock of both, or of one, is set while they deploy, and one is killed."""
    clock = world.stack.enter_context(_clock())
    world.build(before_build=world.held_build())
    others = world.dice.choice((clock.of_python, {}))
    serves = [world.process(env=clock.of_python), world.process(env=others)]
    jumps = _jumps(world, clock, serves, clock.of_python)
    return f"by {jumps} h"


def clock_of_the_server(world: World) -> str:
    """The same, with the clock of the PostgreSQL server, by which it times leases."""
    clock = world.stack.enter_context(_clock())
    server = world.stack.enter_context(running(env=clock.of_c))
    world.build(before_build=world.held_build(), database=server.database())
    jumps = _jumps(world, clock, [world.process(), world.process()], {})
    return f"by {jumps} h"


def _jumps(world: World, clock: Clock, serves: list[Serve], env: dict[str, str]) -> str:
    done = []
    for number in range(world.length):
        deployment = world.push_held(serves[0])
        hours = world.dice.choice(HOURS)
        done.append(f"{hours:+d}")
        if number % 2 == 0:  # the lease that it leaves behind is of the time before
            serves[0].kill()
        clock.set(hours)
        world.pause(0.5)
        if number % 2 == 0:
            serves[0].start(env=env)
        world.push(serves[1])
        world.let_go()
        row = world.ended(deployment, 20)
        assert row["status"] in ("success", "superseded"), row
        world.comes_to_rest(20)
        world.goes_on(serves[0])
    (found,) = world.site.rows("SELECT min(duration) AS least FROM tb_deployment_steps")
    assert found["least"] >= 0
    return " ".join(done)
