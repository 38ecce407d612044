"""Timers on another server, where Fraisier is not root: what it may, and what it may not."""

from __future__ import annotations

import json

import pytest

from tests.e2e.office import APP, FRAISIER, WEB, RemoteOffice
from tests.e2e.shop import until

pytestmark = pytest.mark.servers
TICK = '{run: "id -un >> /srv/said/tick; cat VERSION >> /srv/said/tick; echo printed", schedule: "*:*:0/2"}'
NAME = "fraisier-office-production"
PROGRAM = "/usr/local/lib/fraisier/fraisier-units"


@pytest.fixture(scope="module")
def office(server_factory):
    made = RemoteOffice(server_factory("clerk"), web=server_factory("office"))
    made.set_up({"tick": TICK})
    yield made
    made.web.down()
    made.server.down()


def test_without_the_program_a_deployment_says_what_to_do(office):
    office.server.run(f"{FRAISIER} bootstrap {WEB}")
    office.web.run(f"mv {PROGRAM} {PROGRAM}.away")
    office.commit("one")
    said = office.deploy(check=False)
    assert said.returncode == 1
    assert "fraisier bootstrap HOST" in said.stderr
    office.web.run(f"mv {PROGRAM}.away {PROGRAM}")


def test_bootstrap_once_more_changes_nothing(office):
    look = f"sha256sum {PROGRAM} /etc/fraisier/units.list /etc/sudoers.d/*; stat -c '%U %a' {PROGRAM} /etc/fraisier/units.list"
    before = office.web.run(look).stdout
    printed = office.server.run(f"{FRAISIER} bootstrap {WEB}").stdout
    assert "as good as a root that runs nothing but commands as office" in printed
    assert office.web.run(look).stdout == before
    assert before.splitlines()[-2:] == ["root 755", "root 644"]


def test_a_deployment_installs_timers_that_fire_as_the_user(office):
    office.deploy()
    office.says("tick", "one")
    assert set(office.said("tick")) == {"office", "one"}
    assert office.timers() == [f"{NAME}-tick.timer"]


def test_runs_report_in_over_ssh(office):
    found = until("a run", lambda: [row for row in office.runs("tick") if row["status"] == "success"])
    assert found[0]["host"] == WEB
    until("few reports", lambda: int(office.web.run(f"ls {APP}/reports | wc -l").stdout) < 10)


def test_doctor_finds_nothing_wrong(office):
    found = json.loads(office.fraisier("doctor --json office production", check=False).stdout)
    assert [
        each for each in found if each["subject"] == "office/production" and each["verdict"] == "problem"
    ] == []
    assert [each for each in found if each["check"] == "timers"] == []


@pytest.mark.parametrize(
    "line",
    [
        f"sudo -n {PROGRAM} apply fraisier-office-staging",
        f"sudo -n {PROGRAM} remove fraisier-other-production",
        f"sudo -n {PROGRAM} start {NAME} ssh.service",
        f"sudo -n {PROGRAM} start {NAME} ../ssh.service",
        f"sudo -n {PROGRAM} start {NAME} {NAME}-other.service",
        f"sudo -n {PROGRAM} journal {NAME} {NAME}-tick.service --all 5",
        f"sudo -n {PROGRAM} apply {NAME} root / '' ''",
        f"sudo -n {PROGRAM} apply 'fraisier-office-production\t'",
        f"sudo -n SUDO_USER=root {PROGRAM} remove fraisier-other-production",
        f"echo nonsense | sudo -n {PROGRAM} apply {NAME}",
        f"sudo -n {PROGRAM} apply {NAME} < /dev/null",
        f"sed s/User=office/User=root/ {APP}/.fraisier/timers/* | sudo -n {PROGRAM} apply {NAME}",
        f"sed 's/ExecStart=/ExecStart=+/' {APP}/.fraisier/timers/* | sudo -n {PROGRAM} apply {NAME}",
        f"ln -s /etc/shadow /tmp/s; sudo -n {PROGRAM} apply {NAME} < /tmp/s",
        "sudo -n tee /etc/systemd/system/x.service < /dev/null",
        "echo x >> /etc/fraisier/units.list",
        f"echo x >> {PROGRAM}",
    ],
)
def test_who_may_call_the_program_may_do_nothing_else_with_it(office, line):
    units = "cat /etc/systemd/system/fraisier-*; ls /etc/systemd/system"
    before = office.web.run(units).stdout
    done = office.web.run(["runuser", "-u", "deploy", "--", "sh", "-c", line], check=False)
    assert done.returncode != 0, done.stdout
    assert "root:" not in done.stdout + done.stderr
    assert office.web.run(units).stdout == before


@pytest.mark.parametrize("how", ["chmod 666", "chown deploy"])
def test_a_list_that_others_can_write_is_not_believed(office, how):
    office.web.run(f"{how} /etc/fraisier/units.list")
    done = office.web.run(f"runuser -u deploy -- sudo -n {PROGRAM} check {NAME}", check=False)
    office.web.run("chown root:root /etc/fraisier/units.list; chmod 644 /etc/fraisier/units.list")
    assert done.returncode == 1


@pytest.mark.parametrize("place", [APP + "/shared", "/tmp", "/home/office"])
def test_a_log_is_not_opened_as_root_where_others_could_lead_it_elsewhere(office, place):
    office.web.run(f"mkdir -p {place}; sed -i 's|\t[^\t]*$|\t{place}/x.log|' /etc/fraisier/units.list")
    office.more = f"hosts: {WEB}\nlog_file: {place}/x.log"
    office.configure({"tick": TICK})
    said = office.deploy(check=False)
    assert said.returncode == 1
    assert "a folder on the way belongs to somebody else" in said.stderr


def test_logs_go_into_a_file_of_roots_and_are_rotated(office):
    office.more = f"hosts: {WEB}\nlog_file: /var/log/fraisier/office.log"
    office.configure({"tick": TICK})
    office.server.run(f"{FRAISIER} bootstrap {WEB}")
    office.deploy()
    log = "cat /var/log/fraisier/office.log"
    until("the log", lambda: "printed" in office.web.run(log, check=False).stdout)
    rule = office.web.run(f"cat /etc/logrotate.d/{NAME}").stdout
    assert '"/var/log/fraisier/office.log" {' in rule


def test_units_of_an_environment_that_left_are_told_and_removed_by_bootstrap(office):
    text = office.server.run("cat /etc/fraisier/fraises.yaml").stdout
    office.server.write(
        "/etc/fraisier/fraises.yaml",
        text.replace("    production:", "    renamed:").replace("/var/www/office", "/var/www/renamed"),
        mode=0o600,
    )
    found = json.loads(office.fraisier("doctor --offline --json", check=False).stdout)
    (left,) = [each for each in found if each["check"] == "timers"]
    assert "office/production" in left["message"]
    assert all(f" /etc/systemd/system/{name}" in left["hint"] for name in office.units())
    office.server.run(f"{FRAISIER} bootstrap {WEB}")
    assert office.units() == []
    assert office.timers() == []
