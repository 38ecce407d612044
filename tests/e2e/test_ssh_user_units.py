"""Over SSH as the application's own user, whose units are those of their own manager."""

from __future__ import annotations

import json

import pytest

from tests.e2e.remote_shop import APP, CONFIG, FRAISIER, WEB, YAML, RemoteShop, until
from tests.e2e.shop import ROOT

pytestmark = pytest.mark.servers
UNIT = f"""
[Unit]
StartLimitIntervalSec=0
[Service]
WorkingDirectory={APP}/current
ExecStart=/usr/bin/python3 service.py
[Install]
WantedBy=default.target
"""
UNITS = "/home/shop/.config/systemd/user"
LINK = f"{APP}/current.sock"
SYSTEM_UNIT = "systemd_service: shop.service"
PLAIN = f"{SYSTEM_UNIT}\n        systemd_manager: user\n        unit_file: shop.service"
BESIDE = f"""\
{SYSTEM_UNIT}
        systemd_manager: user
        cutover: blue_green
        run: /usr/bin/python3 service.py
        listen: {APP}/shared/%i.sock
        drain_timeout: 4s"""


class ShopOfItsUser(RemoteShop):
    """`RemoteShop` where Fraisier logs in as `shop`, who runs the application, too."""

    def set_up(self, *, app_of_user: bool = False) -> None:
        super().set_up(app_of_user=app_of_user)
        self.web.run("rm /etc/systemd/system/shop.service; systemctl daemon-reload")
        self.configure(PLAIN)
        self.server.run(f"{FRAISIER} bootstrap {WEB}")
        self.start()

    def configure(self, units: str) -> None:
        text = YAML.replace("user: deploy", "user: shop").replace(SYSTEM_UNIT, units)
        self.server.write(CONFIG, text, mode=0o600)

    def as_shop(self, line: str) -> str:
        """What a line prints there, for the user with their manager."""
        return self.web.run(
            f"runuser -u shop -- env XDG_RUNTIME_DIR=/run/user/$(id -u shop) {line}"
        ).stdout.strip()

    @property
    def behind_link(self) -> str:
        """What is answered where a proxy dials; '' if nothing."""
        said = self.web.run(f"curl -s -m 2 --unix-socket {LINK} http://shop/ || true").stdout
        return said.split(" ")[0].strip()

    @property
    def instances(self) -> list[str]:
        shown = self.as_shop("systemctl --user list-units --plain --no-legend --state=active 'shop*'")
        return [line.split()[0] for line in shown.splitlines()]

    @property
    def doubts(self) -> list[dict[str, str]]:
        """What doctor finds about the environment that is not right."""
        found = json.loads(self.server.run(f"{FRAISIER} doctor --json shop production", check=False).stdout)
        return [row for row in found if row["subject"] == "shop/production" and row["verdict"] != "ok"]

    def why(self, row: dict[str, object]) -> str:
        """What a deployment printed, for a test that fails."""
        said = self.server.run(f"{FRAISIER} logs {row['id']}", check=False).stdout[-4000:]
        print(said)
        return said


@pytest.fixture(scope="module")
def shop(server_factory):
    made = ShopOfItsUser(server_factory("tower"), web=server_factory("cottage"))
    made.set_up()
    yield made
    made.web.down()
    made.server.down()


def test_a_first_release_whose_unit_is_missing_has_failed_and_leaves_nothing(shop):
    row = shop.ended(shop.push("without"))
    assert (row["status"], row["cause"]) == ("failed", "restart"), (row, shop.why(row))
    assert "the release does not have it" in row["error_message"]
    assert shop.current == ""


def test_a_user_deploys_to_units_of_their_own(shop):
    shop.server.write("/srv/work/shop.service", UNIT)
    row = shop.ended(shop.push("one"))
    assert row["status"] == "success", (row, shop.why(row))
    assert shop.answer == "one"
    said = shop.web.run(f"stat -c %U {UNITS}/shop.service {APP}/.fraisier {APP}/current/built-by").stdout
    assert said.split() == ["shop"] * 3
    assert shop.web.run("ls /etc/systemd/system | grep shop", check=False).stdout == ""


def test_doctor_finds_nothing_wrong_and_the_log_is_shown(shop):
    assert shop.doubts == []
    assert "shop.service" in shop.server.run(f"{FRAISIER} logs --unit shop production").stdout


def test_an_unhealthy_version_of_a_users_unit_is_rolled_back(shop):
    row = shop.ended(shop.push("sick"))
    assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), (row, shop.why(row))
    assert shop.current == shop.answer == "one"


def test_a_users_releases_run_beside_one_another(shop):
    shop.configure(BESIDE)
    shop.server.write("/srv/work/service.py", (ROOT / "tools/cutover_service.py").read_text())
    shop.start()
    for version in ("two", "three"):
        row = shop.ended(shop.push(version))
        assert row["status"] == "success", (row, shop.why(row))
        assert shop.behind_link == version
        release = shop.web.run(f"basename $(readlink {APP}/current)").stdout.strip()
        assert shop.instances == [f"shop@{release}.service"]
        assert f"shop@{release}.service" in shop.web.run(f"ls {UNITS}").stdout
    assert shop.web.run("ls /etc/systemd/system | grep shop", check=False).stdout == ""
    assert shop.doubts == []


def test_one_that_is_sick_beside_the_old_one_never_serves(shop):
    before = shop.instances
    row = shop.ended(shop.push("sick-four"))
    assert (row["status"], row["cause"]) == ("failed", "unhealthy"), (row, shop.why(row))
    assert shop.behind_link == "three"
    assert shop.instances == before


def test_a_person_goes_back_to_the_release_before(shop):
    shop.server.run(f"{FRAISIER} rollback shop production", timeout=90)
    assert shop.behind_link == "two"


def test_after_a_reboot_the_users_instance_serves_without_anybody(shop):
    shop.server.run("systemctl stop fraisier")
    shop.web.lose_power()
    shop.web.start()
    until("it to serve", lambda: shop.behind_link == "two")
