"""The power is cut in the middle of each step: what was not synced is lost, and every process is gone.

State folder, application folder and, on PostgreSQL, the server's data lie on an ext4 file system that is shut
down without flushing its journal, unmounted and mounted again. The forge, and what migrations did elsewhere,
stay: they are other machines'.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.chaos.world import World
from tests.disks import Machine, machine
from tests.integration.outside import Serve
from tests.servers.postgresql import PostgresqlServer, running

STEPS = ("preflight", "fetch", "prepare", "build", "migrate", "activate", "check_health", "finish")


class Power:
    """What a power cut takes along, and what comes up again after it."""

    def __init__(self, world: World, made: Machine, server: PostgresqlServer | None) -> None:
        self._world, self._machine, self._server = world, made, server

    def fails(self, serve: Serve) -> None:
        """Cut it, restore it, and boot."""
        self._machine.lose_power()
        serve.end()
        if self._server:
            self._server.stop(how=signal.SIGKILL)
        self._machine.plug_in()
        if self._server:
            self._server.start()
        serve.start(ready=True)


@contextmanager
def powered(world: World) -> Iterator[tuple[Power, str]]:
    """A machine for the world's site, and the URL of its database ('' on SQLite)."""
    places = {"state": world.folder / "state", "app": world.folder / "app"}
    if world.store == "sqlite":
        with machine(world.folder / "disk", places) as made:
            yield Power(world, made, None), ""
        return
    made: list[Machine] = []

    @contextmanager
    def disk(data: Path) -> Iterator[Any]:
        with machine(world.folder / "disk", {**places, "data": data}) as plugged:
            made.append(plugged)
            yield

    with running(settings={"fsync": "on"}, disk=disk) as server:
        yield Power(world, made[0], server), server.database()


def power_cut(world: World) -> str:
    """In each step, or while it begins or ends; and once right after a push was accepted."""
    power, database = world.stack.enter_context(powered(world))
    world.build(database=database)
    serve = world.process()
    world.ended(world.push(serve, "good"))
    steps = ["answer", *(world.dice.choice(STEPS) for _ in range(world.length))]
    for step in steps:
        deployment = world.push(serve, "good" if step == "answer" else "")
        assert deployment
        if step != "answer":
            with suppress(AssertionError):  # it may have failed before
                world.look(step, lambda d=deployment, s=step: s in world.steps(d) or _is_over(world, d), 10)
            world.pause(0.08)
        power.fails(serve)
        row = world.ended(deployment)
        assert row["commit"], row
    world.goes_on(serve)
    return " ".join(steps)


def _is_over(world: World, deployment: str) -> bool:
    return bool(world.deployment(deployment)["completed_at"])
