"""From a signed webhook on the controller to a unit on another server, over SSH, as an unprivileged user."""

from __future__ import annotations

import json

import pytest

from tests.e2e.remote_shop import APP, CONFIG, FRAISIER, WEB, RemoteShop, until

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def shop(server_factory):
    made = RemoteShop(server_factory("controller"), web=server_factory("web1"))
    made.set_up()
    yield made
    made.web.down()
    made.server.down()


def waiting(shop, deployment):
    """The deployment while it waits for another try, with why."""
    row = shop.row(deployment)
    return row if row["status"] == "pending" and row["error_message"] else None


def test_what_bootstrap_prints_is_what_it_does_and_once_more_changes_nothing(shop):
    printed = shop.server.run(f"{FRAISIER} bootstrap {WEB} --print").stdout
    assert "deploy ALL=(root) NOPASSWD: /usr/bin/systemctl --no-ask-password restart shop.service" in printed
    assert "deploy ALL=(shop) NOPASSWD: ALL" in printed
    assert shop.web.run("id deploy", check=False).returncode != 0
    state = (
        f"stat -c '%n %U %G %a' {APP} /home/deploy/.ssh/authorized_keys; cat /etc/sudoers.d/fraisier-deploy"
    )
    found = []
    for _ in range(2):
        shop.server.run(f"{FRAISIER} bootstrap {WEB}")
        found.append(shop.web.run(f"{state}; wc -l /home/deploy/.ssh/authorized_keys; id deploy").stdout)
    assert found[0] == found[1]
    assert f"{APP} deploy deploy 755" in found[0]


def test_what_was_set_up_may_do_what_deployments_need_and_no_more(shop):
    allowed = "sudo -n -l -- systemctl --no-ask-password restart shop.service"
    for line, code in (
        (allowed, 0),
        ("sudo -n -l -- systemctl --no-ask-password restart ssh.service", 1),
        ("sudo -n -l -- systemctl --no-ask-password restart shop.service ssh.service", 1),
        ("sudo -n -l -- sh", 1),
        ("sudo -n -u shop id -un", 0),
    ):
        done = shop.web.run(f"runuser -u deploy -- {line}", check=False)
        assert done.returncode == code, (line, done.stdout, done.stderr)


def test_a_push_becomes_a_running_unit_on_the_other_server(shop):
    shop.start()
    row = shop.ended(shop.push("one"))
    assert row["status"] == "success", row
    assert shop.answer == "one"
    said = shop.web.run(
        f"cat {APP}/current/built-by {APP}/current/built-on; stat -c %U {APP}/.fraisier"
    ).stdout
    assert said.split() == ["shop", shop.web.run("hostname").stdout.strip(), "deploy"]
    assert shop.web.run(f"ls -A {APP}/.fraisier/scopes").stdout == ""


def test_doctor_finds_nothing_wrong_and_the_units_log_is_shown(shop):
    found = json.loads(shop.server.run(f"{FRAISIER} doctor --json shop production", check=False).stdout)
    assert [each for each in found if each["subject"] == "shop/production" and each["verdict"] != "ok"] == []
    assert "shop.service" in shop.server.run(f"{FRAISIER} logs --unit shop production").stdout


def test_an_unhealthy_version_is_rolled_back_by_itself(shop):
    row = shop.ended(shop.push("sick"))
    assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), row
    assert shop.current == shop.answer == "one"


def test_a_person_rolls_back(shop):
    assert shop.ended(shop.push("two"))["status"] == "success"
    shop.server.run(f"{FRAISIER} rollback shop production", timeout=90)
    assert shop.answer == "one"


def test_a_cancelled_build_ends_on_the_other_server(shop):
    shop.hold("build")
    deployment = shop.push("cancelled")
    shop.waits_in_build()
    shop.server.run(f"{FRAISIER} cancel {deployment}")
    assert shop.ended(deployment)["status"] == "cancelled"
    assert shop.builds == ""
    shop.let_go("build")


def test_the_build_of_a_killed_worker_ends_there_and_its_deployment_goes_on(shop):
    shop.hold("build")
    deployment = shop.push("killed")
    shop.waits_in_build()
    before = shop.inside("pgrep -f '[t]est -e /srv/hold/build' | head -n 1")
    shop.kill_fraisier()
    until("the build to end", lambda: before not in shop.inside("pgrep -f '[h]old/build'").split())
    shop.let_go("build")
    row = shop.ended(deployment)
    assert row["status"] == "success", row
    assert shop.answer == "killed"


def test_a_build_ends_by_itself_when_the_network_parts_and_is_repeated_later(shop):
    shop.hold("build")
    deployment = shop.push("parted")
    shop.waits_in_build()
    assert shop.builds
    shop.web.cut()
    try:
        until("the build to end by itself", lambda: shop.builds == "")
        row = until("the deployment to wait", lambda: waiting(shop, deployment))
        assert row["cause"] == "network", row
        assert WEB in row["error_message"], row
    finally:
        shop.web.mend()
    shop.let_go("build")
    row = shop.ended(deployment, 90)
    assert row["status"] == "success", row
    assert shop.answer == "parted"


def test_a_changed_host_key_is_refused_with_what_to_do(shop):
    shop.web.run("mkdir /srv/keys && mv /etc/ssh/ssh_host_*_key* /srv/keys && ssh-keygen -q -A")
    shop.server.run("systemctl restart fraisier")
    shop.wait_until_ready()
    deployment = shop.push("distrusted")
    row = until("the deployment to wait", lambda: waiting(shop, deployment))
    assert row["cause"] == "host", row
    assert "its key is another one" in row["error_message"], row
    said = shop.server.run(f"{FRAISIER} rollback shop production", check=False)
    assert said.returncode == 4
    assert "ssh-keygen -R" in said.stderr
    shop.web.run("mv /srv/keys/* /etc/ssh/")
    assert shop.ended(deployment, 90)["status"] == "success"


def test_a_release_can_be_built_on_the_controller_and_sent_over(shop):
    shop.server.run(
        f"useradd --system --create-home shop; sed -i 's/user: shop/build_on: here, user: shop/' {CONFIG}"
    )
    shop.server.run(
        f"sed -i 's/build_on: here, /build_on: here\\n        /; s/touch .srv.hold.built; //' {CONFIG}"
    )
    shop.start()
    row = shop.ended(shop.push("here"))
    assert row["status"] == "success", row
    assert shop.answer == "here"
    built_on = shop.web.run(f"cat {APP}/current/built-on; stat -c %U {APP}/current/built-on").stdout.split()
    assert built_on == [shop.server.run("hostname").stdout.strip(), "shop"]
    shop.server.run(f"{FRAISIER} rollback shop production", timeout=90)
    assert shop.answer != "here"


def test_what_was_built_for_an_interpreter_that_the_host_lacks_is_not_sent(shop):
    shop.server.run("ln -s /bin/true /usr/local/bin/python9")
    shop.server.run("cd /srv/work && ln -s /usr/local/bin/python9 python")
    row = shop.ended(shop.push("lacking"))
    assert (row["status"], row["cause"]) == ("failed", "preflight"), row
    assert "/usr/local/bin/python9" in row["error_message"]
