"""The PostgreSQL server is restarted, crashes, is away, and cuts connections, while Fraisier works on it."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from tests.chaos.world import World
from tests.integration.outside import Serve
from tests.servers.postgresql import running

_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE application_name = 'fraisier' AND random() < 0.7
"""


class Pushing:
    """Pushes to one of several processes, again and again, from a thread of its own.

    What is done to the server is done by the thread that started it: a server ends with that.
    """

    def __init__(self, world: World, serves: list[Serve]) -> None:
        self._world, self._serves = world, serves
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failures: list[BaseException] = []
        self.refused = 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """For as long as this is entered."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        for failure in self._failures:
            raise failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._world.dice.uniform(0, 0.5)):
                self.refused += not self._world.push(self._world.dice.choice(self._serves))
        except BaseException as failure:  # noqa: BLE001 - the other thread raises it
            self._failures.append(failure)


def _cut(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(_CUT)


def restarted(world: World) -> str:
    """One process, or two, deploy and receive while the server is restarted, crashes and cuts connections."""
    server = world.stack.enter_context(running())
    database = server.database()
    world.build(database=database)
    serves = [world.process() for _ in range(world.dice.choice((1, 2)))]
    world.ended(world.push(serves[0], "good"))
    acts: dict[str, Callable[[], object]] = {
        "cut": lambda: _cut(database),
        "restarted": lambda: server.restart(how=signal.SIGINT),
        "crashed": lambda: server.restart(how=signal.SIGQUIT),
    }
    dice, done = random.Random(world.dice.random()), []
    pushing = Pushing(world, serves)
    with pushing.going_on():
        for _ in range(world.length * 3):
            done.append(dice.choice(list(acts)))
            acts[done[-1]]()
            time.sleep(dice.uniform(0.05, 0.8))
    world.goes_on(serves[0])
    assert all(serve.process.poll() is None for serve in serves), "they live through all of it"
    return f"{len(done)} times, {len(serves)} processes, {pushing.refused} refused"


def away(world: World) -> str:
    """The server is down for longer than a lease: 503 while nothing can be committed, then on by itself."""
    server = world.stack.enter_context(running())
    world.build(before_build=world.held_build(), database=server.database())
    serve = world.process()
    world.ended(world.push(serve, "good"))
    for _ in range(world.length):
        deployment = world.push_held(serve)
        server.stop(how=world.dice.choice((signal.SIGINT, signal.SIGQUIT)))
        refused_while_away(serve, world.site.push_version(f"away-{world.pushed}"))
        world.pause(2.0)
        server.start()
        world.deliver_until_accepted(serve, world.site.push_version(f"back-{world.pushed}"))
        world.let_go()
        assert world.ended(deployment)["status"] in ("success", "superseded")
        world.goes_on(serve)
    assert serve.process.poll() is None
    return f"{world.length} times"


def refused_while_away(serve: Serve, commit: str) -> None:
    """A push is refused, and says why, while the process lives."""
    status, answer = serve.webhook(commit)
    assert status == 503, (status, answer)
    assert answer["error"]["code"] == "store_unavailable", answer
    assert answer["error"]["hint"], answer
    assert serve.get("/health")[0] == 200
