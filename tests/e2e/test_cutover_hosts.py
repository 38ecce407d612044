"""Releases served beside one another on several servers over SSH: a rollout, its database, and its way back."""

from __future__ import annotations

import pytest

from tests.e2e.fleet_shop import FleetShop
from tests.e2e.kiosk import LINK
from tests.e2e.shop import CONFIG, FRAISIER, PORT, ROOT, until

pytestmark = pytest.mark.servers
CHECKED = "interval: 0.2, timeout: {}, passes: 1}}\n"
HEALTH = f'        health_check: {{url: "http://127.0.0.1:{PORT}/health", {CHECKED.format(20)}'
SHELF = "/srv/hold/database"  # of the first server: how many migrations its database has seen
BESIDE = f"""\
        cutover: blue_green
        run: /usr/bin/python3 service.py
        listen: /run/shop/%i/service.sock
        drain_timeout: 4s
        health_check: {{url: "http://127.0.0.1:8000/health", {CHECKED.format(4)}\
        database:
          up: wc -l <migrations >{SHELF}
          down: echo $FRAISIER_REVISION >{SHELF}
          current: cat {SHELF}
          pending: tail -n +$(($(cat {SHELF}) + 1)) migrations
"""
# What is sick on one server alone says so itself; each asks the file that is only there.
SICK_HERE = (
    'return not VERSION.startswith("sick")',
    'return not os.path.exists("/srv/hold/sick-" + VERSION)',
)


class BesideShop(FleetShop):
    """`FleetShop` whose releases begin beside the old ones, each on its server's own socket."""

    def set_up(self, *, app_of_user: bool = False) -> None:
        super().set_up(app_of_user=app_of_user)
        service = (ROOT / "tools/cutover_service.py").read_text()
        assert SICK_HERE[0] in service
        self.server.write("/srv/work/service.py", service.replace(*SICK_HERE))
        text = self.server.run(f"cat {CONFIG}").stdout
        assert HEALTH in text
        text = text.replace(HEALTH, BESIDE).replace("batch: 3", "batch: 1")
        self.server.write(CONFIG, text, mode=0o600)
        for web in self.webs:
            web.write(SHELF, "0\n", mode=0o666)
            web.run("systemctl disable -q shop; rm /etc/systemd/system/shop.service; systemctl daemon-reload")
        self.server.run("systemctl restart fraisier")
        self.wait_until_ready()

    @property
    def answers(self) -> list[str]:
        line = f"curl -s -m 2 --unix-socket {LINK} http://shop/ || true"
        return [self.on(web, line).split(" ")[0] for web in self.webs]

    def instances(self, web: object) -> list[str]:
        line = "systemctl list-units --plain --no-legend --state=active 'shop@*' | cut -d' ' -f1"
        return self.on(web, line).split()  # type: ignore[arg-type]

    def pushed(self, version: str, migrations: str) -> dict[str, object]:
        commit = self.commit(version, migrations=migrations)
        return self.ended(str(self.webhook(commit)["deployments"][0]["id"]), 120)

    def why(self, row: dict[str, object]) -> str:
        return self.server.run(f"{FRAISIER} logs {row['id']}", check=False).stdout[-4000:]


@pytest.fixture(scope="module")
def shop(server_factory):
    made = BesideShop(server_factory("row"), webs=[server_factory(f"stall{number}") for number in (1, 2, 3)])
    made.set_up()
    yield made
    for server in (*made.webs, made.server):
        server.down()


def shelves(shop):
    return shop.on(shop.webs[0], f"cat {SHELF}")


def invocations(shop, units):
    show = "systemctl show -P InvocationID "
    return [shop.on(web, show + unit) for web, (unit,) in zip(shop.webs, units, strict=True)]


def test_a_release_comes_up_beside_the_old_one_on_every_server(shop):
    for version, migrations in (("one", "a\n"), ("two", "a\nb\n")):
        row = shop.pushed(version, migrations)
        assert row["status"] == "success", (row, shop.why(row))
        assert shop.answers == [version] * 3
        assert [len(shop.instances(web)) for web in shop.webs] == [1, 1, 1]
    assert shelves(shop) == "2"


def test_sick_on_the_first_server_it_has_switched_nothing_and_the_database_goes_back(shop):
    shop.webs[0].run("touch /srv/hold/sick-three")
    row = shop.pushed("three", "a\nb\nc\n")
    assert (row["status"], row["cause"]) == ("failed", "unhealthy"), (row, shop.why(row))
    assert shop.answers == ["two"] * 3
    assert shelves(shop) == "2"
    assert shop.states() == ["current"] * 3


def test_sick_on_the_last_server_the_others_go_back_to_what_never_stopped(shop):
    before = [shop.instances(web) for web in shop.webs]
    started = invocations(shop, before)
    shop.webs[2].run("touch /srv/hold/sick-four")
    row = shop.pushed("four", "a\nb\nc\n")
    assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), (row, shop.why(row))
    assert shop.answers == ["two"] * 3
    assert [shop.instances(web) for web in shop.webs] == before
    assert invocations(shop, before) == started, (
        "an old instance was stopped before every server had the new one"
    )
    assert shelves(shop) == "2"
    assert shop.states() == ["current"] * 3


def test_a_server_that_was_off_comes_back_with_what_it_served(shop):
    lost = shop.webs[1]
    lost.lose_power()
    lost.start()
    until("it to serve", lambda: shop.answers == ["two"] * 3)
    row = shop.pushed("five", "a\nb\nc\n")
    assert row["status"] == "success", (row, shop.why(row))
    assert shop.answers == ["five"] * 3
    assert shelves(shop) == "3"
