"""Scheduled commands on real systemd: timers that fire, are replaced, removed, and brought back."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.office import APP, CONFIG, FRAISIER, PYTHON, Office
from tests.e2e.shop import until

pytestmark = pytest.mark.servers
TICK = '{run: "cat VERSION >> /srv/said/tick", schedule: "*:*:0/2"}'
AFTER = '{run: "cat VERSION >> /srv/said/after", depends_on: tick}'
YEARLY = '{run: "cat VERSION >> /srv/said/yearly", schedule: "0 0 1 1 *", timezone: Europe/Berlin}'
YEAR = 'schedule: "0 0 1 1 *"'
NAMES = "fraisier-office-production-"


@pytest.fixture(scope="module")
def office(server):
    made = Office(server)
    made.set_up({"tick": TICK, "after": AFTER, "year-ly": YEARLY})
    made.server.write(
        f"/etc/systemd/system/{NAMES}foreign.service", "[Service]\nExecStart=/bin/sleep infinity\n"
    )
    made.server.write("/etc/systemd/system/fraisier-office-staging-x.timer", "[Timer]\nOnCalendar=daily\n")
    return made


def test_a_deployment_installs_timers_that_fire_in_the_release_as_the_user(office):
    office.commit("one")
    office.deploy()
    (deployment,) = office.json("history office production")
    assert "tick.timer is active" in office.fraisier(f"logs {deployment['id']}").stdout
    office.says("tick", "one")
    office.says("after", "one")
    assert office.said("yearly") == []
    assert office.timers() == [f"{NAMES}tick.timer", f"{NAMES}year--ly.timer"]
    assert office.server.run("stat -c %U /srv/said/tick").stdout.strip() == "office"


def test_each_run_is_in_the_history_with_what_it_printed(office):
    def both() -> list[dict[str, Any]]:
        found = [[row for row in office.runs(job) if row["status"] != "running"] for job in ("tick", "after")]
        return [*found[0], *found[1]] if all(found) else []

    ended = until("runs of both to have ended", both)
    assert {(row["job"], row["trigger"], row["status"], row["exit_code"]) for row in ended} == {
        ("tick", "scheduled", "success", 0),
        ("after", "dependency", "success", 0),
    }
    assert {row["release"] for row in ended} == {
        office.server.run(f"basename $(readlink {APP}/current)").stdout.strip()
    }
    assert len({row["invocation"] for row in ended}) == len(ended)


def test_a_run_that_fails_is_tried_again_and_both_tries_are_told(office):
    office.configure(
        {
            "tick": TICK,
            "flaky": '{run: "echo token $API_TOKEN; test -e /srv/said/ok || { touch /srv/said/ok; exit 7; }", schedule: "*:*:0/2",'
            ' retries: 2, retry_delay: 200ms, on_success: "echo good > /srv/said/hook"}',
            "slow": '{run: "sleep 600", schedule: "*:*:0/2", timeout: 1s, on_failure: "echo bad > /srv/said/slow"}',
        }
    )
    office.deploy()
    until(
        "both tries", lambda: len([row for row in office.runs("flaky") if row["exit_code"] is not None]) >= 2
    )
    second, first = [row for row in office.runs("flaky") if row["exit_code"] is not None][-2:]
    assert (first["exit_code"], first["status"], first["attempt"]) == (7, "failed", 1)
    assert (second["status"], second["attempt"], second["retry_of"]) == ("success", 2, first["id"])
    office.says("hook", "good")
    slow = until("its end", lambda: [row for row in office.runs("slow") if row["status"] == "failed"])
    assert slow[0]["cause"] == "timeout"
    office.says("slow", "bad")
    assert office.server.run("ls /var/www/office/reports | wc -l").stdout.strip() != "500"


def test_a_person_starts_a_run_of_a_unit_and_calls_one_off(office):
    run = "import sys; from fraisier import wiring; from fraisier.domain.fraise import EnvironmentKey as K; "
    run += f"f = wiring.assemble(wiring.load('{CONFIG}')); "
    ask = run + "print(f.request_run(K('office', 'production'), sys.argv[1], parameters={}, by='ada')['id'])"
    cancel = run + "f.store.cancel_run(sys.argv[1], by='ada')"

    def row(id_):
        return next(row for row in office.runs() if row["id"] == id_)

    office.configure({"tick": TICK, "by-hand": f'{{run: "echo $FRAISIER_RELEASE is here; sleep 1; echo $API_TOKEN", {YEAR}}}',
                      "long": f'{{run: "sleep 600", {YEAR}}}'})  # fmt: skip
    office.deploy()
    id_ = office.server.run([PYTHON, "-c", ask, "by-hand"]).stdout.strip()
    until("its end", lambda: row(id_)["status"] == "success")
    found = row(id_)
    assert (found["trigger"], found["requested_by"], found["exit_code"]) == ("manual", "ada", 0)
    assert [each["id"] for each in office.runs("by-hand")] == [id_]
    printed = office.output(id_)
    assert f"{found['release']} is here\n" in printed
    assert "sesame" not in printed
    id_ = office.server.run([PYTHON, "-c", ask, "long"]).stdout.strip()
    until(
        "its unit",
        lambda: (
            "activating" in office.server.run(f"systemctl is-active {NAMES}long.service", check=False).stdout
        ),
    )
    office.server.run([PYTHON, "-c", cancel, id_])
    until("its end", lambda: row(id_)["status"] == "cancelled")
    assert office.server.run(f"systemctl is-active {NAMES}long.service", check=False).stdout.strip() in (
        "failed",
        "inactive",
    )


@pytest.mark.parametrize("how", ["wait", "cancel", "new_release_next"])
def test_a_deployment_minds_a_run_that_is_under_way(office, how):
    office.server.run("rm -f /srv/said/go /srv/said/long")
    line = "echo begun >> /srv/said/long; until test -e /srv/said/go; do sleep 0.1; done; cat $PWD/VERSION >> /srv/said/long"
    office.more = f"on_running: {how}"
    office.configure({"long": f'{{run: "{line}", schedule: "*:*:0/2"}}'})
    office.commit(f"{how}-1")
    office.deploy()
    office.says("long", "begun")
    office.commit(f"{how}-2")
    deployment = office.fraisier("deploy office production --force --no-wait").stdout.split()[-1]

    def status():
        return next(
            row["status"] for row in office.json("history office production") if row["id"] == deployment
        )

    if how == "wait":
        until("it to wait", lambda: "waiting for" in office.fraisier(f"logs {deployment}").stdout)
        assert status() == "running"
        assert office.timers() == []
        office.server.run("touch /srv/said/go")
    until("its end", lambda: status() == "success")
    office.server.run("touch /srv/said/go")
    office.says("long", f"{how}-2")
    # What ran ended in the release in which it had begun, or was ended.
    assert bool(set(office.said("long")) - {"begun", f"{how}-2"}) is (how != "cancel")
    assert office.timers() == [f"{NAMES}long.timer"]
    if how == "cancel":
        assert until("its end", lambda: [row for row in office.runs("long") if row["status"] == "cancelled"])
    office.more = ""


def test_a_deployment_waits_for_a_run_of_a_job_that_it_takes_from_systemd_and_for_nobody_elses(office):
    office.server.run(f"rm -f /srv/said/gone /srv/said/let; systemctl start {NAMES}foreign")
    line = "echo begun >> /srv/said/gone; until test -e /srv/said/let; do sleep 0.1; done"
    office.configure({"gone": f'{{run: "{line}; cat $PWD/VERSION >> /srv/said/gone", schedule: "*:*:0/2"}}'})
    office.commit("gone-1")
    office.deploy()
    office.says("gone", "begun")
    office.configure({"later": YEARLY.replace("schedule:", "keeper: worker, schedule:")})
    office.commit("gone-2")
    deployment = office.fraisier("deploy office production --force --no-wait").stdout.split()[-1]
    until("it to wait", lambda: "waiting for" in office.fraisier(f"logs {deployment}").stdout)
    office.server.run("touch /srv/said/let")
    until("its end", lambda: office.json("history office production")[0]["status"] == "success")
    assert office.said("gone") == ["begun", "gone-1"]
    assert office.timers() == []
    assert f"waiting for {NAMES}foreign" not in office.fraisier(f"logs {deployment}").stdout
    office.server.run(f"systemctl is-active {NAMES}foreign && systemctl stop {NAMES}foreign")


def test_the_units_are_hardened_and_have_no_secret(office):
    office.configure({"tick": TICK, "after": AFTER})
    office.commit("hardened")
    office.deploy()
    office.says("tick", "hardened")
    unit = office.server.run(f"systemctl cat {NAMES}tick.service").stdout
    for line in ("User=office", "PrivateTmp=true", "ProtectSystem=full", "NoNewPrivileges=true"):
        assert f"\n{line}\n" in unit
    assert "GREETING=hello" in unit
    assert "sesame" not in unit
    shown = office.server.run(f"systemctl show {NAMES}tick.service").stdout
    assert "sesame" not in shown
    assert office.server.run("stat -c %a:%U /etc/fraisier/timers/*").stdout.split() == ["600:root"]
    found = office.server.run("grep -rl sesame /etc /var/lib /run /var/www -s || true").stdout.split()
    assert found == ["/etc/fraisier/fraises.yaml", f"/etc/fraisier/timers/{NAMES.rstrip('-')}.env"]
    assert set(office.server.run(f"stat -c %a:%U {APP}/.fraisier/timers/*").stdout.split()) == {"600:root"}


def test_a_new_release_and_a_new_schedule_replace_the_units(office):
    office.configure({"tick": TICK.replace("0/2", "1/2").replace('tick"', 'tock"'), "after": AFTER})
    told = office.fraisier("status office production --verify", check=False)
    assert (told.returncode, told.stdout.count("tick.timer is not as")) == (1, 1), told.stdout
    office.commit("two")
    office.deploy()
    assert office.fraisier("status office production --verify").returncode == 0
    office.server.run(f"systemctl stop {NAMES}tick.timer")
    told = office.fraisier("status office production --verify", check=False)
    assert (told.returncode, told.stdout.count("tick.timer is stopped")) == (1, 1), told.stdout
    office.server.run(f"systemctl start {NAMES}tick.timer")
    office.says("tock", "two")
    office.says("after", "two")
    assert office.timers() == [f"{NAMES}tick.timer"]
    assert not [name for name in office.units() if "year" in name]


def test_units_of_others_are_left_alone_and_nobody_waits_for_them(office):
    assert {f"{NAMES}foreign.service", "fraisier-office-staging-x.timer"} <= set(office.units())
    office.server.write(f"/run/systemd/system/{NAMES}hidden.service", "[Service]\nExecStart=/bin/sleep 600\n")
    office.server.run(f"systemctl daemon-reload; systemctl start {NAMES}foreign {NAMES}hidden")
    for job, place in (("foreign", "/etc/systemd/system"), ("hidden", "/run/systemd/system")):
        office.configure({"tick": TICK, job: YEARLY})
        said = office.deploy(check=False)
        assert said.returncode == 1
        assert f"there is {place}/{NAMES}{job}.service, which Fraisier did not write" in said.stderr
        assert f"{place}/{NAMES}{job}.service" in office.fraisier("doctor", check=False).stdout
    assert "/bin/sleep" in office.server.run(f"cat /etc/systemd/system/{NAMES}foreign.service").stdout
    assert office.timers() == [f"{NAMES}tick.timer"]
    office.server.run(f"systemctl is-active {NAMES}foreign {NAMES}hidden")


def test_root_itself_refuses_to_hide_a_unit_of_another_folder(office):
    bundle = (
        f"fraisier-units 1\nunit {NAMES}hidden.service\n# Written by Fraisier for office/production\n[Service]\n"
        'Type=oneshot\nUser=office\nNoNewPrivileges=true\nExecStart=/bin/sh -c "true"\n.\nend\n'
    )
    office.server.write("/srv/bundle", bundle)
    apply = "import os; from fraisier.application import units_program as p; from fraisier.domain.timer_acts import InstallUnits as I; "
    apply += "words = p.call('apply', I(name='fraisier-office-production', source='/srv/bundle', user='office', app_path='/var/www/office'))"
    done = office.server.run([PYTHON, "-c", f"{apply}; os.execv(words[0], words)"], check=False)
    assert done.returncode == 1
    assert f"it would hide /run/systemd/system/{NAMES}hidden.service" in done.stderr
    assert office.timers() == [f"{NAMES}tick.timer"]
    office.server.run(
        f"systemctl stop {NAMES}foreign {NAMES}hidden; rm /run/systemd/system/{NAMES}hidden.service"
    )
    office.server.run("systemctl daemon-reload")


def test_a_deployment_that_fails_brings_the_old_units_back(office):
    text = office.server.run(f"cat /etc/systemd/system/{NAMES}tick.service").stdout
    assert "tock" in text  # that of before: what was refused above never came
    office.configure({"tick": TICK})
    office.server.write(
        f"/etc/systemd/system/{NAMES}tick.timer.d/x.conf",
        "[Timer]\nOnCalendar=*-13-45\n[Unit]\nConditionPathExists=/nowhere\nRefuseManualStart=true\n",
    )
    said = office.deploy(check=False)
    assert said.returncode == 1, said.stdout
    office.server.run(f"rm -r /etc/systemd/system/{NAMES}tick.timer.d; systemctl daemon-reload")
    assert office.server.run(f"cat /etc/systemd/system/{NAMES}tick.service").stdout == text


def test_a_release_that_fails_its_trial_changes_nothing(office):
    office.configure({"tick": TICK})
    office.commit("broken", broken="")
    assert office.deploy(check=False).returncode == 1
    assert "tock" in office.server.run(f"cat /etc/systemd/system/{NAMES}tick.service").stdout
    office.server.run("rm /srv/work/broken")
    office.commit("mended")


def test_a_timers_run_is_called_off(office):
    office.configure({"long": '{run: "sleep 600", schedule: "*:*:0/2"}'})
    office.deploy()
    row = until(
        "a run", lambda: next((row for row in office.runs("long") if row["status"] == "running"), None)
    )
    office.fraisier(f"cancel {row['id']}")
    until("its end", lambda: _row(office, row)["status"] == "cancelled")
    # Its timer starts it again: the next deployment would wait for ten minutes.
    until("the next run", lambda: office.runs("long")[0]["status"] == "running")
    office.more = "on_running: cancel"
    office.configure({"tick": TICK})
    office.deploy()
    office.more = ""
    until("its end", lambda: office.runs("long")[0]["status"] == "cancelled")


def _row(office, row):
    """A run as it is now."""
    return next(each for each in office.runs() if each["id"] == row["id"])


def test_a_missed_run_is_caught_up_after_the_server_was_off(office):
    office.commit("three")
    began = time.monotonic()
    office.configure({"later": YEARLY})
    office.deploy()
    soon = (
        time.time() + 30 + 4 * (time.monotonic() - began)
    )  # later than this machine needs for as much again
    at = office.server.run(f"date -d @{soon:.0f} '+*-*-* %H:%M:%S'").stdout.strip()
    office.configure(
        {
            "missed": f'{{run: "cat VERSION >> /srv/said/missed", schedule: "{at}"}}',
            # Only once: a run that is caught up at boot is a part of the boot, until it has ended.
            "torn": '{run: "test -e /srv/said/torn || { touch /srv/said/torn; sleep 900; }", schedule: "*:*:0/2"}',
        }
    )
    office.deploy()
    assert f"{NAMES}missed.timer" in office.timers()
    torn = until(
        "a run", lambda: next((row for row in office.runs("torn") if row["status"] == "running"), None)
    )
    assert office.said("missed") == []
    office.server.lose_power()
    time.sleep(max(0.0, soon + 2 - time.time()))
    office.server.start()
    office.says("missed", "three")
    until("its end", lambda: _row(office, torn)["status"] == "failed")
    assert _row(office, torn)["cause"] == "interrupted"


def test_a_worker_that_is_killed_in_between_leaves_whole_units(office):
    office.configure({"tick": TICK, "later": YEARLY})
    office.commit("four")
    for _ in range(3):
        office.server.run(f"{FRAISIER} deploy office production --force --no-wait")
        until(
            "the deployment to begin",
            lambda: office.json("history office production")[0]["status"] != "pending",
        )
        office.server.run("kill -9 $(systemctl show -P MainPID fraisier)")
        until(
            "its end", lambda: office.json("history office production")[0]["status"] in ("success", "failed")
        )
    assert office.timers() == [f"{NAMES}later.timer", f"{NAMES}tick.timer"]
    office.says("tick", "four")


def test_what_a_new_schedule_would_have_begun_earlier_was_not_missed(office):
    """`Persistent=` catches up what came since the timer's stamp, by whatever schedule it has by then."""
    at = office.server.run("date -d '-1 hour' '+*-*-* %H:%M:00'").stdout.strip()
    yearly, daily = (
        f'{{run: "cat VERSION >> /srv/said/shifted", schedule: "{when}"}}' for when in ("*-01-01", at)
    )

    def deploy(**jobs):
        office.configure({"tick": TICK, **jobs})
        office.deploy()
        office.server.run(f"touch -c -d '-2 days' /var/lib/systemd/timers/stamp-{NAMES}shifted.timer")

    office.commit("shifted")
    deploy(shifted=yearly)
    deploy(shifted=daily)
    deploy()
    deploy(shifted=daily)
    office.server.run("rm -f /srv/said/tick")
    office.says("tick", "shifted")
    assert f"{NAMES}shifted.timer" in office.timers()
    assert office.said("shifted") == []


def test_jobs_that_are_gone_are_gone(office):
    office.configure({"later": YEARLY.replace("schedule:", "keeper: worker, schedule:")})
    office.deploy()
    assert office.timers() == []
    assert [name for name in office.units() if name.startswith(NAMES)] == [f"{NAMES}foreign.service"]
