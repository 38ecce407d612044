"""Real servers for tests: each with its own systemd, sshd, address and files, from namespaces alone.

`server_factory` starts them through the `testhost` script beside this file, and removes them in the end.
Where they cannot be had (not root, no packages) tests that need them are skipped and say why; with
FRAISIER_SERVERS=required in the environment they fail instead.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTHOST = Path(__file__).with_name("testhost")
ROOT = Path(__file__).parents[2]
PACKAGES = {
    "/usr/sbin/sshd": "openssh-server",
    "/usr/bin/ssh": "openssh-client",
    "/lib/systemd/systemd": "systemd",
    "ip": "iproute2",
    "iptables": "iptables",
    "unshare": "util-linux",
    "pgrep": "procps",
    "sudo": "sudo",
}
_PATIENCE = 30.0  # seconds for a boot

ServerFactory = Callable[[str], "Server"]


@dataclass(frozen=True, slots=True)
class Server:
    """One server. Commands go over SSH, as root: all over one connection while it is known to be up."""

    name: str
    address: str
    state: Path  # of the whole set, see testhost

    def run(
        self, command: str | Sequence[str], *, check: bool = True, timeout: float = 60, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line, or words that are quoted for it, there."""
        line = command if isinstance(command, str) else " ".join(map(_quote, command))
        done = subprocess.run(
            self._ssh(line),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if check and done.returncode != 0:
            message = f"{self.name}: {line!r} ended with {done.returncode}:\n{out}{err}"
            raise AssertionError(message)
        return subprocess.CompletedProcess(line, done.returncode, out, err)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """A file there; its folder is made."""
        quoted = _quote(path)
        line = f"mkdir -p $(dirname {quoted}) && cat >{quoted} && chmod {mode:o} {quoted}"
        self.run(line, stdin=text.encode())

    def copy(self, source: Path, destination: str, *, leave_out: Sequence[str] = ()) -> None:
        """A folder's content, or a file, of this machine to `destination` there."""
        folder, names = (source, ".") if source.is_dir() else (source.parent, source.name)
        options = [f"--exclude={pattern}" for pattern in leave_out]
        packed = subprocess.run(
            ("tar", "-C", str(folder), *options, "-cf", "-", names), capture_output=True, check=True
        )
        quoted = _quote(destination)
        self.run(f"mkdir -p {quoted} && tar -C {quoted} -xf -", stdin=packed.stdout, timeout=300)

    @property
    def pid(self) -> int:
        """The pid of its systemd, as seen from this machine."""
        return int(_testhost(self.state, "pid", self.name).stdout)

    def lose_power(self) -> None:
        """All its processes are gone at once; `start` boots it again."""
        self._hang_up()
        os.kill(self.pid, signal.SIGKILL)
        _wait_for(lambda: not self._answers(), f"{self.name} to lose its power")

    def start(self) -> None:
        """Boot after a power loss, files kept."""
        _testhost(self.state, "start", self.name)
        self._dial()

    def reboot(self) -> None:
        """An orderly reboot; returns when it is up again."""
        before = self.pid
        self._hang_up()
        self.run("systemctl reboot", check=False)
        _wait_for(lambda: self._pid_or_none() not in {None, before}, f"{self.name} to go down")
        _wait_for(self._is_up, f"{self.name} to come up again")
        self._dial()

    def cut(self) -> None:
        """Take its network away."""
        self._hang_up()
        _testhost(self.state, "cut", self.name)

    def mend(self) -> None:
        """Give the network back."""
        _testhost(self.state, "mend", self.name)
        self._dial()

    def down(self) -> None:
        """Stop and forget it."""
        self._hang_up()
        _testhost(self.state, "down", self.name)

    def log_in_again(self) -> None:
        """Have the commands from now on begin with what a login reads, such as /etc/environment, as it is now."""
        self._hang_up()
        self._dial()

    def _ssh(self, *words: str) -> tuple[str, ...]:
        """Through the connection that `_dial` made; through one of its own if there is none."""
        line = str(self.state / f"{self.name}.ssh")
        return ("ssh", "-F", str(self.state / "ssh_config"), "-S", line, f"root@{self.address}", *words)

    def _dial(self) -> None:
        """Connect: to do so again for each command is most of what a short one costs, on both sides."""
        _quietly(*self._ssh(), "-M", "-N", "-f")

    def _hang_up(self) -> None:
        """Disconnect before the server or its network goes: who cannot be reached does not answer."""
        _quietly(*self._ssh(), "-O", "exit")

    def _pid_or_none(self) -> int | None:
        found = _testhost(self.state, "pid", self.name, check=False).stdout.strip()
        return int(found) if found else None

    def _answers(self) -> bool:
        return self.run("true", check=False, timeout=15).returncode == 0

    def _is_up(self) -> bool:
        said = self.run("systemctl is-system-running", check=False, timeout=15).stdout.strip()
        return said in {"running", "degraded"}


def _quote(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _quietly(*argv: str) -> None:
    nothing = subprocess.DEVNULL
    subprocess.run(argv, stdin=nothing, stdout=nothing, stderr=nothing, timeout=30, check=False)


def _wait_for(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > until:
            pytest.fail(f"waited {_PATIENCE:g} s for {what}")
        time.sleep(0.05)


def _testhost(state: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    shown = f"{ROOT}:{sys.base_prefix}"
    env: Mapping[str, str] = {**os.environ, "TESTHOST_DIR": str(state), "TESTHOST_SHARE": shown}
    argv = ("bash", str(TESTHOST), *words)
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    if check and done.returncode != 0:
        message = f"testhost {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        raise AssertionError(message)
    return done


def no_servers_because() -> str:
    """Why there can be no servers here; '' if there can."""
    if os.geteuid() != 0:
        return "test servers need root"
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if missing and shutil.which("apt-get") is None:
        return f"test servers need {', '.join(missing)}, and there is no apt-get to install them"
    if missing:
        _install(missing)
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        found = subprocess.run(("findmnt", "-n", "-t", "cgroup2"), capture_output=True, check=False)
        if not found.stdout:
            return "test servers need a cgroup2 file system"
    return ""


def _install(packages: Sequence[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with Path("/run/lock/fraisier-test-packages").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # apt knows one at a time; parallel runs wait here
        install = ("apt-get", "install", "-y", "--no-install-recommends", *packages)
        for argv in (("apt-get", "update"), install):
            subprocess.run(argv, env=env, capture_output=True, check=True, timeout=300)


@contextmanager
def servers_in(state: Path) -> Iterator[ServerFactory]:
    """Starts servers whose files lie in the folder `state`; all are removed in the end."""

    made: list[Server] = []

    def up(name: str) -> Server:
        address = _testhost(state, "up", name).stdout.split()[1]
        made.append(Server(name, address, state))
        made[-1]._dial()
        return made[-1]

    try:
        yield up
    finally:
        for each in made:
            each._hang_up()
        _testhost(state, "down-all", check=False)


@pytest.fixture(scope="session")
def server_factory() -> Iterator[ServerFactory]:
    """Starts a server by name (a-z, 0-9, '-'); all are removed when the session ends."""
    if reason := no_servers_because():
        if os.environ.get("FRAISIER_SERVERS") == "required":
            pytest.fail(reason)
        pytest.skip(f"SKIPPED WITHOUT REAL SERVERS: {reason}")
    state = Path(tempfile.mkdtemp(prefix="fraisier-servers-", dir="/var/tmp"))
    try:
        with servers_in(state) as up:
            yield up
    finally:
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="module")
def server(server_factory: ServerFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for a module's tests."""
    name = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")[:20]
    started = server_factory(name)
    yield started
    started.down()
