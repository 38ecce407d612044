"""A worker is paused at any moment of a deployment, replaced, and woken up: it changes nothing any more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.outside import processes_below, rows
from tests.integration.site import Site, service, until

LEASE = "worker: {lease: 1s}"
FILES_ONLY = 'health_check: {command: "test -e VERSION", interval: 0.05, timeout: 5}\nshared: [log/]'
MOMENTS = [
    ("preflight", "begins"),
    ("preflight", "adopt"),
    ("fetch", "begins"),
    ("fetch", "ended"),
    ("prepare", "begins"),
    ("prepare", "guard"),
    ("prepare", "unpack"),
    ("activate", "guard"),
    ("restart", "guard"),
    ("check_health", "begins"),
    ("finish", "guard"),
    ("finish", "ended"),
]
TABLES = [
    "deployments",
    "deployment_attempts",
    "deployment_steps",
    "step_output",
    "environments",
    "audit_log",
]

# The process itself has to be our child. Where there is no setpriv it outlives only a run that is killed.
BOUND = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()


@dataclass
class Paused:
    """A site whose deployment `deployment` a stopped process has begun."""

    site: Site
    deployment: str
    process: subprocess.Popen[bytes]
    log: Path

    def is_stopped(self) -> bool:
        """Whether it sleeps, as proc(5) tells."""
        state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def wakes_up(self) -> None:
        """Let it go on, until it has noticed."""
        self.process.send_signal(signal.SIGCONT)
        until("its word", lambda: "deployment_lost" in self.log.read_text())


def paused_in(folder: Path, step: str, moment: str, stack: ExitStack) -> Paused:
    """Begin a deployment in a process that stops there."""
    supervised = step == "restart"
    site = Site(folder, extra="" if supervised else FILES_ONLY, head=LEASE, supervised=supervised)
    stack.callback(site.fraisier.store.close)
    if supervised:
        stack.enter_context(site.supervising())
    site.push({**service("two"), "large": "x" * 2_000_000})
    requested = site.request().deployment
    assert requested is not None
    log = folder / "paused.log"
    argv = [
        *BOUND,
        sys.executable,
        "-m",
        "tests.integration.pausing_worker",
        str(site.config),
        step,
        moment,
    ]
    with log.open("wb") as written:
        process = subprocess.Popen(argv, stdout=written, stderr=written)
    stack.callback(process.wait, 10)
    stack.callback(process.kill)
    return Paused(site, requested.id, process, log)


@pytest.fixture(scope="module")
def paused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Paused]]:
    """All of them at once: most of the time they only start, or wait for a lease."""
    with ExitStack() as stack:
        folders = {moment: tmp_path_factory.mktemp("-".join(moment)) for moment in MOMENTS}
        yield {moment: paused_in(folder, *moment, stack) for moment, folder in folders.items()}


def on_host(site: Site) -> dict[str, Any]:
    """Every file of the environment: its kind, size, time and where it leads."""
    found: dict[str, Any] = {}
    for folder, _, files in os.walk(site.app):
        for path in map(Path(folder).joinpath, ("", *files)):
            stat = path.lstat()
            to = path.readlink() if path.is_symlink() else ""
            found[str(path)] = (stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns, to)
    return found


def in_database(site: Site) -> dict[str, Any]:
    """What is told of deployments; a worker's signs of life are its own matter."""
    return {table: rows(site, f"SELECT * FROM tb_{table} ORDER BY 1") for table in TABLES}


@pytest.mark.parametrize("moment", MOMENTS, ids="-".join)
def test_a_worker_that_wakes_up_after_it_was_replaced_changes_nothing(paused, moment):
    case = paused[moment]
    site = case.site
    until("the pause", case.is_stopped)
    (attempt,) = rows(site, "SELECT * FROM tb_deployment_attempts")
    with site.working() as successor:
        row = site.ended(case.deployment)
        assert row["status"] == "success", row
        assert attempt["worker"] != successor.id
        before = (in_database(site), on_host(site), site.answer() if site.supervised else None)
        case.wakes_up()
        assert in_database(site) == before[0]
        assert on_host(site) == before[1]
        assert (site.answer() if site.supervised else None) == before[2]
    assert site.version == "two"
    assert not [each for each in processes_below(site.app) if "service.py" not in each]
