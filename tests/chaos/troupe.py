"""Players at work beside each other, each a process with sites of its own."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path

from tests.chaos.plan import Round, new_points, rounds
from tests.chaos.player import Player
from tests.chaos.points import Point
from tests.chaos.processes import die_with_parent
from tests.chaos.repertoire import story
from tests.chaos.report import Line
from tests.chaos.stories import Story
from tests.servers.postgresql import running

_player: Player  # this process's


class Troupe:
    """Players, each a process with sites of its own."""

    def __init__(self, folder: Path, server: str, jobs: int) -> None:
        context = get_context("spawn")
        self._pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(folder, server))

    def close(self) -> None:
        """Let them go, at once."""
        self._pool.shutdown(cancel_futures=True)

    def record(self, stories: Sequence[Story], store: str) -> dict[str, list[Point]]:
        """The points of each story."""
        asked = {story.name: self._pool.submit(_record, story.name, store) for story in stories}
        return {name: future.result() for name, future in asked.items()}

    def play(self, planned: Sequence[Round]) -> Iterator[Line]:
        """Play; lines come as they are done."""
        asked: list[Future[Line]] = [self._pool.submit(_play, each) for each in planned]
        for done in as_completed(asked):
            yield done.result()


def _begin(folder: Path, server: str) -> None:
    global _player
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who shows the table
    _player = Player(folder / f"player-{os.getpid()}", server)


def _record(name: str, store: str) -> list[Point]:
    return _player.record(story(name), store)


def _play(planned: Round) -> Line:
    return _player.play(planned)


@contextmanager
def troupe(stores: Sequence[str], jobs: int) -> Iterator[Troupe]:
    """Players in a folder of their own, with a PostgreSQL server if they need one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraisier-chaos-")))
        server = stack.enter_context(running()).url() if "postgresql" in stores else ""
        players = Troupe(folder, server, jobs)
        stack.callback(players.close)
        yield players


def planned(players: Troupe, stores: Sequence[str], stories: Sequence[Story], seed: int) -> list[Round]:
    """All rounds of these stories, in an order drawn from the seed."""
    found: list[Round] = []
    for store in stores:
        points = new_points(stories, players.record(stories, store))
        found += rounds(points, store, seed)
    random.Random(seed).shuffle(found)
    return found
