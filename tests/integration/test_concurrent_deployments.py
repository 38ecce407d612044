"""Several workers, several environments, many wishes: one at a time per environment, latest wins."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from itertools import count, pairwise
from typing import Any

import pytest

from fraisier import wiring
from fraisier.domain.deployment import Trigger
from fraisier.domain.errors import StoreUnavailable
from fraisier.worker import Worker
from tests.integration.site import Site, until
from tests.processes import alive


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path, extra='build: ["sleep 0.3"]', head="worker: {lease: 2s}")
    yield made
    made.fraisier.store.close()


def reconfigured(site: Site, lines: str) -> None:
    site.write_config(lines, "worker: {lease: 2s}")
    site.fraisier.configuration = wiring.load(str(site.config))
    site.fraisier.publish()


def worker_process(site: Site) -> subprocess.Popen[bytes]:
    """`fraisier worker` as a process of its own."""
    log = (site.folder / "worker.log").open("ab")
    argv = [sys.executable, "-m", "fraisier", "--config", str(site.config), "worker"]
    started = subprocess.Popen(argv, stdout=log, stderr=log)
    until("the worker", lambda: site.fraisier.store.live_workers(), 20)
    return started


def test_five_pushes_in_a_row_are_not_five_deployments_one_after_another(site, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    reconfigured(site, f'build: ["while test -e {hold}; do sleep 0.05; done"]')
    commits = [site.push({"VERSION": str(n)}) for n in range(5)]
    first = site.request(commit=commits[0], ref="main", trigger=Trigger.webhook).deployment.id
    with site.working():
        site.waits_in(first, "build")
        later = [
            site.request(commit=commit, ref="main", trigger=Trigger.webhook).deployment.id
            for commit in commits[1:]
        ]
        hold.unlink()
        rows = [site.ended(each) for each in (first, *later)]
    assert [row["status"] for row in rows] == ["success", *["superseded"] * 3, "success"]
    assert site.version == "4"


def test_two_workers_never_deploy_to_one_environment_at_once(site):
    ids = []
    with site.working(), site.working():
        for number in range(4):
            commit = site.push({"VERSION": str(number)})
            ids.append(site.request(commit=commit).deployment.id)
        rows = [site.ended(each) for each in ids]
    assert {row["status"] for row in rows} == {"success"}
    spans = sorted((row["started_at"], row["completed_at"]) for row in rows)
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), spans


def test_a_killed_worker_is_succeeded_by_another_and_its_build_is_ended(site, tmp_path):
    note = tmp_path / "pid"
    reconfigured(site, f'build: ["test -e {note} || {{ echo $$ > {note}; sleep 300; }}"]')
    first = worker_process(site)
    site.push({"VERSION": "one"})
    deployment = site.request().deployment.id
    until("the build", lambda: note.exists() and note.read_text().strip())
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with site.working():
        row = site.ended(deployment, 40)
    assert row["status"] == "success", row
    build = int(note.read_text())
    until("the end of the dead worker's build", lambda: not alive(build))
    assert row["attempts"] == 2


def test_a_paused_worker_that_wakes_up_touches_nothing(site, tmp_path):
    note = tmp_path / "paused"
    reconfigured(site, f'build: ["test -e {note} || {{ touch {note}; sleep 300; }}"]')
    first = worker_process(site)
    try:
        site.push({"VERSION": "one"})
        deployment = site.request().deployment.id
        until("the build", note.exists)
        os.kill(first.pid, signal.SIGSTOP)
        with site.working():
            row = site.ended(deployment, 40)
            assert row["status"] == "success", row
            steps = len(site.fraisier.store.steps(deployment))
            os.kill(first.pid, signal.SIGCONT)
            second = site.request().deployment.id
            assert site.ended(second)["status"] == "success"
            assert len(site.fraisier.store.steps(deployment)) == steps
    finally:
        first.terminate()
        first.wait(20)


def test_a_worker_stops_although_somebody_sits_on_the_environments_lock(site):
    site.push({"VERSION": "one"})
    with site.working() as worker:
        site.deploy()
        with (site.app / ".fraisier" / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = site.request().deployment.id
            site.waits_in(waiting, "preflight")
            worker.stop(0)
            assert site.fraisier.store.deployment(waiting)["status"] == "running"
    with site.working():
        assert site.ended(waiting)["status"] == "success"


def test_a_command_that_performs_outlives_a_store_that_is_away_for_a_moment(site, monkeypatch):
    site.push({"VERSION": "one"})
    wanted = site.request().deployment.id
    store, asked = site.fraisier.store, count()
    real = store.deployment

    def sometimes(deployment: str) -> Any:
        if next(asked) in range(1, 5):
            raise StoreUnavailable("cannot read: the server is away")
        return real(deployment)

    monkeypatch.setattr(store, "deployment", sometimes)
    monkeypatch.setattr("fraisier.worker.SLOW_POLL", 0.05)
    Worker(site.fraisier).perform(wanted)
    assert real(wanted)["status"] == "success"


def test_a_terminated_worker_hands_its_deployment_over(site):
    site.push({"VERSION": "one"})
    first = worker_process(site)
    deployment = site.request().deployment.id
    site.waits_in(deployment, "build")
    first.terminate()
    assert first.wait(20) == 0
    with site.working():
        assert site.ended(deployment)["status"] == "success"


def test_cancel_and_end_race_without_a_lost_deployment(site):
    site.write_config("")
    from fraisier import wiring

    site.fraisier.configuration = wiring.load(str(site.config))
    site.fraisier.publish()
    site.push({"VERSION": "one"})
    with site.working():
        for _ in range(6):
            deployment = site.request().deployment.id
            canceller = threading.Thread(target=cancel_if_possible, args=(site, deployment))
            canceller.start()
            row = site.ended(deployment)
            canceller.join()
            assert row["status"] in ("success", "cancelled", "rolled_back", "failed"), row


def cancel_if_possible(site: Site, deployment: str) -> None:
    from fraisier.domain.errors import Conflict

    try:
        site.fraisier.cancel(deployment, by="bob")
    except Conflict:
        return
