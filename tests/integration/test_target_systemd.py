"""systemd for real: the target and the host on a test server, as root, as a user, and with its own manager."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fraisier.application.ports import Finished, UnitState
from fraisier.domain.acts import InstallFile, UnitCommand
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import TargetSpec
from fraisier.hosts.local import LocalHost
from fraisier.targets.systemd import Systemd
from tests.factories import environment
from tests.integration.test_host_local import WORKER
from tests.servers import Server, server, server_factory
from tests.unit.host_contract import OWNER

__all__ = ["server", "server_factory"]

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
APP = "/var/www/orders"
SERVICE = f"""
[Service]
WorkingDirectory={APP}/current
ExecStart={APP}/current/run
Restart=on-failure
RestartSec=100ms
StartLimitIntervalSec=0
[Install]
WantedBy=multi-user.target
"""
ORDERS = environment(target=TargetSpec(kind="systemd", unit="orders.service"))


class Remote(LocalHost):
    """The test server as a host, as far as a target looks: commands go there over SSH."""

    def __init__(self, server: Server, user: str = "") -> None:
        super().__init__(server.name)
        self._server, self._user = server, user

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        words = shlex.join(argv)
        if self._user:
            words = f"setpriv --reuid {self._user} --init-groups env XDG_RUNTIME_DIR=/run/user/$(id -u {self._user}) {words}"
        done = self._server.run(words, check=False, timeout=timeout + 5)
        return Finished(code=done.returncode, stdout=done.stdout.encode(), stderr=done.stderr.encode())

    act = inspect

    def writable(self, path: str) -> bool:
        return self.inspect(("test", "-w", path)).code == 0


@pytest.fixture
def host(server: Server) -> Remote:
    return Remote(server)


@pytest.fixture
def unit(server: Server) -> None:
    """orders.service, with a release whose process stays."""
    server.run(f"systemctl stop orders.service; rm -rf {APP} /etc/systemd/system/orders.service", check=False)
    release(server, "1-aaaaaaa", "exec sleep infinity")
    server.write("/etc/systemd/system/orders.service", SERVICE)
    server.run("systemctl daemon-reload && systemctl reset-failed; systemctl restart orders.service")


def release(server: Server, name: str, line: str) -> None:
    server.write(f"{APP}/releases/{name}/run", f"#!/bin/sh\n{line}\n", mode=0o755)
    server.run(f"ln -sfn releases/{name} {APP}/current")


def perform(host: Remote, acts: Sequence[object]) -> None:
    for act in acts:
        assert isinstance(act, UnitCommand)
        done = host.act(act.argv, timeout=act.timeout)
        assert done.code == 0 or act.allow_failure, done


def eventually(look: Callable[[], UnitState], true: Callable[[UnitState], bool]) -> UnitState:
    until = time.monotonic() + 10
    while not true(state := look()):
        assert time.monotonic() < until, state
        time.sleep(0.05)
    return state


@pytest.mark.usefixtures("unit")
def test_each_restart_is_a_new_invocation_and_counts_from_zero(host: Remote) -> None:
    target = Systemd()
    assert ORDERS.target is not None
    before = target.state(ORDERS.target, host)
    acts = target.acts(ORDERS, f"{APP}/releases/1-aaaaaaa")
    perform(host, (*acts.release_failure, *acts.restart))
    after = target.state(ORDERS.target, host)
    assert (before.running, after.running, after.settled, after.restarts) == (True, True, True, 0)
    assert before.invocation != after.invocation
    perform(host, acts.stop)
    stopped = target.state(ORDERS.target, host)
    assert (stopped.running, stopped.settled, stopped.invocation) == (False, True, "")


@pytest.mark.usefixtures("unit")
def test_a_crash_loop_shows_and_the_way_back_starts_afresh(server: Server, host: Remote) -> None:
    target, spec = Systemd(), ORDERS.target
    assert spec is not None
    acts = target.acts(ORDERS, f"{APP}/releases/2-bbbbbbb")
    release(server, "2-bbbbbbb", "exit 7")
    perform(host, (*acts.release_failure, *acts.restart))
    eventually(lambda: target.state(spec, host), lambda state: state.restarts >= 2)
    # For the moment between its start and its end it does run; that it crashed shows in between.
    eventually(lambda: target.state(spec, host), lambda state: "exit status 7" in state.detail)
    crashed = target.state(spec, host)
    release(server, "1-aaaaaaa", "exec sleep infinity")
    perform(host, (*acts.release_failure, *acts.restart))
    back = target.state(spec, host)
    # One of the crashing release's restarts may fall between the two commands, where it is counted again.
    assert (back.running, back.settled, back.restarts <= 1) == (True, True, True)
    assert back.invocation != crashed.invocation
    time.sleep(0.5)  # five times RestartSec's 0.1 s
    assert target.state(spec, host) == back


@pytest.mark.usefixtures("unit")
def test_a_unit_that_hit_its_start_limit_can_be_brought_back(server: Server, host: Remote) -> None:
    target, spec = Systemd(), ORDERS.target
    assert spec is not None
    limited = "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=2\n" + SERVICE.replace(
        "StartLimitIntervalSec=0", ""
    )
    server.write("/etc/systemd/system/orders.service", limited)
    server.run("systemctl daemon-reload")
    acts = target.acts(ORDERS, f"{APP}/releases/2-bbbbbbb")
    release(server, "2-bbbbbbb", "exit 7")
    perform(host, (*acts.release_failure, *acts.restart))
    failed = eventually(lambda: target.state(spec, host), lambda state: state.settled and not state.running)
    assert "failed" in failed.detail
    release(server, "1-aaaaaaa", "exec sleep infinity")
    perform(host, (*acts.release_failure, *acts.restart))
    assert target.state(spec, host).running


def test_a_unit_file_of_the_release_is_installed_and_survives_a_reboot(server: Server, host: Remote) -> None:
    env = environment(target=TargetSpec(kind="systemd", unit="shop"), unit_file="deploy/shop.service")
    release(server, "1-aaaaaaa", "exec sleep infinity")
    folder = f"{APP}/releases/1-aaaaaaa"
    server.write(f"{folder}/deploy/shop.service", SERVICE)
    acts = Systemd().acts(env, folder)
    install, *commands = acts.install
    assert install == InstallFile(
        source=f"{folder}/deploy/shop.service", destination="/etc/systemd/system/shop.service"
    )
    server.run(f"cp {install.source} {install.destination}")
    perform(host, (*commands, *acts.release_failure, *acts.restart))
    assert env.target is not None
    assert Systemd().state(env.target, host).running
    server.reboot()
    assert eventually(lambda: Systemd().state(env.target, host), lambda state: state.running).settled  # type: ignore[arg-type]


def test_a_unit_without_an_install_section_is_no_failure(server: Server, host: Remote) -> None:
    env = environment(target=TargetSpec(kind="systemd", unit="static.service"), unit_file="static.service")
    server.write("/etc/systemd/system/static.service", SERVICE.partition("[Install]")[0])
    perform(host, Systemd().acts(env, APP).install[1:])


def test_an_unknown_or_masked_unit_is_a_problem_with_a_hint(server: Server, host: Remote) -> None:
    server.run("systemctl mask masked.service")
    for name, word in (("nothing.service", "cannot find"), ("masked.service", "masked")):
        env = environment(target=TargetSpec(kind="systemd", unit=name))
        (problem,) = Systemd().problems(env, host)
        assert (word in problem.message, problem.fatal, bool(problem.hint)) == (True, True, True)
    state = Systemd().state(TargetSpec(kind="systemd", unit="nothing.service"), host)
    assert (state.known, state.running) == (False, False)


@pytest.mark.usefixtures("unit")
def test_a_unit_that_runs_from_elsewhere_is_a_warning(server: Server, host: Remote) -> None:
    assert Systemd().problems(ORDERS, host) == ()
    server.write("/etc/systemd/system/elsewhere.service", SERVICE.replace(APP, "/opt/other"))
    env = environment(target=TargetSpec(kind="systemd", unit="elsewhere.service"))
    (problem,) = Systemd().problems(env, host)
    assert (problem.fatal, f"{APP}/current" in problem.message) == (False, True)


@pytest.mark.usefixtures("unit")
def test_a_user_without_permission_is_told_so(server: Server) -> None:
    problems = Systemd().problems(ORDERS, Remote(server, "nobody"))
    assert any("systemd does not let Fraisier" in problem.message for problem in problems), problems


def test_a_name_that_is_no_unit_never_becomes_an_argument() -> None:
    for name in ("--root=/x", "a b.service", "x;y.service", "../x.service", ""):
        with pytest.raises(StepFailed) as failed:
            Systemd().acts(environment(target=TargetSpec(kind="systemd", unit=name)), APP)
        assert failed.value.cause is Cause.preflight


def test_the_units_own_log_can_be_shown(server: Server, host: Remote) -> None:
    server.run("systemd-run --wait --unit=talks.service echo hello from the unit")
    command = Systemd().logs(TargetSpec(kind="systemd", unit="talks.service"), lines=20)
    assert b"hello from the unit" in host.inspect(command.argv).stdout


@pytest.fixture(scope="module")
def lingering(server: Server) -> str:
    """A user with a manager of its own."""
    server.run("useradd --create-home berry && loginctl enable-linger berry")
    server.run(
        "for i in $(seq 100); do test -S /run/user/$(id -u berry)/systemd/private && exit; sleep .1; done; exit 1"
    )
    return "berry"


def test_a_units_of_a_users_own_manager(server: Server, lingering: str) -> None:
    host = Remote(server, lingering)
    spec = TargetSpec(kind="systemd", unit="orders.service", options={"manager": "user"})
    env = environment(target=spec)
    line = "[Service]\nExecStart=/bin/sleep infinity\n"
    server.write(f"/home/{lingering}/.config/systemd/user/orders.service", line)
    server.run(f"chown -R {lingering}: /home/{lingering}")
    host.act(("systemctl", "--user", "daemon-reload"), timeout=10)
    perform(host, Systemd().acts(env, APP).restart)
    state = Systemd().state(spec, host)
    assert (state.running, bool(state.invocation)) == (True, True)
    perform(host, Systemd().acts(env, APP).stop)


@pytest.fixture(scope="module")
def checkout(server: Server) -> str:
    """Fraisier and its tests, there."""
    server.copy(ROOT / "fraisier", "/opt/check/fraisier", leave_out=["__pycache__"])
    server.copy(ROOT / "tests", "/opt/check/tests", leave_out=["__pycache__"])
    server.copy(ROOT / "pyproject.toml", "/opt/check")
    for folder in (*Path(sys.executable).parents, *Path(sys.executable).resolve().parents):
        server.run(f"chmod o+x {folder}")  # there only: its files lie over this machine's
    return "/opt/check"


@pytest.mark.parametrize("who", ["root", "berry"])
def test_the_host_keeps_its_promises_under_systemd(
    server: Server, lingering: str, checkout: str, who: str
) -> None:
    """The whole of test_host_local.py, there: scopes are transient units of the system's or the user's manager."""
    options = f"-p no:cacheprovider --basetemp=/var/tmp/check-{who}"
    line = f"cd {checkout} && PYTHONDONTWRITEBYTECODE=1 {sys.executable} -m pytest {options} tests/integration/test_host_local.py"
    if who == lingering:
        line = f"setpriv --reuid {who} --regid {who} --init-groups env HOME=/home/{who} sh -c {shlex.quote(line)}"
    done = server.run(line, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


RULE = """
polkit.addRule(function(action, subject) {
  if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "berry") return polkit.Result.YES;
});
"""


def test_a_user_whom_polkit_lets_start_units_deploys_as_other_users(
    server: Server, lingering: str, checkout: str
) -> None:
    if server.run("systemctl start polkit", check=False).returncode != 0:
        pytest.skip("polkitd is not installed")
    server.write("/etc/polkit-1/rules.d/50-fraisier.rules", RULE)
    server.run("systemctl restart polkit")
    options = "-p no:cacheprovider -rs --basetemp=/var/tmp/check-polkit -k 'as_the_user or own_folder'"
    line = f"cd {checkout} && PYTHONDONTWRITEBYTECODE=1 {sys.executable} -m pytest {options} tests/integration/test_host_local.py"
    who = f"setpriv --reuid {lingering} --regid {lingering} --init-groups env HOME=/home/{lingering}"
    done = server.run(f"{who} sh -c {shlex.quote(line)}", check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout, done.stdout


TAKEOVER = f"""
from fraisier.application.ports import Ground
from fraisier.hosts.local import LocalHost
LocalHost().adopt(Ground(app_path="/srv/app", owner={OWNER!r}, token=6))
"""


def test_after_a_power_loss_in_the_middle_of_a_command_the_successor_takes_over(
    server: Server, checkout: str
) -> None:
    server.write("/opt/check/worker.py", WORKER)
    server.write("/opt/check/takeover.py", TAKEOVER)
    told = f"echo 'sleep 765432' | {sys.executable} worker.py /srv/app 5"
    service = f"systemd-run --unit=worker --working-directory={checkout} --setenv=PYTHONPATH=."
    server.run(f"{service} sh -c {shlex.quote(told)}")
    server.run("for i in $(seq 100); do pgrep -fx 'sleep 765432' && exit; sleep .1; done; exit 1")
    server.run("sync")
    server.lose_power()
    server.start()
    assert server.run("ls /srv/app/.fraisier/scopes").stdout.strip(), "the record outlives the power loss"
    server.run(f"cd {checkout} && PYTHONPATH=. {sys.executable} takeover.py")
    assert server.run("ls /srv/app/.fraisier/scopes; cat /srv/app/.fraisier/token").stdout == "6\n"
