"""Two servers on one database, a restored older database, a clock that is set back under a deployment."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fraisier import wiring
from fraisier.database.clocks import system_clocks
from fraisier.database.sqlite import SqliteStore
from fraisier.wiring import SystemClock
from tests.integration.outside import all_ended, deployments, rows, serving
from tests.integration.site import KEY, Site

LEASE = "worker: {lease: 2s}"
HOUR = 3600.0


@contextmanager
def a_site(folder: Path, extra: str = "", head: str = LEASE) -> Iterator[Site]:
    site = Site(folder, extra=extra, head=head)
    try:
        yield site
    finally:
        site.fraisier.store.close()


def test_two_servers_on_one_database_deploy_each_push_once_and_starve_nobody(tmp_path):
    built = tmp_path / "built"
    line = f"sleep 0.2; echo $FRAISIER_RELEASE $FRAISIER_COMMIT >> {built}"
    # Nobody dies: with the lease that is the default, nobody is taken for dead on a slow machine either.
    with a_site(tmp_path, f'build: ["{line}"]', head="") as site:
        staging = f"""      staging:
        branch: dev
        app_path: {tmp_path}/staging
        min_free_disk: 1MB
        build: ["{line}"]
"""
        site.config.write_text(site.config.read_text() + staging)
        site.fraisier.configuration = wiring.load(str(site.config))
        site.fraisier.publish()
        with serving(site) as one, serving(site) as other:
            one.start()
            other.start()
            accepted, newest = set(), {}
            for number in range(10):
                branch, environment = (("main", "production"), ("dev", "staging"))[number % 2]
                commit = site.push({"VERSION": f"{number}"}, branch=branch)
                server = (one, other)[number // 2 % 2]
                status, answer = server.webhook(commit, branch)
                assert status == 202, answer
                accepted |= {each["id"] for each in answer["deployments"]}
                newest[environment] = commit
            ended = all_ended(site)
    assert accepted == {row["id"] for row in ended}
    assert {row["status"] for row in ended} <= {"success", "superseded"}
    last = {row["environment"]: row["commit"] for row in ended if row["status"] == "success"}
    assert last == newest
    attempts = rows(site, "SELECT * FROM tb_deployment_attempts")
    assert {row["outcome"] for row in attempts} == {"success"}
    assert len({row["deployment"] for row in attempts}) == len(attempts), "each was deployed once"
    commits = [entry.split()[1] for entry in built.read_text().splitlines()]
    assert len(commits) == len(set(commits)) == len(attempts)
    for environment in newest:
        one_at_a_time(site, environment)


def one_at_a_time(site: Site, environment: str) -> None:
    query = """SELECT a.* FROM tb_deployment_attempts a JOIN tb_deployments d ON d.id = a.deployment
                WHERE d.environment = ? ORDER BY a.token"""
    attempts = rows(site, query, environment)
    for before, after in pairwise(attempts):
        assert before["token"] < after["token"]
        assert before["ended_at"] <= after["started_at"]


# ----------------------------------------------------------------------------------------- an older database


def test_a_restored_older_database_reuses_no_release_of_the_host(tmp_path):
    """The host has releases that the database has forgotten, and one of another commit with the next number."""
    with a_site(tmp_path) as site:
        database, backup = tmp_path / "state" / "fraisier.db", tmp_path / "backup.db"
        with site.working():
            site.push({"VERSION": "one"})
            assert site.deploy()["status"] == "success"
        with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(backup)) as copy:
            live.backup(copy)
        with site.working():
            for version in ("two", "three"):
                site.push({"VERSION": version})
                assert site.deploy()["release"]
        site.fraisier.store.close()
        for left in database.parent.glob("fraisier.db*"):
            left.unlink()
        shutil.copy(backup, database)
        site.fraisier = wiring.assemble(site.fraisier.configuration, listener=site._listen)
        with site.working():
            refused = site.deploy()
            assert (refused["status"], refused["cause"]) == ("failed", "owner"), refused
            assert "fraisier adopt shop production" in refused["hint"]
            assert site.version == "three"
            site.fraisier.adopt(KEY, by="alice")
            row = site.deploy()
            assert row["status"] == "success", row
            assert row["release"].startswith("4-"), "the commit of release 3, in a folder of its own"
            back = site.ended(site.fraisier.roll_back(KEY, by="alice").deployment.id)
            assert (back["status"], back["release"][:2]) == ("success", "3-"), back
        markers = sorted(path.name for path in (site.app / ".fraisier" / "releases").iterdir())
        assert [name[:2] for name in markers] == ["1-", "2-", "3-", "4-"]
        for path in (site.app / ".fraisier" / "releases").iterdir():
            assert json.loads(path.read_text())["release"] == path.stem


# ---------------------------------------------------------------------------------------------- the clock


class Jumping(SystemClock):
    """The machine's clocks, one of which somebody sets."""

    ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


def test_a_clock_that_is_set_back_under_a_deployment_hurts_nothing(tmp_path):
    """By an hour, in one step after another; leases know another clock, and numbers tell what is newer."""
    clock = Jumping()
    health = 'health_check: {command: "true", interval: 0.05, timeout: 5}'
    extra = f'build: ["true"]\ndatabase: {{framework: command, up: "true"}}\n{health}'
    with a_site(tmp_path, extra) as site:
        site.fraisier.store.close()
        state = tmp_path / "state"
        clocks = replace(system_clocks(), now=clock.now)
        site.fraisier.store = SqliteStore(state / "fraisier.db", state_folder=state, clocks=clocks)
        site.fraisier.tools = replace(site.fraisier.tools, clock=clock)
        steps = ("preflight", "fetch", "build", "migrate", "activate", "check_health", "finish")
        jump = ""

        def listen(event, fields):
            if (event, fields.get("step")) == ("step_started", jump):
                clock.ahead -= HOUR

        site.fraisier.listener = listen
        with site.working() as worker:
            for step in steps:
                jump = step
                site.push({"VERSION": step})
                row = site.deploy()
                assert (row["status"], site.version) == ("success", step), row
                assert row["duration_seconds"] >= 0
            assert worker.alive
            assert site.fraisier.store.live_workers()
        assert clock.ahead == -HOUR * len(steps)
        journal = rows(site, "SELECT duration FROM tb_deployment_steps")
        assert all(each["duration"] >= 0 for each in journal)
        newest = [row["release"] for row in site.fraisier.store.history()]
        assert [int(name.partition("-")[0]) for name in newest] == list(range(len(steps), 0, -1))
        assert all(row["average_duration_seconds"] >= 0 for row in site.fraisier.store.stats(days=0))
        assert len(deployments(site)) == len(steps)
