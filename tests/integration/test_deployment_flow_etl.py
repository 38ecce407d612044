"""Pipelines: deployed and run with real git, a real worker and real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fraisier import wiring
from fraisier.domain.run import RunStatus
from tests.integration.site import KEY, Site, until
from tests.processes import alive

JOB = "command: sh ./load.sh\nparameters: {day: today}"


class Pipeline(Site):
    """An etl fraise; `load.sh` is what it runs."""

    def write_config(self, extra: str = "", head: str = "") -> None:
        super().write_config(extra or JOB, head)
        self.config.write_text(self.config.read_text().replace("type: api", "type: etl"))

    def configure(self, lines: str) -> None:
        self.write_config(lines)
        self.fraisier.configuration = wiring.load(str(self.config))
        self.fraisier.publish()

    def load(self, script: str, **files: str) -> dict[str, Any]:
        """Push a pipeline, and deploy it."""
        self.push({"load.sh": script, "VERSION": script, **files})
        row = self.deploy()
        assert row["status"] == "success", row
        return row

    def ask(self, **parameters: str) -> str:
        return str(self.fraisier.request_run(KEY, parameters=parameters, by="anna")["id"])

    def run(self, **parameters: str) -> dict[str, Any]:
        return self.run_ended(self.ask(**parameters))

    def run_ended(self, run: str) -> dict[str, Any]:
        store = self.fraisier.store

        def look() -> dict[str, Any] | None:
            row = store.run(run)
            return dict(row) if RunStatus(row["status"]).is_final else None

        return until(f"the end of run {run}", look, 30.0)  # type: ignore[no-any-return]

    def running(self, run: str) -> None:
        """Return when the run's script has begun."""
        until("the run", lambda: "begun" in self.said(run))

    def said(self, run: str) -> str:
        return "".join(text for _, text in self.fraisier.store.run_output(run))


@contextmanager
def pipeline(folder: Path, lines: str = "") -> Iterator[Pipeline]:
    site = Pipeline(folder)
    try:
        if lines:
            site.configure(lines)
        yield site
    finally:
        site.fraisier.store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Pipeline]:
    with pipeline(tmp_path) as made, made.working():
        yield made


def test_a_pipeline_is_deployed_and_not_run_until_somebody_asks(site: Pipeline) -> None:
    deployed = site.load('echo "rows of $FRAISIER_PARAM_DAY from $FRAISIER_RELEASE"; pwd -P')
    assert site.fraisier.store.runs() == []
    row = site.run(day="monday $(touch hostile)")
    assert (row["status"], row["exit_code"], row["release"]) == ("success", 0, deployed["release"])
    folder = site.app / "releases" / deployed["release"]
    assert site.said(row["id"]) == f"rows of monday $(touch hostile) from {deployed['release']}\n{folder}\n"
    assert not (folder / "hostile").exists()
    assert row["peak_memory_bytes"] is None or row["peak_memory_bytes"] > 100_000
    assert site.run()["parameters"] == {"day": "today"}


def test_a_deployment_and_a_run_leave_each_other_alone(site: Pipeline) -> None:
    first = site.load("echo begun; while [ ! -e ../../go ]; do sleep 0.05; done; pwd -P")
    run = site.ask()
    site.running(run)
    site.push({"load.sh": "echo two", "VERSION": "two"})
    site.configure(f"{JOB}\non_running: new_release_next")
    second = site.deploy()
    assert second["status"] == "success"
    (site.app / "go").touch()
    row = site.run_ended(run)
    assert (row["status"], row["release"]) == ("success", first["release"])
    assert site.said(run).endswith(f"{first['release']}\n")
    assert site.run()["release"] == second["release"]


def test_a_timeout_and_a_cancel_end_the_whole_tree(site: Pipeline) -> None:
    forking = "sleep 300 & echo $! > ../../child; setsid sleep 301 & echo $! > ../../daemon; echo begun; wait"
    site.configure(f"{JOB}\ntimeout: 4\nretries: 0")  # on a slow machine, too, it is under way by then
    site.load(forking)
    row = site.run()
    assert (row["status"], row["cause"]) == ("failed", "timeout")
    children = [int((site.app / name).read_text()) for name in ("child", "daemon")]
    assert not any(map(alive, children))
    site.configure(JOB)
    run = site.ask()
    site.running(run)
    site.fraisier.store.cancel_run(run, by="bert")
    row = site.run_ended(run)
    assert (row["status"], row["error_message"]) == ("cancelled", "cancelled by bert")
    assert not any(alive(int((site.app / name).read_text())) for name in ("child", "daemon"))


def test_a_failure_is_tried_again_and_hooks_follow_the_last_try(site: Pipeline) -> None:
    site.configure(
        f"{JOB}\nretries: 2\nretry_delay: 0.1\non_success: ['echo cheered $FRAISIER_ATTEMPT']"
        "\non_failure: ['echo mourned']\nartefacts: [\"out/*.csv\"]"
    )
    site.load("mkdir -p out; echo x > out/$FRAISIER_ATTEMPT.csv; [ $FRAISIER_ATTEMPT = 3 ] || exit 7")
    first = site.run()
    assert (first["status"], first["exit_code"]) == ("failed", 7)
    runs = until("three tries", lambda: (r := site.fraisier.store.runs(status="success")) and r)
    (third,) = runs
    assert (third["attempt"], third["retry_of"], third["trigger"]) == (3, first["id"], "retry")
    assert site.said(third["id"]) == "$ echo cheered $FRAISIER_ATTEMPT\ncheered 3\n"
    assert "mourned" not in "".join(site.said(row["id"]) for row in site.fraisier.store.runs())
    assert any(path.endswith("/out/3.csv") for path in third["artefacts"])


def test_no_more_runs_at_a_time_than_there_may_be(site: Pipeline) -> None:
    site.configure(f"{JOB}\nconcurrency: 2")
    site.load("echo begun; while [ ! -e ../../go ]; do sleep 0.05; done")
    runs = [site.ask(), site.ask()]
    for run in runs:
        site.running(run)
    with pytest.raises(Exception, match="2 runs of it wait or are under way"):
        site.ask()
    (site.app / "go").touch()
    assert [site.run_ended(run)["status"] for run in runs] == ["success", "success"]


def test_a_worker_that_dies_leaves_no_process_and_another_try(tmp_path: Path) -> None:
    """kill -9 of the worker while it runs, with the command going on."""
    with pipeline(tmp_path, f"{JOB}\nretries: 1\nretry_delay: 0") as site:
        with site.working():
            site.load(
                "echo $$ > ../../pid.$FRAISIER_ATTEMPT; echo begun; [ $FRAISIER_ATTEMPT = 2 ] || sleep 300"
            )
        run = site.ask()
        worker = subprocess.Popen([sys.executable, "-m", "fraisier", "--config", str(site.config), "worker"])
        site.running(run)
        worker.kill()
        worker.wait()
        script = int((site.app / "pid.1").read_text())
        assert alive(script), "what it had started goes on"
        with site.working():
            row = site.run_ended(run)
            assert (row["status"], row["cause"]) == ("failed", "interrupted")
            assert not alive(script)
            again = until("the other try", lambda: site.fraisier.store.runs(status="success"))
            assert again[0]["retry_of"] == run


def test_a_run_whose_worker_was_killed_for_good_is_followed_by_its_hook(tmp_path: Path) -> None:
    """The hook finds nothing of the run that goes on."""
    look = "grep -qs . /proc/$(cat ../../pid)/cmdline && echo alive"  # a zombie has none
    hook = f"on_failure: ['{look}; echo mourned $FRAISIER_STATUS']"
    with pipeline(tmp_path, f"{JOB}\n{hook}") as site:
        with site.working():
            site.load("echo $$ > ../../pid; echo begun; sleep 300")
        run = site.ask()
        worker = subprocess.Popen([sys.executable, "-m", "fraisier", "--config", str(site.config), "worker"])
        site.running(run)
        worker.kill()
        worker.wait()
        with site.working():
            row = site.run_ended(run)
        assert (row["status"], row["cause"]) == ("failed", "interrupted")
        assert site.said(run).splitlines()[-1] == "mourned failed"
        assert "alive" not in site.said(run).splitlines()


def test_a_worker_that_is_told_to_end_gives_runs_their_time(tmp_path: Path) -> None:
    with pipeline(tmp_path) as site:
        with site.working():
            site.load("echo begun; sleep 0.3; echo done")
            run = site.ask()
            site.running(run)
        row = site.run_ended(run)
        assert (row["status"], site.said(run)) == ("success", "begun\ndone\n")


def command(site: Pipeline, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fraisier", "--config", str(site.config), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_a_person_runs_it_with_a_worker_and_without(tmp_path: Path) -> None:
    with pipeline(tmp_path) as site:
        with site.working() as worker:
            site.load('echo "day $FRAISIER_PARAM_DAY"; [ "$FRAISIER_PARAM_DAY" != bad ]')
            done = command(site, "run", "shop", "production", "--param", "day=$(id) ; x")
            assert (done.returncode, done.stdout) == (0, "day $(id) ; x\n"), done.stderr
            assert site.fraisier.store.runs(limit=1)[0]["status"] == "success"
            assert any(event == "run_ended" for event, _ in site.events), "this worker performed it"
            assert worker.alive
        site.events.clear()
        done = command(site, "run", "shop", "production", "--json")
        row = json.loads(done.stdout)
        assert (done.returncode, row["status"], row["exit_code"]) == (0, "success", 0)
        failed = command(site, "run", "shop", "production", "--param", "day=bad")
        assert (failed.returncode, failed.stdout) == (1, "day bad\n")
        assert "exit code 1" in failed.stderr
        assert site.fraisier.store.live_workers() == []


def test_ctrl_c_cancels_what_this_process_performs_and_no_other(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "fraisier", "--config", str(tmp_path / "fraises.yaml")]
    with pipeline(tmp_path) as site:
        with site.working():
            site.load("echo begun; while [ ! -e ../../go ]; do sleep 0.05; done")
            with subprocess.Popen([*argv, "run", "shop", "production"], stdout=subprocess.PIPE) as watching:
                assert watching.stdout is not None
                assert watching.stdout.readline() == b"begun\n"
                watching.send_signal(signal.SIGINT)
                assert watching.wait(30) == 130
            (row,) = site.fraisier.store.runs()
            assert row["status"] == "running"
            (site.app / "go").touch()
            assert site.run_ended(row["id"])["status"] == "success"
            (site.app / "go").unlink()
        with subprocess.Popen([*argv, "run", "shop", "production"], stdout=subprocess.PIPE) as performing:
            assert performing.stdout is not None
            assert performing.stdout.readline() == b"begun\n"
            performing.send_signal(signal.SIGINT)
            assert performing.wait(30) == 130
        assert site.fraisier.store.runs(limit=1)[0]["status"] == "cancelled"


WAITING = "echo begun; while [ ! -e ../../go ]; do sleep 0.05; done; echo done"


def under_way(site: Pipeline, lines: str) -> str:
    """A run that goes on until `go` is there, and a newer commit that waits to be deployed."""
    site.configure(f"{JOB}\n{lines}")
    site.load(WAITING)
    run = site.ask()
    site.running(run)
    site.push({"load.sh": "echo two", "VERSION": "two"})
    return run


def test_a_deployment_waits_for_the_run_and_no_other_begins_meanwhile(site: Pipeline) -> None:
    run = under_way(site, "on_running: wait\nconcurrency: 2")
    asked = site.request().deployment
    assert asked is not None
    until("it waits", lambda: f"waiting for the end of run {run[:8]}" in site.output(asked.id))
    held = site.ask()
    assert site.version == WAITING
    assert site.fraisier.store.run(held)["status"] == "pending"
    (site.app / "go").touch()
    row = site.ended(asked.id)
    assert row["status"] == "success", row
    assert site.run_ended(run)["status"] == "success"
    begun = site.run_ended(held)
    assert (begun["release"], begun["started_at"] >= row["completed_at"]) == (row["release"], True)


def test_a_database_is_not_migrated_beneath_a_run(site: Pipeline) -> None:
    """The run sees the database as it was, to its end; and the next one what the migration has made of it."""
    database = "database: {name: orders, up: 'cat VERSION >> ../../schema', down: 'true'}"
    site.configure(f"{JOB}\n{database}")
    site.load(
        "cat ../../schema; echo; echo begun; until test -e ../../go; do sleep 0.05; done; cat ../../schema"
    )
    first = (site.app / "schema").read_text()
    run = site.ask()
    site.running(run)
    site.push({"load.sh": "cat ../../schema", "VERSION": "two"})
    asked = site.request().deployment
    assert asked is not None
    until("it waits", lambda: f"waiting for the end of run {run[:8]}" in site.output(asked.id))
    (site.app / "go").touch()
    assert site.ended(asked.id)["status"] == "success"
    assert site.said(site.run_ended(run)["id"]) == f"{first}\nbegun\n{first}"
    assert site.said(site.run()["id"]) == f"{first}two"


def test_a_deployment_that_is_to_cancels_the_run(site: Pipeline) -> None:
    run = under_way(site, "on_running: cancel")
    row = site.deploy()
    assert row["status"] == "success"
    cancelled = site.run_ended(run)
    assert (cancelled["status"], f"deployment {row['id'][:8]}" in cancelled["error_message"]) == (
        "cancelled",
        True,
    )
    assert cancelled["ended_at"] < row["completed_at"]


def test_a_deployment_that_waits_for_a_run_can_be_cancelled(site: Pipeline) -> None:
    run = under_way(site, "on_running: wait")
    asked = site.request().deployment
    assert asked is not None
    until("it waits", lambda: "waiting for the end" in site.output(asked.id))
    site.fraisier.cancel(asked.id, by="bert")
    assert site.ended(asked.id)["status"] == "cancelled"
    assert site.version == WAITING
    (site.app / "go").touch()
    assert site.run_ended(run)["status"] == "success"
    assert site.run()["status"] == "success", "nothing is held back any more"


def test_no_release_is_removed_that_a_run_works_in(site: Pipeline) -> None:
    run = under_way(site, "on_running: new_release_next\nkeep_releases: 2")
    first = site.app / "releases" / site.fraisier.store.run(run)["release"]
    for number in range(4):
        site.push({"load.sh": f"echo {number}", "VERSION": str(number)})
        assert site.deploy()["status"] == "success"
    assert (first / "load.sh").exists()
    (site.app / "go").touch()
    assert site.run_ended(run)["status"] == "success"
    site.push({"load.sh": "echo last"})
    assert site.deploy()["status"] == "success"
    assert not first.exists()


def test_a_release_that_fails_its_trial_is_never_run(site: Pipeline) -> None:
    site.configure(f"{JOB}\nsmoke: 'sh ./load.sh --dry-run'")
    good = site.load('[ "$1" = --dry-run ] && exit 0; echo good')
    bad = site.push({"load.sh": "exit 5"})
    row = site.deploy()
    assert (row["status"], row["cause"]) == ("failed", "unhealthy")
    assert site.run()["release"] == good["release"]
    assert bad in site.fraisier.store.fraise_status("shop", "production")[0]["quarantined_commits"]


def test_a_deployment_is_followed_by_a_run_where_that_is_wanted(site: Pipeline) -> None:
    site.configure(f"{JOB}\nrun_on_deploy: true")
    first = site.load("echo one")
    (run,) = site.fraisier.store.runs()
    assert (run["trigger"], run["requested_by"]) == ("deploy", "alice")
    assert site.run_ended(run["id"])["release"] == first["release"]
    site.load("echo two")
    assert len(site.fraisier.store.runs()) == 2
    until("the run", lambda: len(site.fraisier.store.runs(status="success")) == 2)
    back = site.fraisier.roll_back(KEY, by="alice").deployment
    assert back is not None
    assert site.ended(back.id)["status"] == "success"
    assert len(site.fraisier.store.runs()) == 2, "nothing follows a way back"
    assert site.run()["release"] == first["release"]


def test_a_deployment_whose_worker_dies_while_it_waits_goes_on_and_holds_back_until_then(
    tmp_path: Path,
) -> None:
    with pipeline(tmp_path) as site:
        with site.working():
            site.load(WAITING)
        site.push({"load.sh": "echo two", "VERSION": "two"})
        run = site.ask()
        argv = [sys.executable, "-m", "fraisier", "--config", str(site.config), "worker"]
        worker = subprocess.Popen(argv)
        site.running(run)
        asked = site.request().deployment
        assert asked is not None
        until("it waits", lambda: "waiting for the end" in site.output(asked.id))
        worker.kill()
        worker.wait()
        with site.working():
            row = site.ended(asked.id)
            assert row["status"] == "success", row
            assert site.run_ended(run)["cause"] == "interrupted"
            assert site.version == "two"
            assert site.run()["release"] == row["release"]


def test_without_a_worker_a_person_deploys_though_a_dead_one_left_a_run(tmp_path: Path) -> None:
    with pipeline(tmp_path) as site:
        with site.working():
            site.load(WAITING)
        site.push({"load.sh": "echo two", "VERSION": "two"})
        run = site.ask()
        argv = [sys.executable, "-m", "fraisier", "--config", str(site.config), "worker"]
        worker = subprocess.Popen(argv)
        site.running(run)
        worker.kill()
        worker.wait()
        done = command(site, "deploy", "shop", "production")
        assert done.returncode == 0, done.stderr
        assert site.version == "two"
        assert site.fraisier.store.run(run)["cause"] == "interrupted"


def test_a_run_that_died_with_its_terminal_does_not_stand_in_the_way(tmp_path: Path) -> None:
    with pipeline(tmp_path) as site:
        with site.working():
            site.load("echo begun; [ -e ../../go ] || sleep 300")
        argv = [sys.executable, "-m", "fraisier", "--config", str(site.config), "run", "shop", "production"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == b"begun\n"
            first.kill()
        (left,) = site.fraisier.store.runs()
        assert left["status"] == "running"
        (site.app / "go").touch()
        done = command(site, "run", "shop", "production")
        assert (done.returncode, done.stdout) == (0, "begun\n"), done.stderr
        assert site.fraisier.store.run(left["id"])["cause"] == "interrupted"


def test_runs_go_on_after_a_folder_of_a_newer_database_was_adopted(site: Pipeline) -> None:
    site.load("echo one")
    site.run()
    token = site.app / ".fraisier/jobs/main-0/.fraisier/token"
    token.write_text("500\n")
    row = site.run()
    assert (row["status"], row["cause"]) == ("failed", "owner")
    assert "fraisier adopt shop production" in row["hint"]
    site.fraisier.adopt(KEY, by="alice")
    assert site.run()["status"] == "success"
