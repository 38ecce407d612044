"""`fraisier deploy` with real git and real processes: who performs, what is shown, and how it is interrupted."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cli_world import World, on_a_terminal

DEADLINE = 20.0  # seconds


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def origin(world: World, build: str) -> None:
    """A repository with one commit, and a production that is built by `build`."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    source = world.folder / "source"
    subprocess.run([*git, "init", "-q", "-b", "main", str(source)], check=True)
    (source / "file").write_text("1")
    for words in (
        ["add", "."],
        ["commit", "-q", "-m", "one"],
        ["clone", "-q", "--bare", ".", "../origin.git"],
    ):
        subprocess.run([*git, *words], cwd=source, check=True, capture_output=True)
    world.config.write_text(world.config.read_text().replace("echo built", build))


def test_deploy_performs_by_itself_where_no_worker_lives(world: World) -> None:
    origin(world, "echo built")
    done = subprocess.run(
        world.argv("deploy", "orders", "production"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "✓ build" in done.stdout
    assert "✓ orders/production runs" in done.stdout
    assert "\x1b" not in done.stdout
    assert (world.folder / "production" / "current" / "file").read_text() == "1"


def test_deploy_on_a_terminal_shows_the_steps(world: World) -> None:
    origin(world, "echo built")
    status, shown = on_a_terminal(world.argv("deploy", "orders", "production"))
    assert status == 0, shown
    assert "build" in shown
    assert "✓" in shown
    assert "orders/production runs" in shown


def test_a_failed_deployment_is_1_with_cause_output_and_hint(world: World) -> None:
    origin(world, "echo oops; exit 3")
    done = subprocess.run(
        world.argv("deploy", "orders", "production"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "✗ build" in done.stdout
    assert "    oops" in done.stdout
    assert done.stderr.startswith("fraisier: cannot bring orders/production to the commit (failed):")
    assert "fraisier logs " in done.stderr


def test_with_json_the_final_row_is_all_there_is(world: World) -> None:
    origin(world, "echo oops; exit 3")
    done = subprocess.run(
        world.argv("deploy", "orders", "production", "--json"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    row = json.loads(done.stdout)
    assert (row["status"], row["cause"]) == ("failed", "build")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupt_cancels_what_this_process_performs(world: World, number: int, status: int) -> None:
    started = world.folder / "started"
    origin(world, f"touch {started}; sleep 60")
    process = subprocess.Popen(
        world.argv("deploy", "orders", "production"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(started.exists)
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert "Cancelling deployment" in errors
    assert "ended cancelled" in errors
    rows = json.loads(world.run("history", "--json").stdout)
    assert [row["status"] for row in rows] == ["cancelled"]


def test_an_interrupt_leaves_what_another_worker_has_taken_over(world: World) -> None:
    """This process performed until it was stopped for longer than its lease."""
    go_on, started = world.folder / "go-on", world.folder / "started"
    origin(world, f"echo begun >> {started}; until [ -e {go_on} ]; do sleep 0.05; done")
    world.config.write_text("worker: {lease: 2s}\n" + world.config.read_text())
    with subprocess.Popen(
        world.argv("deploy", "orders", "production"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_for(started.exists)
        process.send_signal(signal.SIGSTOP)
        with subprocess.Popen(world.argv("worker"), stderr=subprocess.DEVNULL) as worker:
            try:
                wait_for(lambda: started.read_text() == "begun\nbegun\n")
                process.send_signal(signal.SIGCONT)
                time.sleep(2)  # it finds out when it renews the lease that it has lost
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=DEADLINE)
                go_on.touch()
                wait_for(lambda: json.loads(world.run("history", "--json").stdout)[0]["completed_at"])
            finally:
                process.kill()
                worker.terminate()
    assert process.returncode == 130
    assert b"goes on. To watch it" in errors
    assert [row["status"] for row in json.loads(world.run("history", "--json").stdout)] == ["success"]


def test_a_terminal_that_is_closed_cancels_what_this_process_performs(world: World) -> None:
    started = world.folder / "started"
    origin(world, f"touch {started}; sleep 60")
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", *world.argv("deploy", "orders", "production")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        try:
            wait_for(started.exists)
            os.close(terminal)
            assert process.wait(DEADLINE) == 129
        finally:
            process.kill()
    rows = json.loads(world.run("history", "--json").stdout)
    assert [row["status"] for row in rows] == ["cancelled"]


def test_a_reader_that_goes_away_leaves_nothing_half_done(world: World) -> None:
    go_on = world.folder / "go-on"
    origin(world, f"until [ -e {go_on} ]; do sleep 0.05; done; echo done")
    with subprocess.Popen(
        world.argv("deploy", "orders", "production"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        go_on.touch()
        assert process.wait(DEADLINE) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
    rows = json.loads(world.run("history", "--json").stdout)
    assert [row["status"] for row in rows] == ["success"]


def test_an_interrupt_lets_a_worker_s_deployment_go_on(world: World) -> None:
    go_on = world.folder / "go-on"
    origin(world, f"until [ -e {go_on} ]; do sleep 0.05; done")
    worker = subprocess.Popen(world.argv("worker"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        with world.store() as store:
            wait_for(lambda: bool(store.live_workers()))
        watching = subprocess.Popen(
            world.argv("deploy", "orders", "production"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert watching.stdout is not None
            for line in watching.stdout:
                if line.startswith("build"):
                    break
            watching.send_signal(signal.SIGINT)
            _, errors = watching.communicate(timeout=DEADLINE)
        finally:
            watching.kill()
            watching.wait()
        assert watching.returncode == 130
        assert "goes on" in errors
        go_on.touch()
        wait_for(lambda: '"status": "success"' in world.run("status", "--json").stdout)
    finally:
        worker.terminate()
        worker.communicate(timeout=DEADLINE)
