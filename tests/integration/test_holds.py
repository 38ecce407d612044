"""Pauses, allowed times and promotions with real git, real workers and real processes beside them, on both stores."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fraisier.domain.errors import OnHold
from fraisier.domain.fraise import EnvironmentKey
from fraisier.wiring import SystemClock
from fraisier.worker import SLOW_POLL, Worker
from tests.integration.site import KEY, Site, until
from tests.servers.postgresql import postgresql_server, postgresql_url

__all__ = ["postgresql_server", "postgresql_url"]

STAGING = EnvironmentKey("shop", "staging")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("postgresql_url")) if request.param == "postgresql" else ""


def closing(site: Site) -> Iterator[Site]:
    yield site
    site.fraisier.store.close()


@pytest.fixture
def sweeping(tmp_path: Path, database: str) -> Iterator[Site]:
    yield from closing(Site(tmp_path, database=database, sweep=1))


def elsewhere(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    argv = [sys.executable, "-m", "fraisier", "--config", str(site.config), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def pause(site: Site) -> None:
    site.fraisier.pause(KEY, by="anna", reason="the disk is being replaced")


def status(site: Site, key: EnvironmentKey = KEY) -> dict[str, Any]:
    (row,) = site.fraisier.store.fraise_status(key.fraise, key.environment)
    return dict(row)


def test_a_sweep_s_push_waits_in_a_pause_and_begins_when_another_process_ends_it(sweeping: Site) -> None:
    site = sweeping
    with site.working():
        site.push({"VERSION": "one"})
        until("the first", lambda: site.version == "one" and not status(site)["running_deployment_id"])
        pause(site)
        site.push({"VERSION": "two"})
        until("the second to be asked for", lambda: status(site)["pending"])
        commit = site.push({"VERSION": "three"})
        until("the newest", lambda: site.fraisier.store.history(limit=1)[0]["commit"] == commit)
        assert (site.version, status(site)["pending"]) == ("one", 1)
        done = elsewhere(site, "resume", "shop", "production")
        assert done.returncode == 0, done.stderr
        until("the newest to be live", lambda: site.version == "three")
        until("its end", lambda: not status(site)["running_deployment_id"])
    statuses = {row["commit"]: row["status"] for row in site.fraisier.store.history()}
    assert statuses[commit] == "success"
    assert "superseded" in statuses.values()


def test_whoever_listens_in_another_process_is_woken(tmp_path: Path, database: str) -> None:
    site, woken = Site(tmp_path, database=database), threading.Event()
    try:
        pause(site)
        unsubscribe = site.fraisier.store.subscribe(woken.set)
        woken.clear()
        assert elsewhere(site, "resume", "shop", "production").returncode == 0
        assert woken.wait(20)
        unsubscribe()
    finally:
        site.fraisier.store.close()


def test_what_runs_goes_on_and_a_rollback_is_performed(tmp_path: Path) -> None:
    """A successor finishes what ran when the environment was paused; a person's way back does not wait."""
    hold = tmp_path / "hold"
    site = Site(tmp_path, extra=f'build: ["while test -e {hold}; do sleep 0.05; done"]')
    dies = Worker(site.fraisier)
    try:
        dies.start()
        site.push({"VERSION": "one"})
        assert site.deploy()["status"] == "success"
        hold.touch()
        site.push({"VERSION": "two"})
        running = site.request().deployment
        assert running is not None
        site.waits_in(running.id, "build")
        pause(site)
        dies.stop(0)
        assert site.fraisier.store.deployment(running.id)["status"] == "running", "handed back"
        with site.working():
            hold.unlink()
            assert site.ended(running.id)["status"] == "success"
            assert site.version == "two"
            back = site.fraisier.roll_back(KEY, by="anna").deployment
            assert back is not None
            assert site.ended(back.id)["status"] == "success"
            assert site.version == "one"
            site.push({"VERSION": "three"})
            waiting = site.request().deployment
            forced = site.request(force=True).deployment
            assert waiting is not None
            assert forced is not None
            assert site.ended(forced.id)["status"] == "success"
            assert site.fraisier.store.deployment(waiting.id)["status"] == "superseded"
    finally:
        site.fraisier.store.close()


class Ahead(SystemClock):
    """A clock that shows another time, and goes as fast as all others."""

    def __init__(self, shown: float) -> None:
        self._ahead = shown - time.time()

    def now(self) -> float:
        return time.time() + self._ahead


def test_a_worker_wakes_when_the_window_opens(tmp_path: Path, database: str) -> None:
    opening = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()
    site = Site(tmp_path, extra="allowed: mon 08:00-17:00 UTC", database=database)
    site.push({"VERSION": "one"})
    late: list[float] = []
    try:
        for _ in range(3):  # a machine that is busy may be late once, but not always
            late.append(begun_after(site, opening))
            assert late[-1] >= 0
            # The worker's first look was 2 s before the opening: its slow one would come later than this.
            if late[-1] < SLOW_POLL / 2:
                return
        pytest.fail(f"no sooner than by its slow looks: {late} s")
    finally:
        site.fraisier.store.close()


def begun_after(site: Site, opening: float) -> float:
    """Seconds between the opening and the begin of a deployment that was asked for just before it."""
    begun: list[float] = []
    site.fraisier.listener = lambda event, fields: (
        begun.append(clock.now()) if event == "deployment_claimed" else None
    )
    site.fraisier.__dict__["tools"] = replace(site.fraisier.tools, clock=Ahead(opening - 3600))
    waiting = site.request().deployment
    assert waiting is not None
    with pytest.raises(OnHold, match="until 2026-11-23 08:00 UTC"):
        site.fraisier.holds().check(waiting.id)
    clock = Ahead(opening - 2.0)
    site.fraisier.__dict__["tools"] = replace(site.fraisier.tools, clock=clock)
    with site.working():
        assert site.ended(waiting.id)["status"] == "success"
    (moment,) = begun
    return moment - opening


def test_whoever_waits_is_told_of_a_pause_that_comes_meanwhile(tmp_path: Path) -> None:
    """Also where the process that waits would perform the deployment itself."""
    site = Site(tmp_path, extra="retry_for: 1h")
    nobody = f"http://127.0.0.1:{site.port}/orders.git"
    site.config.write_text(site.config.read_text().replace(site.repository.url, nobody))
    argv = [sys.executable, "-m", "fraisier", "--config", str(site.config), "deploy", "shop", "production"]
    waits = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until("a retry", lambda: any(row["not_before"] for row in site.fraisier.store.history()))
        pause(site)
        _, told = waits.communicate(timeout=60)
        assert waits.returncode == 4, told
        assert "paused by anna" in told
        assert site.fraisier.store.live_workers() == []
        (row,) = site.fraisier.store.history()
        assert (row["status"], row["attempts"] > 0) == ("pending", True)
    finally:
        waits.kill()
        waits.wait()
        site.fraisier.store.close()


# ------------------------------------------------------------------------------------------ promote


@pytest.fixture
def two(tmp_path: Path, database: str) -> Iterator[Site]:
    """production follows main, staging its own branch; both are swept."""
    staging = f"      staging: {{branch: staging, app_path: {tmp_path}/staging, min_free_disk: 1MB}}\n"
    site = Site(tmp_path, database=database, sweep=1)
    site.config.write_text(site.config.read_text().rstrip() + "\n" + staging)
    from fraisier import wiring

    site.fraisier.configuration = wiring.load(str(site.config))
    site.fraisier.publish()
    yield from closing(site)


def test_a_promotion_deploys_what_is_healthy_and_no_sweep_undoes_it(two: Site) -> None:
    with two.working():
        base = two.push({"VERSION": "one"})
        until("production", lambda: status(two)["current_commit"] == base)
        tested = two.push({"VERSION": "two"}, branch="staging")
        newest = two.push({"VERSION": "three"}, branch="staging")
        until("staging", lambda: status(two, STAGING)["current_commit"] in (tested, newest))
        until("its end", lambda: not status(two, STAGING)["running_deployment_id"])
        shown = elsewhere(two, "promote", "shop", "staging", "production", "--dry-run")
        assert shown.returncode == 0, shown.stderr
        assert "It brings" in shown.stdout
        assert status(two, STAGING)["current_commit"][:10] in shown.stdout
        healthy = status(two, STAGING)["current_commit"]
        done = elsewhere(two, "promote", "shop", "staging", "production")
        assert done.returncode == 0, done.stdout + done.stderr
        assert status(two)["current_commit"] == healthy
        # The sweep looks where main is, and leaves it at that.
        until("a sweep", lambda: status(two)["seen_tip"] == base)
        again = elsewhere(two, "promote", "shop", "staging", "production")
        assert "runs it already" in again.stdout
        assert status(two)["current_commit"] == healthy
        later = two.push({"VERSION": "four"})
        until("the next push", lambda: status(two)["current_commit"] == later)
        back = elsewhere(two, "promote", "shop", "staging", "production", "--dry-run")
        assert "It takes away" in back.stdout
