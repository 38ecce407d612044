"""Two machines on one PostgreSQL, as far as one machine can show it: each process is bound to its own folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.integration.outside import Serve, serving
from tests.integration.site import Site, until
from tests.servers.postgresql import postgresql_server, postgresql_url

__all__ = ["postgresql_server", "postgresql_url"]

LEASE = 2  # seconds
LACK = "no live worker has the labels [web1]"
HEAD = f"worker: {{lease: {LEASE}}}"
ON_WEB2 = """
      reports:
        branch: main
        labels: web2
        app_path: {folder}/reports
        min_free_disk: 1MB
"""
_ATTEMPTS = """
SELECT d.environment, d.status, a.worker FROM tb_deployment_attempts a
  JOIN tb_deployments d ON d.id = a.deployment ORDER BY a.pk
"""
_OPEN = "SELECT count(*) AS n FROM tb_deployments WHERE status IN ('pending', 'running')"
_TOKEN = "SELECT token AS n FROM tb_environments WHERE name = 'production'"
_LIVING = "SELECT count(*) AS n FROM tb_workers WHERE alive_until > clock_timestamp()"


class Machines:
    """web1 with a worker for production, web2 with a receiver and worker for reports."""

    def __init__(self, site: Site, web1: Serve, web2: Serve) -> None:
        self.site, self.web1, self.web2 = site, web1, web2

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.site.database, row_factory=dict_row) as connection:
            return connection.execute(sql.encode()).fetchall()

    def count(self, sql: str) -> int:
        (row,) = self.rows(sql)
        return int(row["n"])

    def performed(self) -> set[tuple[str, str]]:
        """Who made an attempt where."""
        pids = {f"-{machine.pid}-": name for name, machine in (("web1", self.web1), ("web2", self.web2))}
        return {
            (row["environment"], next((name for pid, name in pids.items() if pid in row["worker"]), "?"))
            for row in self.rows(_ATTEMPTS)
        }

    def push(self, version: str) -> None:
        """One push, which both environments follow."""
        status, answer = self.web2.webhook(self.site.push({"VERSION": version}))
        assert (status, len(answer["deployments"])) == (202, 2)

    def version(self, name: str) -> str:
        path = self.site.folder / name / "current" / "VERSION"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def machines(tmp_path: Path, postgresql_url: str) -> Iterator[Machines]:
    gate = tmp_path / "closed"
    build = f'labels: [web1]\nbuild: ["while [ -e {gate} ]; do sleep 0.05; done"]'
    site = Site(tmp_path, extra=build, head=HEAD, database=postgresql_url)
    site.config.write_text(site.config.read_text() + ON_WEB2.format(folder=tmp_path))
    with ExitStack() as stack:
        stack.callback(gate.unlink, missing_ok=True)
        stack.callback(site.fraisier.store.close)
        web1 = stack.enter_context(serving(site, command=("worker", "--label", "web1")))
        web2 = stack.enter_context(serving(site, command=("serve", "--label", "web2")))
        found = Machines(site, web1, web2)
        web2.command = (*web2.command, "--port", str(web2.port))
        web1.start(ready=False)
        web2.start()
        until("both workers", lambda: found.count(_LIVING) == 2)
        yield found


def test_each_machine_deploys_what_lives_there_and_nothing_else(machines: Machines) -> None:
    for version in ("1", "2", "3"):
        machines.push(version)
        until("both to end", lambda: machines.count(_OPEN) == 0)
        assert (machines.version("app"), machines.version("reports")) == (version, version)
    assert machines.performed() == {("production", "web1"), ("reports", "web2")}


def test_what_a_dead_machine_had_begun_waits_for_it_and_says_so(machines: Machines) -> None:
    gate = machines.site.folder / "closed"
    gate.touch()
    machines.push("1")
    until("the build", lambda: any(e == "production" for e, _ in machines.performed()))
    machines.web1.kill()
    until("the lease to end", lambda: machines.count(_LIVING) == 1)
    gate.unlink()
    machines.push("2")  # what waits behind it does so, too
    until("reports", lambda: machines.version("reports") == "2")

    status, ready = machines.web2.get("/ready")
    assert (status, ready["status"]) == (200, "degraded")
    assert ready["deployments"] == f"shop/production waits: {LACK}"
    assert LACK in " ".join(machines.web2.cli("status").stdout.split())
    refused = machines.web2.cli("deploy", "shop", "production")
    assert (refused.returncode, LACK in refused.stderr) == (4, True)
    assert machines.web2.cli("doctor", "--offline").returncode == 1
    assert machines.performed() == {("production", "web1"), ("reports", "web2")}
    assert machines.count(_TOKEN) == 1, "nobody else has even claimed it"
    assert machines.version("app") == ""

    machines.web1.start(ready=False)
    until("production", lambda: machines.version("app") == "2")
    until("all to end", lambda: machines.count(_OPEN) == 0)
    assert ("production", "web2") not in machines.performed()
    assert machines.web2.get("/ready")[1]["deployments"] == "ok"
