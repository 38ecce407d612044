"""Units of what is deployed no more, on real systemd: gone without a person's hand, and no run is ended by it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.e2e.office import CONFIG, Jobs, Office
from tests.e2e.shop import until

pytestmark = pytest.mark.servers
NAMES = "fraisier-office-production-"
TICK = '{run: "cat VERSION >> /srv/said/tick", schedule: "*:*:0/2", keeper: systemd}'
LONG = (
    '{run: "echo begun >> /srv/said/long; until test -e /srv/said/go; do sleep 0.1; done; echo ended >> /srv/said/long",'
    ' on_success: "echo told >> /srv/said/long", schedule: "*:*:0/2", keeper: systemd}'
)
SPARE = """
  spare:
    type: api
    repository: acme/spare
    clone_url: /srv/git/office.git
    environments: {production: {branch: main, app_path: /var/www/spare}}
"""


@dataclass
class LeavingOffice(Office):
    """An office whose fraise has a type, and may leave the configuration: '' = it has."""

    kind: str = "etl"

    def configure(self, jobs: Jobs) -> None:
        """Write the configuration; whoever runs reads it again."""
        super().configure(jobs)
        text = self.server.run(f"cat {CONFIG}").stdout.replace("type: scheduled", f"type: {self.kind}")
        head, _, _ = text.partition("  office:\n")
        self.server.write(CONFIG, (text if self.kind else head) + SPARE, mode=0o600)
        self.server.run("systemctl kill -s HUP --kill-who=main fraisier 2>/dev/null || true")


@pytest.fixture(scope="module")
def office(server):
    made = LeavingOffice(server)
    made.set_up({"tick": TICK})
    made.server.write(
        f"/etc/systemd/system/{NAMES}foreign.service", "[Service]\nExecStart=/bin/sleep infinity\n"
    )
    made.server.run(f"systemctl daemon-reload; systemctl start {NAMES}foreign")
    made.commit("one")
    return made


def ours(office):
    return [name for name in office.units() if "foreign" not in name]


def test_a_pipelines_timer_goes_with_the_deployment_that_gives_it_to_the_worker(office):
    office.deploy()
    office.says("tick", "one")
    assert office.timers() == [f"{NAMES}tick.timer"]
    office.configure({"tick": TICK.replace("keeper: systemd", "keeper: worker").replace("*:*:0/2", "yearly")})
    told = office.fraisier("status office production --verify", check=False)
    assert (told.returncode, told.stdout.count("tick.timer is not as")) == (1, 1), told.stdout
    office.deploy()
    assert (office.timers(), ours(office)) == ([], [])
    enabled = office.server.run("ls /etc/systemd/system/timers.target.wants 2>/dev/null || true").stdout
    assert "fraisier" not in enabled
    assert office.fraisier("status office production --verify").returncode == 0


def test_what_leaves_the_configuration_as_it_runs_ends_by_itself_and_then_its_units_go(office):
    office.configure({"long": LONG})
    office.deploy()
    office.says("long", "begun")
    office.kind = ""
    office.configure({})
    until("its timer to stop", lambda: not office.timers())
    state = office.server.run(f"systemctl is-active {NAMES}long.service", check=False).stdout
    assert state.strip() == "activating"
    until("its run", lambda: [row["status"] for row in office.runs("long")] == ["running"])
    office.server.run("touch /srv/said/go")
    until("its end", lambda: [row["status"] for row in office.runs("long")] == ["success"])
    until("its units to go", lambda: not ours(office))
    assert office.said("long") == ["begun", "ended", "told"]
    assert "sesame" not in office.server.run("cat /etc/fraisier/timers/* 2>/dev/null || true").stdout
    office.server.run(f"systemctl is-active {NAMES}foreign")
    assert f"{NAMES}foreign.service" in office.units()
    assert office.server.run("ls /var/www/office/reports").stdout == ""


def test_a_run_of_a_job_that_is_removed_as_it_runs_is_told_with_what_it_printed(office):
    office.server.run("rm -f /srv/said/*")
    office.kind, office.more = "scheduled", "on_running: new_release_next"
    line = "echo begun >> /srv/said/gone; until test -e /srv/said/go; do sleep 0.1; done; echo the end"
    office.configure({"gone": f'{{run: "{line}", schedule: "*:*:0/2"}}'})
    office.deploy()
    office.says("gone", "begun")
    office.configure({"later": TICK.replace("*:*:0/2", "yearly")})
    office.deploy()
    assert f"{NAMES}gone.service" not in office.units()
    office.server.run("touch /srv/said/go")
    (run,) = until("its end", lambda: [row for row in office.runs("gone") if row["status"] == "success"])
    assert office.output(run["id"]) == "the end\n"
    office.more = ""


def test_what_comes_back_is_deployed_as_ever(office):
    office.server.run("rm -f /srv/said/*")
    office.kind = "scheduled"
    office.configure({"tick": TICK})
    office.commit("two")
    office.deploy()
    office.says("tick", "two")


def test_timers_go_with_the_type_that_had_them(office):
    office.kind = "etl"
    office.configure({"tick": TICK})
    office.deploy()
    text = office.server.run(f"cat {CONFIG}").stdout
    head, _, tail = text.partition("        smoke:")
    api = head.replace("type: etl", "type: api") + tail[tail.index("\n  spare:") :]
    office.server.write(CONFIG, api, mode=0o600)
    office.server.run("systemctl kill -s HUP --kill-who=main fraisier")
    office.deploy()
    until("its units to go", lambda: not ours(office))
    assert office.timers() == []
