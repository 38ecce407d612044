"""Disks are full: of the application at each step, of the state, of the PostgreSQL server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.world import World
from tests.disks import Disk, disk
from tests.integration.outside import Serve
from tests.integration.site import until
from tests.servers.postgresql import running

STEPS = ("preflight", "fetch", "prepare", "build", "migrate", "activate", "check_health", "finish")
_SERVER_DISK = 160 << 20  # bytes; an empty cluster has 40 MB, and its log as much
_SMALL_LOG = {"max_wal_size": "32MB", "min_wal_size": "32MB", "autovacuum": "off"}


@contextmanager
def stopped_in(world: World, step: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that has stopped itself at the beginning of a step."""
    argv = [sys.executable, "-m", "tests.integration.pausing_worker", str(world.site.config), step, "begins"]
    with (world.folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        state = Path(f"/proc/{process.pid}/stat")
        until(f"{step} to begin", lambda: state.read_text().rpartition(")")[2].split()[0] == "T", 30)
        yield process
    finally:
        process.kill()
        process.wait()


def application_full(world: World) -> str:
    """The application's disk fills up as a step begins, and has room again when that was noticed."""
    app = world.stack.enter_context(disk(world.folder / "app"))
    world.build(before_build="echo x > scratch", head="")
    world.edit("lease: 1s", "lease: 5s")  # filling a disk takes a moment, and the worker is stopped meanwhile
    serve = world.process()
    world.ended(world.push(serve, "good"))
    serve.kill(signal.SIGTERM)
    ended = []
    for step in world.dice.sample(STEPS, min(world.length, len(STEPS))):
        commit = world.site.push_version(f"full-in-{step}")
        deployment = world.request(serve, "--commit", commit)
        with stopped_in(world, step) as worker:
            app.fill(world.dice.choice((0, 0, 4096, 64 << 10)))
            worker.send_signal(signal.SIGCONT)
            world.look("somebody to notice", lambda d=deployment: _noticed(world, d))
            app.free()
            row = world.ended(deployment, 60)
        # It is noticed in this step or a later one; what may have begun to migrate is not tried again.
        assert row["status"] == "success" or (row["cause"], bool(row["hint"])) == ("disk", True), row
        assert row["status"] == "success" or "migrate" in world.steps(deployment), row
        ended.append(f"{step}:{row['status']}")
    serve.start()
    world.goes_on(serve)
    return " ".join(ended)


def _noticed(world: World, deployment: str) -> bool:
    """Whether it has ended, waits for its next try, or waits for room on its way back."""
    row = world.deployment(deployment)
    full = "SELECT 1 FROM tb_deployment_steps WHERE deployment = ? AND cause = 'disk'"
    return bool(row["completed_at"]) or row["cause"] == "disk" or bool(world.site.rows(full, deployment))


def state_full(world: World) -> str:
    """The state folder's disk fills up while a deployment runs: the database, or the mirrors, are on it."""
    state = world.stack.enter_context(disk(world.folder / "state"))
    world.build(before_build=world.held_build())
    serve = world.process()
    world.ended(world.push(serve, "good"))
    for _ in range(world.length):
        deployment = world.push_held(serve)
        state.fill(world.dice.choice((0, 4096)))
        if world.store == "sqlite":
            push_until_refused(world, serve)
        else:
            waiting = world.push(serve, "good")
            assert waiting, "the database has room"
        world.let_go()
        if world.store == "postgresql":
            world.look("a full disk to be told of", lambda d=waiting: _noticed(world, d))
        else:
            world.pause(1.5)
        _back(world, serve, state)
        assert world.ended(deployment)["status"] in ("success", "superseded")
        world.goes_on(serve)
    assert serve.process.poll() is None, "it lives through all of it"
    return f"{world.length} times"


def server_full(world: World) -> str:
    """The PostgreSQL server's disk fills up: pushes are refused while nothing can be committed, no longer."""
    disks: list[Disk] = []

    @contextmanager
    def small(data: Path) -> Iterator[None]:
        with disk(data, _SERVER_DISK) as made:
            disks.append(made)
            yield

    server = world.stack.enter_context(running(settings=_SMALL_LOG, disk=small))
    world.build(before_build=world.held_build(), database=server.database())
    serve = world.process()
    world.ended(world.push(serve, "good"))
    for _ in range(world.length):
        deployment = world.push_held(serve)
        disks[0].fill()
        push_until_refused(world, serve)
        world.let_go()
        world.pause(1.5)
        disks[0].free()
        server.revive()
        _back(world, serve)
        row = world.ended(deployment)
        # Where there was room for the beginning of the migration and none for its end, nobody can tell.
        assert row["status"] in ("success", "superseded") or row["cause"] == "migration_interrupted", row
        world.goes_on(serve)
    assert serve.process.poll() is None, "it lives through all of it"
    return f"{world.length} times"


def push_until_refused(world: World, serve: Serve) -> None:
    """Tell of commits until the last page is full: that one is refused, and says why."""
    for number in range(1000):
        status, answer = serve.webhook(f"{world.pushed:08x}{number:032x}")
        if status == 503:
            assert answer["error"]["code"] == "store_unavailable", answer
            assert answer["error"]["hint"], answer
            assert serve.get("/health")[0] == 200
            return
        assert status in (200, 202), (status, answer)
        if status == 202:
            world.promises.accepted(answer)
    raise AssertionError("the disk never was full")


def _back(world: World, serve: Serve, full: Disk | None = None) -> None:
    """Give the space back; pushes are taken again."""
    if full:
        full.free()
    world.look("serve to be ready", lambda: serve.get("/ready")[0] == 200, 30)
    world.deliver_until_accepted(serve, world.site.push_version(f"room-{world.pushed}"))
