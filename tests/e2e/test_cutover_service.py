"""Releases beside one another where Fraisier is a service without root, set up as `init --service` prints it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from tests.e2e.kiosk import Kiosk
from tests.e2e.shop import APP, CONFIG, FRAISIER, ROOT, until

pytestmark = pytest.mark.servers
RUN = "run: /usr/bin/python3 service.py"
TEMPLATE = f"""
[Service]
User=shop
WorkingDirectory={APP}/releases/%i
RuntimeDirectory=shop/%i
EnvironmentFile={APP}/.fraisier/instances/%i.env
ExecStart=/usr/bin/python3 service.py
[Install]
WantedBy=multi-user.target
"""


class ServedKiosk(Kiosk):
    """`Kiosk` whose Fraisier is the user `fraisier`, in a unit with NoNewPrivileges."""

    has_template = False  # an administrator has installed one, so there is no `run:`

    def set_up(self, *, more: str = "cutover: blue_green", app_of_user: bool = False) -> None:
        assert not app_of_user
        run = self.server.run
        run("useradd --system --create-home shop; mkdir -p /srv/git /srv/hold /srv/work; chmod 755 /srv/hold")
        self.server.write("/srv/work/service.py", (ROOT / "tools/cutover_service.py").read_text())
        run("git init -q --bare -b main /srv/git/shop.git && git init -q -b main /srv/work")
        run("git config --system --add safe.directory '*'")
        self.configure(more)

    def configure(self, more: str, *, patience: int = 3) -> None:
        """Other keys; and everything that `init --service` says of them."""
        super().configure(more, patience=patience)
        if self.has_template:
            text = self.server.run(f"cat {CONFIG}").stdout
            self.server.write(CONFIG, text.replace(RUN, ""), mode=0o600)
        printed = self.server.run(f"{FRAISIER} init --service").stdout
        commands, unit, rule, start = re.findall(
            r"^# ---- \d.*? ----\n(.*?)(?=^# ---- |\Z)", printed, re.M | re.S
        )
        if self.server.run("id fraisier", check=False).returncode != 0:
            self.server.run(["sh", "-ec", commands])
        # The Python that tests run with may lie in /root, or in /tmp.
        seen = unit.replace("ProtectHome=true\n", "").replace("PrivateTmp=true\n", "")
        seen = seen.replace(" serve\n", " serve --host 0.0.0.0\n")
        self.server.write("/etc/systemd/system/fraisier.service", seen)
        self.server.write("/etc/polkit-1/rules.d/50-fraisier.rules", rule)
        self.server.run(f"chmod a+x /root; chown -R fraisier /srv/git; chown fraisier {CONFIG}")
        self.server.run("systemctl restart polkit")
        self.server.run(["sh", "-ec", start])
        self.server.run("systemctl restart fraisier")
        self.wait_until_ready()

    def commit(self, version: str, **files: str) -> str:
        made = super().commit(version, **files)
        self.server.run("chown -R fraisier /srv/git")
        return made

    def fraisier(self, line: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of Fraisier's, as its user."""
        return self.server.run(f"cd / && runuser -u fraisier -- {FRAISIER} {line}", check=check, timeout=120)

    def row(self, deployment: str) -> dict[str, Any]:
        shown = json.loads(self.fraisier(f"show {deployment} --json").stdout)
        return dict(shown.get("deployment", shown))

    def why(self, deployment: str) -> str:
        said = self.fraisier(f"logs {deployment}", check=False).stdout[-4000:]
        print(said)
        return said

    @property
    def doubts(self) -> list[dict[str, str]]:
        """What doctor finds about the environment that is not right."""
        found = json.loads(self.fraisier("doctor --json shop production", check=False).stdout)
        return [row for row in found if row["subject"] == "shop/production" and row["verdict"] != "ok"]


@pytest.fixture(scope="module")
def kiosk(server):
    made = ServedKiosk(server)
    made.set_up()
    return made


def test_units_that_it_may_not_write_are_refused_before_anything_is_done(kiosk):
    row = kiosk.deployed("nothing", "failed")
    assert row["cause"] == "preflight", row
    assert "/etc/systemd/system is not writable for Fraisier" in row["error_message"]
    assert "install /etc/systemd/system/shop@.service yourself" in json.dumps(kiosk.doubts)


def test_with_the_template_of_an_administrator_releases_run_beside_one_another(kiosk):
    kiosk.server.write("/etc/systemd/system/shop@.service", TEMPLATE)
    kiosk.server.run("systemctl daemon-reload")
    kiosk.has_template = True
    kiosk.configure("cutover: blue_green")
    assert kiosk.doubts == []
    for version in ("one", "two"):
        kiosk.deployed(version)
        assert kiosk.answer == version
        assert kiosk.instances == [kiosk.serving]
    wanted = kiosk.server.run("ls /etc/systemd/system/multi-user.target.wants | grep '^shop'").stdout.split()
    assert wanted == [kiosk.serving]


def test_one_that_is_sick_beside_the_old_one_never_serves_without_root(kiosk):
    row = kiosk.deployed("sick", "failed")
    assert row["cause"] == "unhealthy", (row["error_message"], kiosk.why(row["id"]))
    assert kiosk.answer == "two"
    assert kiosk.instances == [kiosk.serving]


def test_a_person_goes_back_without_root(kiosk):
    said = kiosk.fraisier("rollback shop production", check=False)
    print(said)
    until("the release before", lambda: kiosk.answer == "one")
    until("only one to run", lambda: kiosk.instances == [kiosk.serving])
