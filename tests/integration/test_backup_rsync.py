"""rsync over SSH as a place for backups: from this machine to a real server, and between two servers."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.backup_places.rsync import Rsync
from fraisier.domain.backup import Destination
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.ssh import SSHHost
from tests.desks import USER, RealDesk, desk, folder, open_path
from tests.factories import environment
from tests.integration.place_contract import NAMES, PlaceContract, World, stage
from tests.servers import Server, ServerFactory, server, server_factory
from tests.servers.remote import known_hosts, options_for

__all__ = ["desk", "folder", "open_path", "server", "server_factory"]
pytestmark = pytest.mark.servers

_DAMAGE = {
    "empty": ": >$f",
    "truncated": "truncate -s 1000 $f",
    "flipped": "printf xxxx | dd of=$f bs=1 seek=5000 conv=notrunc status=none",
    "missing": "rm $f",
}


class Machine:
    """Another server, where `keeper` keeps what it is sent."""

    def __init__(self, server: Server, open_path: Path, numbers: list[int]) -> None:
        self.server = server
        numbers.append(1)
        self.folder = f"/srv/it's backups {len(numbers)}"
        server.run(
            "id keeper >/dev/null 2>&1 || useradd --create-home keeper;"
            "install -d -m 700 -o keeper /home/keeper/.ssh; install -d -m 755 /srv/closed;"
            "install -m 600 -o keeper /root/.ssh/authorized_keys /home/keeper/.ssh/authorized_keys;"
            f'install -d -o keeper "{self.folder}"'
        )
        key = open_path / "key"
        shutil.copy(server.state / "key", key)
        key.chmod(0o600)
        known = known_hosts(server, open_path)
        known.chmod(0o644)
        if USER:
            shutil.chown(key, USER)
        self.brand = Rsync()
        options = {"identity_file": str(key), "known_hosts": str(known)}
        self.place = Destination(
            name="away", kind="rsync", place=f"keeper@{server.address}:{self.folder}", options=options
        )
        self.wrong = replace(self.place, place=f"keeper@{server.address}:/srv/closed")

    def damage(self, name: str, file: str, fault: str) -> bool:
        self.server.run(f'cd "{self.folder}/orders/production/{name}"; f={file}; {_DAMAGE[fault]}')
        return True

    def close(self, name: str, file: str) -> bool:
        self.server.run(f'chmod 0 "{self.folder}/orders/production/{name}/{file}"')
        return True

    def leftovers(self) -> list[str]:
        said = self.server.run(
            f'cd "{self.folder}/orders/production" && find . -name "*.part*" -o -name ".~*"'
        )
        return said.stdout.split()


@pytest.fixture(scope="class")
def numbers() -> list[int]:
    return []


class TestRsync(PlaceContract):
    @pytest.fixture
    def world(self, server: Server, open_path: Path, numbers: list[int]) -> World:
        return Machine(server, open_path, numbers)

    def test_a_host_whose_key_nobody_knows_is_not_trusted(self, desk, world, staged):
        unknown = replace(world.place, options={**world.place.options, "known_hosts": "/dev/null"})
        with pytest.raises(StepFailed, match="Host key verification failed"):
            world.brand.store(unknown, NAMES[0], str(staged), desk)
        assert "Host key verification failed" in world.brand.problems(unknown, desk)[0].message

    def test_a_key_that_is_refused_is_told(self, desk, world, staged):
        nobody = replace(world.place, place=world.place.place.replace("keeper@", "games@"))
        with pytest.raises(StepFailed, match="Permission denied"):
            world.brand.names(nobody, desk)

    def test_a_host_that_is_gone_in_the_middle_leaves_nothing_that_is_listed(
        self, desk, world, folder, server
    ):
        """Its network is cut while files go there, and comes back."""
        staged = stage(folder, NAMES[0], size=50 << 20)
        slow = replace(world.place, options={**world.place.options, "bandwidth": "4000"})
        cutting = threading.Timer(3.0, server.cut)
        cutting.start()
        stopping = threading.Timer(12.0, desk.stop.set)
        stopping.start()
        try:
            with pytest.raises(StepFailed):
                world.brand.store(slow, NAMES[0], str(staged), desk)
        finally:
            stopping.cancel()
            cutting.join()
            server.mend()
            desk.stop.clear()
        assert list(world.brand.names(world.place, desk)) == []
        shutil.rmtree(staged)
        world.brand.store(world.place, NAMES[1], str(stage(folder, NAMES[1])), desk)
        assert list(world.brand.names(world.place, desk)) == [NAMES[1]]
        assert world.leftovers() == []

    def test_a_full_disk_there_is_told_before(self, desk, world, folder, server):
        server.run(
            f'mkdir -p "{world.folder}/orders"; mount -t tmpfs -o size=6m tmpfs "{world.folder}/orders"'
        )
        server.run(f'chown keeper "{world.folder}/orders"')
        try:
            with pytest.raises(StepFailed) as caught:
                world.brand.store(world.place, NAMES[0], str(stage(folder, NAMES[0], size=9 << 20)), desk)
            assert caught.value.cause is Cause.disk
            assert list(world.brand.names(world.place, desk)) == []
        finally:
            server.run(f'umount "{world.folder}/orders"')

    def test_a_place_that_is_none_is_refused(self, desk, world, staged):
        for place in ("-oProxyCommand=id:/x", "host", "a b:/x", "keeper@:/x"):
            with pytest.raises(StepFailed, match="it is not"):
                world.brand.store(replace(world.place, place=place), NAMES[0], str(staged), desk)


def test_one_server_sends_its_backups_to_another(
    server: Server, server_factory: ServerFactory, open_path: Path
) -> None:
    """Fraisier is on a third machine: the files do not come there."""
    shop = server_factory("shop")
    host = SSHHost("shop", options_for(shop, open_path))
    try:
        world = Machine(server, open_path, [0] * 1000)
        shop.run(
            "useradd --create-home shop; install -d -m 700 -o shop /home/shop/.ssh /srv/staged;"
            f"ssh-keyscan {server.address} >/home/shop/known_hosts 2>/dev/null;"
            "for f in db.dump manifest.json; do echo $f | install -o shop /dev/stdin /srv/staged/$f; done"
        )
        shop.run(
            "install -m 600 -o shop /dev/stdin /home/shop/.ssh/key", stdin=(server.state / "key").read_bytes()
        )
        options = {"identity_file": "/home/shop/.ssh/key", "known_hosts": "/home/shop/known_hosts"}
        place = replace(world.place, options=options)
        at_shop = RealDesk(host, environment(user="shop", app_path="/var/www/shop"))
        world.brand.store(place, NAMES[0], "/srv/staged", at_shop)
        assert list(world.brand.names(place, at_shop)) == [NAMES[0]]
        found = world.brand.look(place, NAMES[0], ["db.dump", "manifest.json"], at_shop)
        assert {name: size for name, (size, _) in found.items()} == {"db.dump": 8, "manifest.json": 14}
        shop.run("install -d -m 700 -o shop /srv/back")
        world.brand.fetch(place, NAMES[0], "/srv/back", at_shop)
        assert shop.run("diff -r /srv/staged /srv/back && echo same").stdout.strip() == "same"
        assert list(world.brand.problems(place, at_shop)) == []
    finally:
        host.close()
        shop.down()
