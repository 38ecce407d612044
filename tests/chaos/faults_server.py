"""A whole server, systemd, PostgreSQL and all, is rebooted or loses its power in the middle of deployments.

Its files lie on a file system that loses what was not synced (tests/disks.py).
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.world import World
from tests.disks import Machine, machine
from tests.e2e.shop import APP, DATABASE, Shop
from tests.integration.site import until
from tests.processes import alive
from tests.servers import Server, no_servers_because, servers_in
from tests.servers.postgresql import programs_folder

_DATA = "/var/lib/fraisier-postgresql"
_POSTGRESQL = "postgresql://postgres@/postgres?host=/run/postgresql"
_UNIT = """
[Service]
Type=notify
User=postgres
RuntimeDirectory=postgresql
ExecStart={programs}/postgres -D {data} -k /run/postgresql -c listen_addresses=
KillSignal=SIGINT
[Install]
WantedBy=multi-user.target
"""
HOLDS = {"build": "build", "check_health": "start"}  # step -> what keeps it waiting


@contextmanager
def _booted(world: World) -> Iterator[tuple[Server, Machine]]:
    if reason := no_servers_because():
        pytest.skip(f"SKIPPED WITHOUT REAL SERVERS: {reason}")
    with (
        tempfile.TemporaryDirectory(prefix="fraisier-power-", dir="/var/tmp") as root,
        machine(Path(root) / "disk", {"servers": Path(root) / "servers"}) as made,
        servers_in(Path(root) / "servers") as up,
    ):
        server = up("power")
        if world.store == "postgresql":
            _install_postgresql(server)
        os.sync()  # what an administrator did a while ago is on disk
        yield server, made


def _install_postgresql(server: Server) -> None:
    programs = programs_folder()
    server.run(f"install -d -o postgres -g postgres -m 700 {_DATA}")
    initdb = f"{programs}/initdb -D {_DATA} --auth-local=trust --auth-host=reject --encoding=UTF8"
    server.run(f"runuser -u postgres -- {initdb} --locale=C.UTF-8")
    server.write("/etc/systemd/system/pg.service", _UNIT.format(programs=programs, data=_DATA))
    server.run("systemctl daemon-reload && systemctl enable --now pg")


def lose_power(server: Server, made: Machine) -> None:
    """Everything that was not synced, and every process, is gone at once; then it boots."""
    pid = server.pid
    made.lose_unsynced()
    os.kill(pid, signal.SIGKILL)
    until("the power to be gone", lambda: not alive(pid))
    made.unplug()
    made.plug_in()
    server.start()


def server_down(world: World) -> str:
    """In the middle of a build, of a health check, at any other moment, and right after an answer."""
    server, made = world.stack.enter_context(_booted(world))
    shop = Shop(server, _POSTGRESQL if world.store == "postgresql" else DATABASE)
    shop.set_up()
    assert shop.ended(shop.push("zero"))["status"] == "success"
    down: dict[str, Callable[[], None]] = {
        "power": lambda: lose_power(server, made),
        "reboot": server.reboot,
    }
    done, newest = [], ""
    for number in range(world.length + 1):
        how = world.dice.choice(("power", "power", "reboot"))
        step = world.dice.choice(("build", "check_health", "any", "answer"))
        done.append(f"{how}:{step}")
        newest = f"v{number}-{step}"
        deployment = _held_in(world, shop, newest, step)
        down[how]()
        for hold in HOLDS.values():
            shop.let_go(hold)
        shop.wait_until_ready()
        row = shop.ended(deployment, 90)
        assert row["status"] == "success", row
        until("the service", lambda wanted=newest: shop.answer == shop.current == wanted)
    world.look_at = [lambda: _amiss(shop)]
    return " ".join(done)


def _held_in(world: World, shop: Shop, version: str, step: str) -> str:
    """Push a version and return its deployment when it is in the step."""
    if step in HOLDS:
        shop.hold(HOLDS[step])
    commit = shop.commit(version)
    shop.server.run("sync --file-system /srv/git")  # the forge is another machine, really
    deployment = str(shop.webhook(commit)["deployments"][0]["id"])
    if step in HOLDS:
        shop.waits_in(deployment, step)
    elif step == "any":
        world.pause(1.5)
    return deployment


def _amiss(shop: Shop) -> list[str]:
    """What does not hold on the server's disk."""
    found = []
    listed = shop.server.run(f"ls {APP}/releases; echo; ls {APP}/.fraisier/releases").stdout
    releases, _, markers = listed.partition("\n\n")
    if sorted(releases.split()) != sorted(name.removesuffix(".json") for name in markers.split()):
        found.append(f"there are releases {releases.split()} and markers {markers.split()}")
    if scopes := shop.server.run(f"ls {APP}/.fraisier/scopes").stdout.split():
        found.append(f"scopes are recorded that do not run: {scopes}")
    return found
