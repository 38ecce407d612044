"""Ten servers and one environment: a push, a partition, a power loss and a kill in the middle of a rollout."""

from __future__ import annotations

import pytest

from tests.e2e.fleet_shop import FleetShop
from tests.e2e.shop import FRAISIER, until

pytestmark = pytest.mark.servers
HOSTS = 10


@pytest.fixture(scope="module")
def shop(server_factory):
    made = FleetShop(
        server_factory("fleet"), webs=[server_factory(f"web{number}") for number in range(1, HOSTS + 1)]
    )
    made.set_up()
    yield made
    for server in (*made.webs, made.server):
        server.down()


def test_a_push_reaches_every_server_the_canary_first(shop):
    deployment = shop.push("one")
    row = shop.ended(deployment, 120)
    assert row["status"] == "success", row
    assert shop.answers == ["one"] * HOSTS
    assert shop.states() == ["current"] * HOSTS
    begun = [step["host"] for step in row["steps"] if step["step"] == "activate"]
    assert begun[0] == "web1"
    assert sorted(begun) == sorted(web.name for web in shop.webs)


def test_a_server_that_is_parted_in_its_turn_is_named_and_brought_back_when_it_is_there_again(shop):
    lost = shop.webs[5]
    shop.hold_start(lost)
    deployment = shop.push("parted")
    shop.waits_at_start(lost, deployment)
    lost.cut()
    try:
        row = shop.ended(deployment, 180)
        assert row["status"] == "rolled_back", row
        assert f"{lost.name} cannot be reached, and is believed to run 2-" in row["error_message"], row
        assert shop.states() == ["unreachable" if web is lost else "current" for web in shop.webs]
        assert [a for a, web in zip(shop.answers, shop.webs, strict=True) if web is not lost] == ["one"] * 9
    finally:
        shop.on(lost, "rm -f /srv/hold/start")
        lost.mend()
    until("it to be healed", lambda: shop.states() == ["current"] * HOSTS, 120)
    assert shop.answers == ["one"] * HOSTS
    shown = shop.server.run(f"{FRAISIER} history --json shop production").stdout
    assert '"heal"' in shown


def test_a_server_that_loses_its_power_in_its_turn_comes_back_to_what_the_others_run(shop):
    lost = shop.webs[8]
    shop.hold_start(lost)
    deployment = shop.push("powerless")
    shop.waits_at_start(lost, deployment)
    lost.lose_power()
    row = shop.ended(deployment, 180)
    assert row["status"] == "rolled_back", row
    assert lost.name in row["error_message"], row
    lost.start()
    lost.run("rm -f /srv/hold/start")
    until("it to be healed", lambda: shop.states() == ["current"] * HOSTS, 120)
    assert shop.answers == ["one"] * HOSTS


def test_a_rollout_whose_worker_is_killed_goes_on_where_it_was(shop):
    held = shop.webs[6]
    shop.hold_start(held)
    deployment = shop.push("killed")
    shop.waits_at_start(held, deployment)
    shop.kill_fraisier()
    held.run("rm -f /srv/hold/start")
    shop.wait_until_ready()
    row = shop.ended(deployment, 180)
    assert row["status"] == "success", row
    assert shop.answers == ["killed"] * HOSTS
