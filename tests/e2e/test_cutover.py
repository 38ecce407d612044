"""Releases change while requests come, on a real server: none is dropped, whatever goes wrong or dies."""

from __future__ import annotations

import json
import threading

import pytest

from tests.e2e.kiosk import LINK, Kiosk, until
from tests.e2e.shop import APP, FRAISIER

pytestmark = pytest.mark.servers
RESTART = "cutover: restart\n        listen: /run/shop/%i/service.sock"
BLUE_GREEN = RESTART.replace("restart", "blue_green")
SOCKET = "cutover: socket\n        listen: 0.0.0.0:8000"


@pytest.fixture(scope="module")
def kiosk(server):
    made = Kiosk(server)
    made.set_up(more=RESTART)
    made.proxy()
    return made


@pytest.fixture(autouse=True)
def _let_everything_go(kiosk):
    yield
    kiosk.let_go("start")


def test_an_environment_is_handed_over_to_blue_green_and_back_and_no_request_is_dropped(kiosk):
    kiosk.deployed("plain")
    assert (kiosk.answer, kiosk.instances) == ("plain", ["shop.service"])
    for more in (BLUE_GREEN, RESTART, BLUE_GREEN):
        kiosk.configure(more)
        kiosk.wait_until_ready()
        with kiosk.customers() as counted:
            kiosk.deployed("to-blue" if more == BLUE_GREEN else "to-plain")
        assert (counted.failed, counted.cut) == ({}, 0)
        assert counted.requests
        if more == BLUE_GREEN:
            assert kiosk.is_tidy()
        else:
            assert kiosk.instances == ["shop.service"]


def test_no_request_is_dropped_and_none_is_answered_by_a_bad_release(kiosk):
    with kiosk.customers() as counted:
        kiosk.deployed("good")
        row = kiosk.deployed("sick", "failed")
        assert row["cause"] == "unhealthy"
        row = kiosk.deployed("dead", "failed")
        assert row["cause"] == "unhealthy"
        kiosk.deployed("better")
        back = kiosk.server.run(f"{FRAISIER} rollback shop production --json")
        assert '"success"' in back.stdout
    assert (counted.failed, counted.cut) == ({}, 0)
    assert set(counted.versions) == {"to-blue", "good", "better"}
    assert counted.websockets > 3  # one for each release that ended
    assert kiosk.answer == "good"
    assert kiosk.is_tidy()
    status = kiosk.server.run(f"{FRAISIER} status --json").stdout
    assert kiosk.commits["sick"] in status, "a commit that failed is in quarantine"


def test_a_release_that_fails_late_gives_way_to_the_old_one_at_once(kiosk):
    before = kiosk.answer
    kiosk.configure(BLUE_GREEN + "\n        bake: 20s")
    kiosk.wait_until_ready()
    with kiosk.customers() as counted:
        row = kiosk.deployed("late", "rolled_back")
    assert row["cause"] == "unhealthy"
    assert (counted.failed, counted.cut) == ({}, 0)
    assert set(counted.versions) == {before, "late"}
    assert kiosk.answer == before
    assert kiosk.is_tidy()
    kiosk.configure(BLUE_GREEN)
    kiosk.wait_until_ready()


def test_killed_beside_the_old_release_it_is_brought_to_its_end(kiosk):
    kiosk.configure(BLUE_GREEN, patience=90)  # it has to be killed before it loses its own
    kiosk.wait_until_ready()
    kiosk.hold("start")
    with kiosk.customers() as counted:
        deployment = kiosk.push("k1")
        kiosk.waits_in(deployment, "check_health")
        kiosk.kill_fraisier()
        kiosk.let_go("start")
        kiosk.wait_until_ready()
        row = kiosk.ended(deployment)
    assert row["status"] == "success", (row, kiosk.why(deployment))
    assert (counted.failed, counted.cut) == ({}, 0)
    assert kiosk.answer == "k1"
    assert kiosk.is_tidy()
    kiosk.configure(BLUE_GREEN)
    kiosk.wait_until_ready()


def test_killed_while_the_old_release_drains_the_new_one_stays_and_the_old_one_ends(kiosk):
    slow: list[str] = []
    ask = f"curl -s -m 20 --unix-socket {LINK} http://shop/slow/3"
    thread = threading.Thread(target=lambda: slow.append(kiosk.server.run(ask).stdout))
    thread.start()
    deployment = kiosk.push("k2")
    kiosk.waits_in(deployment, "finish")
    kiosk.kill_fraisier()
    kiosk.wait_until_ready()
    row = kiosk.ended(deployment)
    thread.join()
    assert row["status"] == "success", (row, kiosk.why(deployment))
    assert kiosk.answer == "k2"
    assert slow[0].startswith("k1 ")
    assert kiosk.is_tidy()


def test_killed_while_a_bad_release_is_checked_it_is_ended_and_the_old_one_serves(kiosk):
    before = kiosk.answer
    deployment = kiosk.push("sick-2")
    kiosk.waits_in(deployment, "check_health")
    kiosk.kill_fraisier()
    kiosk.wait_until_ready()
    row = kiosk.ended(deployment)
    assert (row["status"], row["cause"]) == ("failed", "unhealthy"), (row, kiosk.why(deployment))
    assert kiosk.answer == before
    assert kiosk.is_tidy()


def test_a_drain_that_never_ends_has_an_end(kiosk):
    kiosk.deployed("stubborn")  # hears no SIGTERM, and has somebody who never goes away
    stay = f"curl -s -m 250 --unix-socket {LINK} http://shop/slow/200"  # until it is cut
    thread = threading.Thread(target=lambda: kiosk.server.run(stay, check=False, timeout=270))
    thread.start()
    until("the visitor", lambda: "shop" in kiosk.server.run("pgrep -fa '[s]low/200'").stdout)
    row = kiosk.deployed("after")
    thread.join()
    assert "they are cut" in kiosk.why(row["id"])
    assert kiosk.answer == "after"
    assert kiosk.is_tidy()


def test_after_a_reboot_the_serving_release_is_back_without_fraisier(kiosk):
    kiosk.server.run("systemctl disable -q fraisier")
    kiosk.server.reboot()
    url = f"http://{kiosk.server.address}/"
    until("the shop", lambda: kiosk.server.run(f"curl -sf {url}").stdout.startswith("after "), 30)
    assert kiosk.is_tidy()
    kiosk.server.run("systemctl enable -q --now fraisier")
    kiosk.wait_until_ready()


def test_traffic_that_was_sent_elsewhere_by_hand_is_found_and_healed(kiosk):
    verify = f"{FRAISIER} status --verify shop production --json"
    kiosk.deployed("verified")
    assert kiosk.server.run(verify, timeout=60).returncode == 0
    kiosk.server.run(f"ln -sfn /srv/nobody.sock {LINK}")
    found = kiosk.server.run(verify, check=False, timeout=60)
    (drift,) = json.loads(found.stdout)
    assert (found.returncode, drift["check"]) == (1, "traffic"), drift
    kiosk.server.run(drift["hint"].replace("fraisier", FRAISIER, 1), timeout=90)
    assert kiosk.answer == "verified"
    assert kiosk.server.run(verify, timeout=60).returncode == 0
    assert kiosk.is_tidy()


def test_while_a_service_with_a_socket_of_systemds_restarts_nobody_is_refused(kiosk):
    kiosk.configure(SOCKET)
    kiosk.wait_until_ready()
    kiosk.deployed("first")
    with kiosk.customers(port=8000) as counted:
        kiosk.deployed("second")
        kiosk.deployed("sick-3", "rolled_back")
        dead = kiosk.deployed("dead-3", "rolled_back")
    assert "crashed" in dead["error_message"], dead
    assert set(counted.versions) <= {"first", "second", "sick-3"}
    assert not [what for what in counted.failed if "Refused" in what]
    assert sum(counted.failed.values()) <= 5, counted.failed  # a reset for each of the restarts, at most
    assert counted.cut == 0
    assert kiosk.instances == ["shop.service"]
    assert not kiosk.server.run(f"ls {APP}/.fraisier/instances", check=False).stdout
