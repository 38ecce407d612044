"""What changes under a running Fraisier: its configuration, its own version, its pace and its clock."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fraisier
from tests.integration.outside import Serve, all_ended, deployments, rows, serving
from tests.integration.site import KEY, Site, until

LEASE = "worker: {lease: 2s, shutdown_grace: 1s}"


@contextmanager
def a_site(folder: Path, extra: str = "", head: str = LEASE) -> Iterator[Site]:
    made = Site(folder, extra=extra, head=head)
    try:
        yield made
    finally:
        made.fraisier.store.close()


def held(folder: Path, step: str = "build") -> str:
    """Lines of an environment whose build (or migration) waits until `hold` is gone."""
    line = (
        f"touch {folder}/began; while test -e {folder}/hold; do sleep 0.05; done; echo done >> {folder}/done"
    )
    (folder / "hold").touch()
    if step == "migrate":
        return f'database: {{framework: command, up: "{line}"}}'
    return f'build: ["{line}"]'


def begun(folder: Path) -> None:
    until("the step", (folder / "began").exists)


def delivered(serve: Serve, site: Site, version: str) -> str:
    status, answer = serve.webhook(site.push({"VERSION": version}))
    assert status == 202, answer
    return str(answer["deployments"][0]["id"])


# ------------------------------------------------------------------------------------------------- reload


def test_a_reload_in_a_deployment_lets_it_finish_and_counts_for_the_next(tmp_path):
    with a_site(tmp_path, held(tmp_path)) as site, serving(site) as serve:
        serve.start()
        delivered(serve, site, "one")
        begun(tmp_path)
        site.write_config('build: ["echo new > built-by"]', LEASE)
        before = rows(site, "SELECT digest FROM tb_installation")
        os.kill(serve.pid, signal.SIGHUP)
        until("the new digest", lambda: rows(site, "SELECT digest FROM tb_installation") != before)
        (tmp_path / "hold").unlink()
        all_ended(site)
        assert (site.version, (site.app / "current/built-by").exists()) == ("one", False)
        delivered(serve, site, "two")
        all_ended(site)
        assert (site.version, (site.app / "current/built-by").exists()) == ("two", True)
        assert {row["status"] for row in deployments(site)} == {"success"}


def test_an_invalid_file_keeps_the_old_configuration_and_shows(tmp_path):
    with a_site(tmp_path) as site, serving(site) as serve:
        serve.start()
        good = site.config.read_text()
        site.config.write_text(good.replace("app_path", "app_pth"))
        os.kill(serve.pid, signal.SIGHUP)
        status, document = until("the refusal", lambda: (found := serve.get("/ready"))[0] == 503 and found)
        assert "app_pth" in json.dumps(document)
        delivered(serve, site, "one")
        assert [row["status"] for row in all_ended(site)] == ["success"], "it works on with the old one"
        site.config.write_text(good)
        os.kill(serve.pid, signal.SIGHUP)
        until("serve to be ready", lambda: serve.get("/ready")[0] == 200)
        assert status == 503


@pytest.mark.parametrize("when", ["pending", "running", "interrupted"])
def test_an_environment_that_is_removed_leaves_nothing_in_limbo(tmp_path, when):
    with a_site(tmp_path, held(tmp_path)) as site, serving(site) as serve:
        serve.start()
        delivered(serve, site, "one")
        begun(tmp_path)
        second = delivered(serve, site, "two") if when == "pending" else ""
        site.config.write_text(site.config.read_text().replace("production:", "staging:"))
        if when == "interrupted":
            serve.kill()
            serve.start()
        else:
            os.kill(serve.pid, signal.SIGHUP)
            until(
                "the change",
                lambda: (
                    not rows(site, "SELECT 1 FROM tb_environments WHERE name = 'production' AND published")
                ),
            )
            (tmp_path / "hold").unlink()
        ended = {row["id"]: row for row in all_ended(site, 40)}
        assert all(row["status"] in ("success", "failed") for row in ended.values())
        if second:
            assert "production" in ended[second]["error_message"]
            assert ended[second]["hint"]


def test_of_two_configurations_only_the_published_one_is_worked_with(tmp_path):
    with a_site(tmp_path) as site, serving(site) as serve:
        serve.start()
        site.write_config('build: ["echo by-the-second > built-by"]', LEASE)
        with serving(site, command=("worker",)) as second:
            second.start(ready=False)
            until("the first to step back", lambda: serve.get("/ready")[0] == 503)
            assert "SIGHUP" in json.dumps(serve.get("/ready")[1])
            delivered(serve, site, "one")
            all_ended(site)
            assert (site.app / "current/built-by").read_text().strip() == "by-the-second"
            os.kill(serve.pid, signal.SIGHUP)
            until("the first to agree", lambda: serve.get("/ready")[0] == 200)


# ------------------------------------------------------------------------------------------------ upgrade


def test_a_worker_that_sees_another_version_of_itself_stops_claiming(tmp_path):
    """A copy of the package is what runs, so that it can be upgraded under it."""
    root = Path(fraisier.__file__).parent.parent
    copy = tmp_path / "installed"
    shutil.copytree(root / "fraisier", copy / "fraisier", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "db", copy / "db")
    with a_site(tmp_path) as site, serving(site) as serve:
        serve.start(env={"PYTHONPATH": str(copy)})
        delivered(serve, site, "one")
        all_ended(site)
        init = copy / "fraisier" / "__init__.py"
        text = init.read_text()
        init.write_text(re.sub(r'__version__ = "[^"]+"', '__version__ = "99.0.0"', text))
        waiting = delivered(serve, site, "two")
        status, document = until("a word", lambda: (found := serve.get("/ready"))[0] == 503 and found)
        assert (status, "restart" in document["worker"]) == (503, True), document
        time.sleep(0.5)
        assert serve.get("/health")[0] == 200
        assert {row["id"]: row["status"] for row in deployments(site)}[waiting] == "pending"
        serve.kill(signal.SIGTERM)
        init.write_text(text)
        serve.start(env={"PYTHONPATH": str(copy)})
        assert all_ended(site)[-1]["status"] == "success"
        assert site.version == "two"


# ----------------------------------------------------------------------------------------- what runs short


def test_a_deployment_whose_thread_cannot_be_started_is_taken_again(tmp_path, monkeypatch):
    start, refused = threading.Thread.start, []

    def short_of_threads(thread):
        if thread.name.startswith("deploy-") and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    with a_site(tmp_path) as site:
        site.push({"VERSION": "one"})
        monkeypatch.setattr(threading.Thread, "start", short_of_threads)
        with site.working():
            assert site.deploy()["status"] == "success"
        assert refused


def test_a_log_on_a_full_disk_holds_up_neither_pushes_nor_deployments(tmp_path):
    with a_site(tmp_path) as site, serving(site) as serve:
        serve.log = Path("/dev/full")
        serve.start()
        delivered(serve, site, "one")
        assert [row["status"] for row in all_ended(site)] == ["success"]


# ------------------------------------------------------------------------------------------------- signals


def test_a_worker_that_is_paused_in_a_migration_and_wakes_up_changes_nothing(tmp_path):
    with a_site(tmp_path, held(tmp_path, "migrate")) as site, serving(site) as serve:
        serve.start()
        deployment = delivered(serve, site, "one")
        begun(tmp_path)
        os.kill(serve.pid, signal.SIGSTOP)
        with site.working():
            row = site.ended(deployment, 40)
            assert (row["status"], row["cause"]) == ("failed", "migration_interrupted"), row
            assert "between" in row["error_message"]
            journal = rows(site, "SELECT * FROM tb_deployment_steps")
            (tmp_path / "hold").unlink()
            os.kill(serve.pid, signal.SIGCONT)
            until("its word", lambda: b"deployment lost" in serve.log.read_bytes())
            assert rows(site, "SELECT * FROM tb_deployment_steps") == journal
        assert not (tmp_path / "done").exists(), "the interrupted migration was ended, not finished"
        assert not (site.app / "current").exists()


def test_a_lock_that_a_paused_worker_holds_delays_the_takeover_and_loses_nothing(tmp_path):
    """A lock of the kernel's cannot be broken; whoever waits for it goes on as soon as it is free."""
    holder = f"import fcntl, time; f = open('{tmp_path}/app/.fraisier/lock'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(600)"
    with a_site(tmp_path) as site, site.working():
        site.push({"VERSION": "one"})
        assert site.deploy()["status"] == "success"
        paused = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE)
        try:
            assert paused.stdout is not None
            paused.stdout.readline()
            os.kill(paused.pid, signal.SIGSTOP)
            site.push({"VERSION": "two"})
            deployment = site.request().deployment.id
            site.waits_in(deployment, "preflight")
            time.sleep(3)
            assert site.fraisier.store.deployment(deployment)["status"] == "running"
        finally:
            paused.kill()
            paused.wait()
        assert site.ended(deployment)["status"] == "success"


@pytest.mark.parametrize("step", ["build", "migrate"])
def test_a_term_ends_soon_and_the_next_process_goes_on(tmp_path, step):
    with a_site(tmp_path, held(tmp_path, step)) as site, serving(site) as serve:
        serve.start()
        deployment = delivered(serve, site, "one")
        begun(tmp_path)
        started = time.monotonic()
        assert serve.kill(signal.SIGTERM) == 0
        assert time.monotonic() - started < 15
        (tmp_path / "hold").unlink()
        serve.start()
        (row,) = all_ended(site)
        assert row["id"] == deployment
        wanted = ("success", None) if step == "build" else ("failed", "migration_interrupted")
        assert (row["status"], row["cause"]) == wanted, row


def test_ctrl_c_cancels_what_deploy_performs_itself(tmp_path):
    with a_site(tmp_path, held(tmp_path)) as site:
        site.push({"VERSION": "one"})
        with serving(site, command=("deploy", "shop", "production")) as deploy:
            deploy.start(ready=False)
            begun(tmp_path)
            assert deploy.kill(signal.SIGINT) == 130
        (row,) = deployments(site)
        assert (row["status"], row["cause"]) == ("cancelled", "cancelled"), row


def test_a_second_ctrl_c_leaves_at_once_and_the_next_worker_ends_the_rest(tmp_path):
    with a_site(tmp_path, held(tmp_path)) as site:
        site.push({"VERSION": "one"})
        with serving(site, command=("deploy", "shop", "production")) as deploy:
            deploy.start(ready=False)
            begun(tmp_path)
            assert deploy.process is not None
            for _ in range(2):
                deploy.process.send_signal(signal.SIGINT)
                time.sleep(0.15)
            deploy.process.wait(20)
        with site.working():
            (row,) = all_ended(site)
        assert row["status"] == "cancelled", row


def test_ctrl_c_leaves_a_workers_deployment_alone(tmp_path):
    with a_site(tmp_path, held(tmp_path)) as site, site.working():
        site.push({"VERSION": "one"})
        with serving(site, command=("deploy", "shop", "production")) as deploy:
            deploy.start(ready=False)
            begun(tmp_path)
            assert deploy.kill(signal.SIGINT) == 130
        (tmp_path / "hold").unlink()
        assert [row["status"] for row in all_ended(site)] == ["success"]


def test_a_rollback_stops_a_build_but_waits_for_a_migration(tmp_path):
    for step, wanted in (("build", "cancelled"), ("migrate", "success")):
        folder = tmp_path / step
        folder.mkdir()
        with a_site(folder) as site, site.working():
            for version in ("one", "two"):
                site.push({"VERSION": version})
                assert site.deploy()["status"] == "success"
            site.write_config(held(folder, step), LEASE)
            from fraisier import wiring

            site.fraisier.configuration = wiring.load(str(site.config))
            site.fraisier.publish()
            site.push({"VERSION": "three"})
            third = site.request().deployment.id
            begun(folder)
            back = site.fraisier.roll_back(KEY, by="bob").deployment.id
            if step == "migrate":
                (folder / "hold").unlink()
            assert site.ended(third)["status"] == wanted, step
            assert site.ended(back)["status"] == "success"
            assert site.version == "one"


# --------------------------------------------------------------------------------------------------- clock


def test_a_clock_that_is_set_back_makes_no_time_negative_and_no_release_older(tmp_path, monkeypatch):
    with a_site(tmp_path) as site:
        real = time.time
        for version, ahead in (("one", 86400.0), ("two", 0.0), ("three", -86400.0)):
            monkeypatch.setattr(time, "time", lambda ahead=ahead: real() + ahead)
            site.fraisier.store.close()
            site.fraisier = type(site.fraisier)(*reopened(site))
            with site.working():
                site.push({"VERSION": version})
                assert site.deploy()["status"] == "success"
        with site.working():
            row = site.ended(site.fraisier.roll_back(KEY, by="bob").deployment.id)
        assert (row["status"], site.version) == ("success", "two")
        assert all(each["duration"] >= 0 for each in deployments(site))


def reopened(site: Site):
    from fraisier import wiring

    configuration = site.fraisier.configuration
    return configuration, wiring.open_store(configuration), site._listen
