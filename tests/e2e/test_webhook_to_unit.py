"""The whole way, on a real server: a signed webhook becomes a restarted unit, or the old one serves on."""

from __future__ import annotations

import json

import pytest

from tests.e2e.shop import APP, FRAISIER, Shop, until

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def shop(server):
    made = Shop(server)
    made.set_up(app_of_user=True)  # the crash tests have a folder that Fraisier makes
    return made


def test_a_push_becomes_a_running_unit(shop):
    row = shop.ended(shop.push("one"))
    assert row["status"] == "success", row
    assert shop.answer == "one"
    assert shop.server.run(f"stat -c %U {APP} {APP}/.fraisier").stdout.split() == ["shop", "root"]
    assert shop.server.run("systemctl show -p ActiveState --value shop.service").stdout.strip() == "active"


def test_builds_run_as_the_environments_user_outside_our_cgroup(shop):
    assert shop.server.run(f"cat {APP}/current/built-by").stdout.strip() == "shop"
    assert shop.server.run(f"stat -c %U {APP}/current/VERSION").stdout.strip() == "shop"
    shop.hold("build")
    deployment = shop.push("cgroup")
    shop.waits_in(deployment, "build")
    groups = shop.server.run("systemd-cgls --no-pager -u fraisier.service").stdout
    assert "hold/build" not in groups
    shop.let_go("build")
    assert shop.ended(deployment)["status"] == "success"


def test_an_unhealthy_version_is_rolled_back_by_itself(shop):
    before = shop.current
    row = shop.ended(shop.push("sick"))
    assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), row
    assert shop.current == before == shop.answer


def test_a_version_that_does_not_start_is_rolled_back(shop):
    before = shop.current
    commit = shop.commit("broken", **{"service.py": "raise SystemExit(1)"})
    row = shop.ended(shop.webhook(commit)["deployments"][0]["id"])
    assert row["status"] == "rolled_back", row
    assert shop.answer == before


def test_the_fix_is_deployed(shop):
    from tests.e2e.shop import SERVICE

    commit = shop.commit("fixed", **{"service.py": SERVICE})
    row = shop.ended(shop.webhook(commit)["deployments"][0]["id"])
    assert row["status"] == "success", row
    assert shop.answer == "fixed"


def test_a_person_rolls_back_and_forward(shop):
    said = shop.server.run(f"{FRAISIER} rollback shop production", timeout=90).stdout
    assert shop.answer != "fixed", said
    shop.server.run(f"{FRAISIER} deploy shop production", timeout=90)
    assert shop.answer == "fixed"


def test_the_unit_comes_back_after_a_reboot(shop):
    shop.server.reboot()
    shop.wait_until_ready()
    assert shop.server.run("systemctl is-enabled shop.service").stdout.strip() == "enabled"
    shop.server.run("curl -s --retry 20 --retry-connrefused --retry-delay 0 -m 2 http://127.0.0.1:8000/")
    assert shop.answer == "fixed"


def test_a_removed_unit_is_installed_again_from_the_release(shop):
    shop.server.run("systemctl disable --now shop.service; rm /etc/systemd/system/shop.service")
    row = shop.ended(shop.push("again"))
    assert row["status"] == "success", row
    assert shop.answer == "again"


def test_a_push_waits_in_a_pause_and_is_deployed_after(shop):
    shop.server.run(f"{FRAISIER} pause shop production --reason 'the disk is being replaced'")
    before = shop.answer
    deployment = shop.push("waited")
    assert shop.row(deployment)["status"] == "pending"
    assert "the disk is being replaced" in json.loads(shop.get("/ready")[1])["holds"]
    assert shop.answer == before
    shop.server.run(f"{FRAISIER} resume shop production")
    assert shop.ended(deployment)["status"] == "success"
    assert shop.answer == "waited"


def test_what_was_changed_by_hand_is_found_and_healed(shop):
    verify = f"{FRAISIER} status --verify shop production --json"
    assert shop.server.run(verify, timeout=60).returncode == 0
    # Somebody restarts the unit into an older release, tidies the link up again, and edits the unit.
    now = shop.server.run(f"readlink {APP}/current").stdout.strip()
    point = f"cd {APP} && ln -sfn $(ls -d releases/* | grep -v {now} | head -1) current"
    shop.server.run(f"{point} && systemctl restart shop.service")
    until("the older version", lambda: shop.answer not in ("", "waited"))
    shop.server.run(f"ln -sfn {now} {APP}/current && echo '# edited' >> /etc/systemd/system/shop.service")
    found = shop.server.run(verify, check=False, timeout=60)
    assert found.returncode == 1, found.stdout
    drifts = json.loads(found.stdout)
    assert [(each["verdict"], each["check"]) for each in drifts] == [("drift", "unit"), ("drift", "file")]
    (heals,) = {each["hint"] for each in drifts}
    shop.server.run(heals.replace("fraisier", FRAISIER, 1), timeout=90)
    assert shop.server.run(verify, timeout=60).returncode == 0
    assert shop.answer == "waited"


def test_doctor_finds_nothing_wrong(shop):
    shop.server.run(f"{FRAISIER} doctor", timeout=90)
