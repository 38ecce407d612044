"""Timers on Fraisier's own machine, where it is a service without root, set up as `init --service` prints it."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass

import pytest

from tests.e2e.office import CONFIG, FRAISIER, Jobs, Office
from tests.e2e.shop import until

pytestmark = pytest.mark.servers
NAME = "fraisier-office-production"
PROGRAM = "/usr/local/lib/fraisier/fraisier-units"
TICK = '{run: "id -un >> /srv/said/tick; cat VERSION >> /srv/said/tick; echo printed; echo x > made", schedule: "*:*:0/2", artefacts: [made]}'
LONG = '{run: "sleep 600", schedule: "*:*:0/2"}'


@dataclass
class ServedOffice(Office):
    """Fraisier is the user `fraisier`, in a unit with NoNewPrivileges."""

    def set_up(self, jobs: Jobs) -> None:
        """What `fraisier init --service` says."""
        run, write = self.server.run, self.server.write
        run(
            "mkdir -p /srv/git /srv/work && git init -q --bare -b main /srv/git/office.git && git init -q -b main /srv/work"
        )
        run("git config --system --add safe.directory '*'")
        self.configure(jobs)
        printed = run(f"{FRAISIER} init --service").stdout
        titles, blocks = zip(
            *re.findall(r"^# ---- \d\. (.*?) ----\n(.*?)(?=^# ---- |\Z)", printed, re.M | re.S), strict=True
        )
        assert [title.partition(":")[0] for title in titles][-2:] == [
            "What writes the timers of jobs",
            "Start it",
        ]
        commands, unit, rule, program, start = blocks
        run(["sh", "-ec", commands])
        # The Python that tests run with may lie in /root, or in /tmp.
        run("chmod a+x /root")
        seen = unit.replace("ProtectHome=true\n", "").replace("PrivateTmp=true\n", "")
        write("/etc/systemd/system/fraisier.service", seen)
        write("/etc/polkit-1/rules.d/50-fraisier.rules", rule)
        run(["sh", "-ec", program])
        run(f"install -d -o office /srv/said; chown -R fraisier /srv/git; chown fraisier {CONFIG}")
        run(["sh", "-ec", start])

    def fraisier(self, line: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of Fraisier's, as its user."""
        return self.server.run(f"cd / && runuser -u fraisier -- {FRAISIER} {line}", check=check, timeout=120)

    def commit(self, version: str, **files: str) -> str:
        """Commit and push a version; returns the commit."""
        made = super().commit(version, **files)
        self.server.run("chown -R fraisier /srv/git")
        return made


@pytest.fixture(scope="module")
def office(server):
    made = ServedOffice(server)
    made.set_up({"tick": TICK})
    return made


def test_a_service_without_root_installs_timers_that_fire_as_the_user(office):
    office.commit("one")
    # The worker may be starting yet.
    said = office.fraisier("deploy office production --no-wait", check=False)
    until(
        "its end",
        lambda: office.json("history office production")[0]["status"] not in ("pending", "running"),
        90,
    )
    row = office.json("history office production")[0]
    assert row["status"] == "success", (said, row)
    office.says("tick", "one")
    assert set(office.said("tick")) == {"office", "one"}
    assert office.timers() == [f"{NAME}-tick.timer"]


def test_its_runs_report_in_with_what_they_printed_and_made(office):
    found = until("a run", lambda: [row for row in office.runs("tick") if row["status"] == "success"])
    assert office.output(found[0]["id"]).splitlines()[0] == "printed"
    assert [path.rpartition("/")[2] for path in json.loads(found[0]["artefacts"])] == ["made"]


def test_a_run_that_a_timer_started_is_called_off(office):
    office.configure({"long": LONG})
    office.server.run(f"chown fraisier {CONFIG}; systemctl reload fraisier")
    office.commit("two")
    office.fraisier("deploy office production --no-wait")
    row = until(
        "a run", lambda: next((row for row in office.runs("long") if row["status"] == "running"), None), 90
    )
    office.fraisier(f"cancel {row['id']}")
    until(
        "its end",
        lambda: next(each["status"] for each in office.runs() if each["id"] == row["id"]) == "cancelled",
    )


def test_it_may_do_no_more_than_the_program(office):
    """By the list: the user has no other row than its environments'."""
    done = office.server.run(f"cd / && runuser -u fraisier -- {PROGRAM} check {NAME}", check=False)
    assert done.returncode == 1
    assert "this needs root" in done.stderr
    assert office.server.run(f"{PROGRAM} names").stdout.split() == [NAME]


def test_what_leaves_the_configuration_loses_its_timers_without_root(office):
    """Root's list has it still: `init --service`, done again, would remove them, too."""
    assert office.timers() == [f"{NAME}-long.timer"]
    text = office.server.run(f"cat {CONFIG}").stdout.replace("  office:", "  bureau:", 1)
    office.server.write(CONFIG, text.replace("/var/www/office", "/var/www/bureau"), mode=0o600)
    office.server.run(f"chown fraisier {CONFIG}; systemctl reload fraisier")
    until("its timer to stop", lambda: not office.timers(), 90)
    office.server.run(f"systemctl stop {NAME}-long.service")
    until("its units to go", lambda: not office.units(), 90)
    until("its end", lambda: {row["status"] for row in office.runs("long")} == {"cancelled"})
