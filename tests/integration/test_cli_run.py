"""`fraisier run` with real git and real processes: who performs, what is shown, and how it is interrupted."""

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

from fraisier import wiring
from fraisier.domain.fraise import EnvironmentKey
from tests.unit.cli_world import World

DEADLINE = 60.0  # seconds
PIPELINE = """
  nightly:
    type: etl
    repository: acme/nightly
    clone_url: {folder}/origin.git
    environments:
      production: {{branch: main, app_path: {folder}/nightly, smoke: sh -n load.sh, command: sh load.sh}}
"""


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def deployed(folder: Path, script: str) -> World:
    """A pipeline whose `load.sh` is `script`."""
    world = World.create(folder)
    world.config.write_text(world.config.read_text() + PIPELINE.format(folder=folder))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    source = folder / "source"
    subprocess.run([*git, "init", "-q", "-b", "main", str(source)], check=True)
    (source / "load.sh").write_text(script)
    for words in (
        ["add", "."],
        ["commit", "-q", "-m", "one"],
        ["clone", "-q", "--bare", ".", "../origin.git"],
    ):
        subprocess.run([*git, *words], cwd=source, check=True, capture_output=True)
    subprocess.run(world.argv("deploy", "nightly", "production"), check=True, capture_output=True)
    return world


def statuses(world: World) -> list[str]:
    return [row["status"] for row in json.loads(world.run("runs", "--json").stdout)]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupt_cancels_what_this_process_performs(tmp_path: Path, number: int, status: int) -> None:
    started = tmp_path / "started"
    world = deployed(tmp_path, f"touch {started}; sleep 60")
    process = subprocess.Popen(
        world.argv("run", "nightly", "production"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(started.exists)
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert "Cancelling run" in errors
    assert "ended cancelled" in errors
    assert statuses(world) == ["cancelled"]


def test_a_terminal_that_is_closed_cancels_what_this_process_performs(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = f"touch {started}; i=0; while [ $i -lt 600 ]; do echo $i; sleep 0.1; i=$((i+1)); done"
    world = deployed(tmp_path, script)
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", *world.argv("run", "nightly", "production")],
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
    assert statuses(world) == ["cancelled"]


def test_a_reader_that_goes_away_leaves_nothing_half_done(tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    world = deployed(tmp_path, f"echo begun; until [ -e {go_on} ]; do sleep 0.05; done; echo done")
    with subprocess.Popen(
        world.argv("run", "nightly", "production"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.stdout.close()
        go_on.touch()
        assert process.wait(DEADLINE) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert statuses(world) == ["success"]


def test_what_a_dead_worker_had_begun_to_deploy_holds_no_run_back_for_ever(tmp_path: Path) -> None:
    world = deployed(tmp_path, "echo loaded")
    key = EnvironmentKey("nightly", "production")
    with world.store() as store:
        configuration = wiring.load(str(world.config))
        parts = wiring.assemble(configuration, store=store)
        parts.request_deployment(key, by="alice", force=True)
        store.register_worker("w1", info={"host": "gone", "pid": 1, "version": "0", "digest": ""})
        claim = store.claim("w1", lease=0.01, environments=[key])
        assert claim is not None
        store.begin_attempt(claim, resolved=parts.codec.dump(configuration.environments[key]))
        store.hold_runs(claim)
        store.retire_worker("w1")
    run = subprocess.run(
        world.argv("run", "nightly", "production"),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "loaded" in run.stdout
    history = json.loads(world.run("history", "--json").stdout)
    assert [row["status"] for row in history] == ["success", "success"]


def test_what_is_to_be_tried_again_by_nobody_says_how_to_drop_it(tmp_path: Path) -> None:
    world = deployed(tmp_path, "exit 7")
    world.config.write_text(world.config.read_text().replace("smoke:", "retries: 1, smoke:"))
    command = world.argv("run", "nightly", "production")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "Its next try waits for `fraisier serve`" in run.stderr
    again = run.stderr.rpartition("fraisier cancel ")[2].split()[0]
    world.run("cancel", again)
    assert sorted(statuses(world)) == ["cancelled", "failed"]
