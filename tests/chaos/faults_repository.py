"""The repository cannot be reached: its server is away, refuses, hangs, and comes back."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from tests.chaos.world import World
from tests.gitservers import git_over_http

RETRY_FOR = 8  # seconds


class Gate:
    """A TCP proxy before a git server. `mood` is open, refuses (hangs up), hangs (says nothing) or away."""

    def __init__(self, server: int) -> None:
        self._server = server
        self.mood = "open"
        self._held: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, mood: str) -> None:
        """Treat connections so from now on; whoever hangs is hung up on."""
        if (mood == "away") != (self.mood == "away"):
            self._listen(mood != "away")
        self.mood = mood
        for each in self._held:
            _close(each)
        self._held.clear()

    def close(self) -> None:
        """Let nobody in any more."""
        self.become("refuses")
        _close(self._listening)

    def _listen(self, wanted: bool) -> None:
        if wanted:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, daemon=True).start()
        else:
            _close(self._listening)

    def _accept(self) -> None:
        listening = self._listening
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                self._receive(client)

    def _receive(self, client: socket.socket) -> None:
        if self.mood == "refuses":
            _close(client)
        elif self.mood == "hangs":
            self._held.append(client)
        else:
            server = socket.create_connection(("127.0.0.1", self._server))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def _gate(world: World) -> Iterator[Gate]:
    """The site's repository over HTTP, behind a gate."""
    with git_over_http(world.folder / "git", password="") as forge:
        gate = Gate(forge.port)
        world.edit(
            f"clone_url: {world.site.repository.url}", f"clone_url: http://127.0.0.1:{gate.port}/orders.git"
        )
        world.edit("min_free_disk: 1MB", f"min_free_disk: 1MB\n        retry_for: {RETRY_FOR}s")
        try:
            yield gate
        finally:
            gate.close()


def unreachable(world: World) -> str:
    """It is away for a while, in one way or another: the push is deployed when it is back."""
    world.build(before_build="true")
    gate = world.stack.enter_context(_gate(world))
    serve = world.process()
    world.ended(world.push(serve, "good"))
    moods = []
    for _ in range(world.length):
        moods.append(world.dice.choice(("away", "refuses", "hangs")))
        gate.become(moods[-1])
        deployment = world.push(serve, "good")
        assert deployment, "a push is accepted whatever the repository does"
        if moods[-1] == "hangs":
            world.in_step(deployment, "fetch")
            world.pause(0.5)
        else:
            world.look("a retry", lambda d=deployment: _waits_for_the_network(world, d))
        if world.dice.random() < 0.3:
            serve.kill()
            serve.start()
        gate.become("open")
        row = world.ended(deployment)
        assert row["status"] == "success", row
        assert world.site.version == world.site.version_of(row["commit"])
    return " ".join(moods)


def gone_for_good(world: World) -> str:
    """It stays away: tried again with longer and longer pauses, for `retry_for`, then ended; nothing is blamed."""
    world.build(before_build="true")
    gate = world.stack.enter_context(_gate(world))
    serve = world.process()
    world.ended(world.push(serve, "good"))
    gate.become(world.dice.choice(("away", "refuses")))
    deployment = world.push(serve, "good")
    row = world.ended(deployment, RETRY_FOR * 5)
    assert (row["status"], row["cause"]) == ("failed", "network"), row
    assert row["hint"], row
    attempts = world.site.rows(
        "SELECT * FROM tb_deployment_attempts WHERE deployment = ? ORDER BY number", deployment
    )
    assert len(attempts) > 1
    assert all(before["ended_at"] < after["started_at"] for before, after in pairwise(attempts))
    gate.become("open")
    assert world.request(serve, "--commit", row["commit"]), "it is not quarantined"
    world.comes_to_rest()
    assert world.site.version == world.site.version_of(row["commit"])
    return f"{len(attempts)} attempts"


def _waits_for_the_network(world: World, deployment: str) -> bool:
    row = world.deployment(deployment)
    return row["status"] == "pending" and row["cause"] == "network"
