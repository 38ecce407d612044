"""Backups of one server, kept on its own disk and on another server: every cycle finds what went wrong."""

from __future__ import annotations

import json

import pytest

from tests.e2e.shop import CONFIG, FRAISIER, FRAISIER_UNIT, Shop, until

pytestmark = pytest.mark.servers
NAME = "dumps production"
YAML = """
database: {{url: "sqlite:///var/lib/fraisier/fraisier.db"}}
worker: {{lease: 3s, shutdown_grace: 1s}}
hosts:
  farm: {{user: root, identity_file: /etc/fraisier/key, known_hosts: /etc/fraisier/known_hosts}}
fraises:
  dumps:
    type: backup
    environments:
      production:
        app_path: /var/lib/dumps
        hosts: [farm]
        user: orders
        sources:
          notes: {{url: "sqlite:////var/lib/orders/notes.db"}}
          uploads: {{path: /var/lib/orders/uploads}}
        destinations:
          disk: /srv/disk
          vault:
            place: "keeper@{vault}:/srv/vault"
            identity_file: /var/lib/orders/key
            known_hosts: /var/lib/orders/known_hosts
        retention: {{keep_last: 2}}
        verified_within: 8d
"""


class Farm(Shop):
    """`server` has Fraisier, `farm` what is backed up, `vault` keeps it."""

    def __init__(self, server, farm, vault) -> None:
        super().__init__(server)
        self.farm, self.vault = farm, vault

    def set_up(self, *, app_of_user: bool = False) -> None:
        key = "ssh-keygen -q -t ed25519 -N '' -f {0} && cat {0}.pub"
        self.farm.run(
            "useradd --system -m -d /var/lib/orders orders; install -d -o orders /var/lib/orders/uploads"
        )
        self.farm.run("install -d -o orders /srv/disk; echo picture >/var/lib/orders/uploads/one.png")
        self.farm.run("chown orders /var/lib/orders/uploads/one.png")
        self.farm.run(
            "runuser -u orders -- python3 -c \"import sqlite3; c = sqlite3.connect('/var/lib/orders/notes.db');"
            " c.execute('CREATE TABLE notes (text)'); c.execute('INSERT INTO notes VALUES (1)'); c.commit()\""
        )
        self.vault.run(
            "useradd -m keeper; install -d -o keeper /srv/vault; install -d -m 700 -o keeper /home/keeper/.ssh"
        )
        public = self.farm.run(
            "runuser -u orders -- sh -c '" + key.format("/var/lib/orders/key").replace("''", '""') + "'"
        )
        self.vault.run("cat >/home/keeper/.ssh/authorized_keys", stdin=public.stdout.encode())
        self.farm.run(
            f"runuser -u orders -- sh -c 'ssh-keyscan {self.vault.address} >/var/lib/orders/known_hosts'"
        )
        run = self.server.run
        run("mkdir -p /etc/fraisier && cat >>/etc/hosts", stdin=f"{self.farm.address} farm\n".encode())
        public = run(key.format("/etc/fraisier/key"))
        self.farm.run("cat >>/root/.ssh/authorized_keys", stdin=public.stdout.encode())
        run("ssh-keyscan farm >/etc/fraisier/known_hosts 2>/dev/null")
        self.server.write(CONFIG, YAML.format(vault=self.vault.address), mode=0o600)
        self.server.write("/etc/systemd/system/fraisier.service", FRAISIER_UNIT)
        run("systemctl daemon-reload && systemctl enable --now fraisier")
        self.wait_until_ready()

    def backup(self, *words: str) -> tuple[int, str]:
        """A verb of `fraisier backup`, and what it says."""
        done = self.server.run(f"{FRAISIER} backup {words[0]} {NAME} {' '.join(words[1:])}", check=False)
        return done.returncode, done.stdout + done.stderr

    def copies(self) -> list[tuple[str, str]]:
        """Where which is, and how it is."""
        rows = json.loads(self.server.run(f"{FRAISIER} backup list {NAME} --json").stdout)
        return sorted((row["destination"], row["state"]) for row in rows)

    def is_healthy(self) -> bool:
        (row,) = json.loads(self.server.run(f"{FRAISIER} status {NAME} --json").stdout)
        return row["alerts"] == 0


@pytest.fixture(scope="module")
def farm(server_factory):
    made = Farm(server_factory("keeper"), server_factory("farm"), server_factory("vault"))
    made.set_up()
    yield made
    for server in (made.server, made.farm, made.vault):
        server.down()


def test_a_backup_is_whole_on_both_and_was_brought_back(farm):
    code, said = farm.backup("run")
    assert code == 0, said
    code, said = farm.backup("verify")
    assert code == 0, said
    assert farm.copies() == [("disk", "whole"), ("vault", "whole")]


def test_a_copy_that_is_damaged_on_the_other_server_is_found_by_the_next_cycle(farm):
    farm.vault.run("f=$(find /srv/vault -name 'uploads*' -type f | head -n 1); truncate -s 5 $f")
    code, said = farm.backup("verify")
    assert code == 1, said
    assert ("vault", "damaged") in farm.copies()
    assert not farm.is_healthy()


def test_a_server_that_is_away_fails_the_run_and_keeps_no_other_from_it(farm):
    farm.vault.cut()
    try:
        code, said = farm.backup("run")
    finally:
        farm.vault.mend()
    assert code == 1, said
    assert "vault" in said
    assert [state for place, state in farm.copies() if place == "disk"] == ["whole", "whole"]


def test_a_full_disk_is_told_and_nothing_good_goes(farm):
    before = farm.copies()
    farm.vault.run(
        "mount -t tmpfs -o size=64k,uid=$(id -u keeper) tmpfs /mnt && cp -a /srv/vault/. /mnt/ && mount --bind /mnt /srv/vault"
    )
    farm.farm.run(
        "head -c 300000 /dev/urandom >/var/lib/orders/uploads/two.png; chown orders /var/lib/orders/uploads/two.png"
    )
    code, said = farm.backup("run")
    assert code == 1, said
    assert "full" in said or "No space" in said
    farm.vault.run("umount /srv/vault; umount /mnt")
    kept = farm.copies()
    assert [each for each in before if each == ("vault", "whole")] == [
        each for each in kept if each == ("vault", "whole")
    ]


def test_what_was_lost_is_brought_back_after_a_safety_copy(farm):
    code, said = farm.backup("run")
    assert code == 0, said
    farm.farm.run("rm /var/lib/orders/uploads/one.png")
    code, said = farm.backup("restore", "--yes")
    assert code != 0
    assert "--force" in said
    code, said = farm.backup("restore", "--yes", "--force")
    assert code == 0, said
    assert farm.farm.run("cat /var/lib/orders/uploads/one.png").stdout == "picture\n"
    assert "kept as" in farm.server.run(f"{FRAISIER} logs {NAME}").stdout


def test_once_a_person_gives_up_what_is_damaged_it_is_healthy_again(farm):
    code, said = farm.backup("prune", "--damaged")
    assert code == 0, said
    code, said = farm.backup("verify")
    assert code == 0, said
    assert ("vault", "damaged") not in farm.copies()
    until("it to be healthy again", farm.is_healthy)
