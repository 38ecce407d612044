"""supervisord for real: its own daemon and client, a program that stays and one that crashes."""

from __future__ import annotations

import getpass
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fraisier.application.ports import UnitState
from fraisier.domain.acts import InstallFile, UnitCommand
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment, TargetSpec
from fraisier.hosts.local import LocalHost
from fraisier.targets.supervisord import Supervisord
from tests.factories import environment

HOST = LocalHost()
CONFIG = """
[unix_http_server]
file={folder}/s.sock
[supervisord]
logfile={folder}/log
pidfile={folder}/pid
nodaemon=true
user={user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/s.sock
[include]
files={folder}/conf.d/*.conf
[program:orders]
command={folder}/app/current/run
directory={folder}/app/current
startsecs=1
startretries=1
stopwaitsecs=2
"""


class Setup:
    """A supervisord of our own, and an app whose `current` it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = folder / "app"
        (folder / "conf.d").mkdir()
        self.release("1-aaaaaaa", "exec sleep 600")
        config = folder / "supervisord.conf"
        config.write_text(CONFIG.format(folder=folder, user=getpass.getuser()))
        daemon = Path(sys.executable).with_name("supervisord")
        self.process = subprocess.Popen((daemon, "-c", config), stdout=subprocess.DEVNULL)
        self.spec = TargetSpec(kind="supervisord", unit="orders", options={"config": str(config)})

    def release(self, name: str, line: str) -> None:
        folder = self.app / "releases" / name
        folder.mkdir(parents=True)
        (folder / "run").write_text(f"#!/bin/sh\n{line}\n")
        (folder / "run").chmod(0o755)
        HOST.point(str(self.app / "current"), f"releases/{name}")

    def environment(self, **changes: object) -> Environment:
        return environment(target=self.spec, app_path=str(self.app), **changes)

    def state(self) -> UnitState:
        return Supervisord().state(self.spec, HOST)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    made = Setup(tmp_path_factory.mktemp("s"))  # short: a socket's path has at most 107 bytes
    yield made
    made.close()


def until(look: object, true: object) -> UnitState:
    limit = time.monotonic() + 20
    while True:
        try:
            if true(state := look()):  # type: ignore[operator]
                return state  # type: ignore[no-any-return]
        except StepFailed as error:
            state = error
        assert time.monotonic() < limit, state
        time.sleep(0.1)


def perform(acts: Sequence[object]) -> list[int]:
    codes = []
    for act in acts:
        assert isinstance(act, UnitCommand)
        codes.append(HOST.act(act.argv, timeout=act.timeout).code)
    return codes


def test_a_restart_runs_the_new_release_as_a_new_invocation(setup: Setup) -> None:
    before = until(setup.state, lambda state: state.running)
    setup.release("2-bbbbbbb", "exec sleep 700")
    acts = Supervisord().acts(setup.environment(), str(setup.app / "releases/2-bbbbbbb"))
    assert perform((*acts.release_failure, *acts.restart)) == [0]
    after = setup.state()
    assert (after.running, after.settled, after.invocation == before.invocation) == (True, True, False)
    pid = after.invocation.partition(":")[0]
    assert b"700" in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert perform(acts.stop) == [0]
    stopped = setup.state()
    assert (stopped.running, stopped.settled, stopped.invocation) == (False, True, "")


def test_a_release_that_crashes_is_seen_and_the_way_back_works(setup: Setup) -> None:
    until(setup.state, lambda state: state.running)
    setup.release("2-bbbbbbb", "exit 7")
    acts = Supervisord().acts(setup.environment(), str(setup.app / "releases/2-bbbbbbb"))
    perform(acts.restart)
    fatal = until(setup.state, lambda state: state.settled and not state.running)
    assert "FATAL" in fatal.detail
    HOST.point(str(setup.app / "current"), "releases/1-aaaaaaa")
    assert perform(acts.restart) == [0]
    assert setup.state().running


def test_an_unknown_program_is_a_problem_with_a_hint(setup: Setup) -> None:
    until(setup.state, lambda state: state.running)
    other = TargetSpec(kind="supervisord", unit="nothing", options=setup.spec.options)
    assert not Supervisord().state(other, HOST).known
    (problem,) = Supervisord().problems(environment(target=other), HOST)
    assert ("nothing" in problem.message, problem.fatal, "[program:nothing]" in problem.hint) == (True,) * 3
    assert Supervisord().problems(setup.environment(), HOST) == ()


def test_a_supervisord_that_does_not_answer_is_told_so(setup: Setup) -> None:
    until(setup.state, lambda state: state.running)
    setup.close()
    with pytest.raises(StepFailed) as failed:
        setup.state()
    assert failed.value.cause is Cause.host
    (problem,) = Supervisord().problems(setup.environment(), HOST)
    assert problem.fatal


def test_a_program_of_the_release_is_installed_and_started(setup: Setup) -> None:
    until(setup.state, lambda state: state.running)
    folder = setup.folder / "conf.d"
    spec = TargetSpec(kind="supervisord", unit="shop", options={**setup.spec.options, "conf_d": str(folder)})
    place = environment(target=spec, app_path=str(setup.app), unit_file="deploy/shop.conf")
    install, update = Supervisord().acts(place, "/r").install
    assert install == InstallFile(source="/r/deploy/shop.conf", destination=f"{folder}/shop.conf")
    assert Supervisord().problems(place, HOST) == ()
    HOST.write(f"{folder}/shop.conf", b"[program:shop]\ncommand=sleep 800\n")
    assert perform([update]) == [0]
    assert until(lambda: Supervisord().state(spec, HOST), lambda state: state.running).known


def test_the_programs_output_can_be_shown(setup: Setup) -> None:
    until(setup.state, lambda state: state.running)
    setup.release("2-bbbbbbb", "echo hello from the program; exec sleep 600")
    acts = Supervisord().acts(setup.environment(), "/r")
    perform(acts.restart)
    command = Supervisord().logs(setup.spec, lines=10)
    assert b"hello from the program" in HOST.inspect(command.argv, timeout=20).stdout
