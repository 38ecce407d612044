"""kill -9, reboot and power loss in the middle of a deployment: it ends by itself, and something whole runs."""

from __future__ import annotations

import pytest

from tests.e2e.shop import APP, Shop, until

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def shop(server):
    made = Shop(server)
    made.set_up()
    assert made.ended(made.push("zero"))["status"] == "success"
    return made


@pytest.fixture(autouse=True)
def _let_everything_go(shop):
    yield
    shop.let_go("build")
    shop.let_go("start")


def builds_running(shop) -> int:
    return int(shop.server.run("pgrep -c -f '[t]est -e /srv/hold/build' || true").stdout.split()[0])


def test_killed_in_the_build_it_is_built_again(shop):
    shop.hold("build")
    deployment = shop.push("k1")
    shop.waits_in(deployment, "build")
    shop.kill_fraisier()
    shop.wait_until_ready()
    until("the second attempt", lambda: shop.row(deployment)["attempts"] == 2)
    until("one build", lambda: builds_running(shop) <= 1)
    assert shop.current != "k1"
    shop.let_go("build")
    row = shop.ended(deployment)
    assert row["status"] == "success", row
    assert shop.answer == "k1"
    releases = shop.server.run(f"ls {APP}/releases | wc -l").stdout.strip()
    markers = shop.server.run(f"ls {APP}/.fraisier/releases | wc -l").stdout.strip()
    assert releases == markers


def test_killed_after_the_switch_the_release_is_brought_to_its_end(shop):
    shop.hold("start")
    deployment = shop.push("k2")
    shop.waits_in(deployment, "check_health")
    shop.kill_fraisier()
    shop.let_go("start")
    shop.wait_until_ready()
    row = shop.ended(deployment)
    assert row["status"] == "success", row
    assert shop.answer == shop.current == "k2"


def test_killed_while_a_bad_release_is_checked_the_old_one_comes_back(shop):
    before = shop.current
    deployment = shop.push("sick")
    shop.waits_in(deployment, "check_health")
    shop.kill_fraisier()
    shop.wait_until_ready()
    row = shop.ended(deployment, 90)
    assert row["status"] == "rolled_back", row
    assert shop.answer == shop.current == before


def test_a_reboot_in_the_build_is_survived(shop):
    shop.hold("build")
    deployment = shop.push("reboot")
    shop.waits_in(deployment, "build")
    shop.server.reboot()
    shop.wait_until_ready()
    shop.let_go("build")
    row = shop.ended(deployment)
    assert row["status"] == "success", row
    assert shop.answer == "reboot"


def test_a_reboot_while_a_release_is_checked_is_survived(shop):
    shop.hold("start")
    deployment = shop.push("reboot-late")
    shop.waits_in(deployment, "check_health")
    shop.server.reboot()
    shop.let_go("start")
    shop.wait_until_ready()
    row = shop.ended(deployment, 90)
    assert row["status"] == "success", row
    until("the service", lambda: shop.answer == shop.current == "reboot-late")


@pytest.mark.parametrize("step", ["build", "check_health"])
def test_a_power_loss_is_survived(shop, step):
    shop.hold("build" if step == "build" else "start")
    deployment = shop.push(f"power-{step}")
    shop.waits_in(deployment, step)
    shop.server.lose_power()
    shop.server.start()
    shop.let_go("build")
    shop.let_go("start")
    shop.wait_until_ready()
    row = shop.ended(deployment, 90)
    assert row["status"] == "success", row
    until("the service", lambda: shop.answer == shop.current == f"power-{step}")


def test_an_accepted_push_survives_a_kill_right_after_the_answer(shop):
    ids = []
    for number in range(3):
        commit = shop.commit(f"fast-{number}")
        ids.append(shop.webhook(commit)["deployments"][0]["id"])
        shop.kill_fraisier()
        shop.wait_until_ready()
    rows = [shop.ended(each, 90) for each in ids]
    assert {row["status"] for row in rows} <= {"success", "superseded"}, rows
    assert rows[-1]["status"] == "success"
    assert shop.answer == "fast-2"
