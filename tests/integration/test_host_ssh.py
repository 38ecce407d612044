"""A real server as a host over SSH: the contract as root and as somebody whom sudo lets run others' commands."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.ports import Ground, Host, Job
from fraisier.application.settings import HostOptions
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, ForeignOwner, HostUnreachable, StepFailed, TokenOutdated
from fraisier.hosts.ssh import SSHHost
from tests.e2e.shop import until
from tests.integration.real_host_contract import OWNER, RealHostContract, alive, said
from tests.servers import Server, server, server_factory
from tests.servers.remote import options_for
from tests.unit.host_contract import Heard, archive

__all__ = ["server", "server_factory"]
pytestmark = pytest.mark.servers
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def as_root(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHHost]:
    host = SSHHost("web1", options_for(server, tmp_path_factory.mktemp("ssh")))
    yield host
    host.close()


@pytest.fixture(scope="module")
def as_deploy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHHost]:
    """A user that may do nothing but what sudoers says."""
    server.run(
        "useradd --create-home deploy; useradd --system shop; usermod -aG shop deploy; "
        "install -d -o deploy /srv/apps; install -d -m 700 -o deploy /home/deploy/.ssh; "
        "install -m 600 -o deploy /root/.ssh/authorized_keys /home/deploy/.ssh/authorized_keys; "
        "echo 'deploy ALL=(shop) NOPASSWD: ALL' >/etc/sudoers.d/deploy"
    )
    host = SSHHost("web1", options_for(server, tmp_path_factory.mktemp("ssh"), user="deploy"))
    yield host
    host.close()


class TestAsRoot(RealHostContract):
    other = "nobody"

    @pytest.fixture
    def host(self, as_root: SSHHost) -> Host:
        return as_root

    @pytest.fixture
    def ground(self) -> Ground:
        return Ground(app_path=f"/var/www/app{next(_numbers)}", owner=OWNER, token=5)


class TestAsSomebody(RealHostContract):
    other = "shop"

    @pytest.fixture
    def host(self, as_deploy: SSHHost) -> Host:
        return as_deploy

    @pytest.fixture
    def ground(self) -> Ground:
        return Ground(app_path=f"/srv/apps/app{next(_numbers)}", owner=OWNER, token=5)


@pytest.fixture
def ground(as_root: SSHHost) -> Ground:
    made = Ground(app_path=f"/var/www/app{next(_numbers)}", owner=OWNER, token=5)
    as_root.adopt(made)
    return made


def test_a_full_disk_is_told_as_such(as_root: SSHHost, server: Server) -> None:
    disk = f"/srv/disk{next(_numbers)}"
    server.run(f"mkdir {disk} && mount -t tmpfs -o size=64k,mode=1777 none {disk}")
    try:
        with pytest.raises(StepFailed) as writing:
            as_root.write(f"{disk}/x", b"x" * 100_000)
        assert as_root.list(disk) == []
        as_root.make_folder(f"{disk}/release", user="nobody")
        with pytest.raises(StepFailed) as unpacking:
            as_root.unpack(archive(a="x" * 100_000), f"{disk}/release", user="nobody", job=Heard().job)
        assert [writing.value.cause, unpacking.value.cause] == [Cause.disk, Cause.disk]
    finally:
        server.run(f"umount {disk}")


def test_root_there_does_not_follow_a_users_links(as_root: SSHHost, server: Server) -> None:
    app, system = (f"/srv/{name}{next(_numbers)}" for name in ("theirs", "system"))
    server.run(f"install -d -o nobody {app}; mkdir {system}; echo precious >{system}/.profile")
    theirs = Ground(app_path=app, owner=OWNER, token=5)
    as_root.adopt(theirs)
    with as_root.guard(theirs):
        as_root.make_folder(f"{app}/releases/1-aaaaaaa", user="nobody")
        as_root.write(f"{app}/.fraisier/releases/1-aaaaaaa.json", b"{}", mode=0o640)
        as_root.point(f"{app}/current", "releases/1-aaaaaaa")
    assert said(as_root, theirs, "id -un", user="nobody") == "nobody\n"
    assert as_root.read(f"{app}/.fraisier/releases/1-aaaaaaa.json") == b"{}"
    said(as_root, theirs, f"ln -s {system} {app}/releases/1-aaaaaaa/config", user="nobody")
    acts = [
        lambda: as_root.point(f"{app}/releases/1-aaaaaaa/config/cron", "/tmp/evil"),
        lambda: as_root.write(f"{app}/releases/1-aaaaaaa/config/cron", b"evil"),
        lambda: as_root.make_folder(f"{app}/releases/1-aaaaaaa/config/cron", user="nobody"),
    ]
    for act in acts:
        with pytest.raises(StepFailed):
            act()
    said(as_root, theirs, f"ln -s /etc/shadow {app}/releases/1-aaaaaaa/env", user="nobody")
    assert as_root.read(f"{app}/releases/1-aaaaaaa/env") is None
    for swapped in (".fraisier/scopes", ".fraisier/releases", ".fraisier"):
        server.run(f"mv {app}/{swapped} {app}/aside; ln -s {system} {app}/{swapped}")
        for act in (
            lambda: as_root.adopt(replace(theirs, token=6)),
            lambda: said(as_root, theirs, "true"),
            lambda: as_root.write(f"{app}/{swapped}/x.json", b"evil"),  # noqa: B023
        ):
            with contextlib.suppress(StepFailed, TokenOutdated):
                act()
        server.run(f"rm {app}/{swapped}; mv {app}/aside {app}/{swapped}")
        assert server.run(f"ls -A {system}").stdout.split() == [".profile"], swapped


def test_a_folder_that_was_deployed_to_locally_goes_on_over_ssh(as_root: SSHHost, server: Server) -> None:
    ground = Ground(app_path=f"/var/www/app{next(_numbers)}", owner=OWNER, token=5)
    program = (
        "from fraisier.application.ports import Ground; from fraisier.hosts.local import LocalHost; import sys; "
        f"LocalHost().adopt(Ground(app_path={ground.app_path!r}, owner={OWNER!r}, token=int(sys.argv[1])))"
    )

    def locally(token: int) -> str:
        root = Path(__file__).parents[2]
        line = f'cd {root} && {sys.executable} -c "{program}" {token}'
        return server.run(line, check=False).stderr

    assert locally(5) == ""
    with as_root.guard(ground):
        as_root.write(f"{ground.app_path}/shared/x", b"")
    as_root.adopt(replace(ground, token=6))
    assert "ForeignOwner" in locally(5)
    assert locally(7) == ""
    with pytest.raises(TokenOutdated), as_root.guard(replace(ground, token=6)):
        pytest.fail("an outdated token was let in")
    with pytest.raises(ForeignOwner):
        as_root.adopt(replace(ground, token=6))


WORKER = f"""
import sys, threading
from fraisier.application.ports import Ground, Job
from fraisier.application.settings import HostOptions
from fraisier.domain.acts import Command
from fraisier.hosts.ssh import SSHHost
host = SSHHost("web1", HostOptions(*sys.argv[1:2], user="root", identity_file=sys.argv[2], known_hosts=sys.argv[3]))
ground = Ground(app_path=sys.argv[4], owner={OWNER!r}, token=5)
host.run(ground, Command.shell(sys.argv[5], cwd="/"), Job(threading.Event(), lambda data: print(data, flush=True)))
""".replace("*sys.argv[1:2]", "address=sys.argv[1]")


def test_what_a_killed_worker_ran_ends_there_at_once(
    as_root: SSHHost, server: Server, ground: Ground, tmp_path: Path
) -> None:
    mark, options = f"61.{next(_numbers)}", options_for(server, tmp_path)
    line = f"(setsid sleep {mark} &); echo begun; trap '' HUP PIPE TERM; sleep {mark}"
    argv = (options.address, options.identity_file, options.known_hosts, ground.app_path, line)
    worker = subprocess.Popen(
        (sys.executable, "-c", WORKER, *argv), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert worker.stdout is not None
    with worker.stdout:
        assert b"begun" in worker.stdout.readline()
        worker.kill()
        worker.wait()
    until("what it ran to end", lambda: not alive(as_root, mark))
    until("its record to go", lambda: as_root.list(f"{ground.app_path}/.fraisier/scopes") == [])


def test_what_a_paused_worker_ran_ends_there_and_is_no_failure_of_the_command(
    as_root: SSHHost, server: Server, ground: Ground, tmp_path: Path
) -> None:
    mark, options = f"64.{next(_numbers)}", options_for(server, tmp_path)
    argv = (options.address, options.identity_file, options.known_hosts, ground.app_path)
    # Three seconds of silence are enough here.
    hasty = "import fraisier.hosts.ssh_connection as c; c.SILENCE, c.BEAT = 3, 0.5\n" + WORKER
    worker = subprocess.Popen(
        (sys.executable, "-c", hasty, *argv, f"echo begun; trap '' TERM; sleep {mark}; sleep {mark}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=Path(__file__).parents[2],
    )
    assert worker.stdout is not None
    with worker.stdout:
        assert b"begun" in worker.stdout.readline()
        worker.send_signal(signal.SIGSTOP)
        assert alive(as_root, mark)
        until("what it ran to end", lambda: not alive(as_root, mark))
        worker.send_signal(signal.SIGCONT)
        assert b"HostUnreachable" in worker.stdout.read()
    worker.wait()


def test_a_lost_connection_fails_what_runs_and_the_next_one_works(
    as_root: SSHHost, server: Server, ground: Ground, tmp_path: Path
) -> None:
    host, mark, begun = (
        SSHHost("web1", options_for(server, tmp_path)),
        f"62.{next(_numbers)}",
        threading.Event(),
    )

    def lose(_: bytes) -> None:
        if not begun.is_set():
            begun.set()
            server.run("pkill -KILL -f '^sshd: root@notty' || true", check=False)

    line = Command.shell(f"echo begun; sleep {mark}", cwd="/")
    with pytest.raises(HostUnreachable) as lost:
        host.run(ground, line, Job(threading.Event(), lose))
    assert lost.value.cause.is_retried
    assert host.kind("/etc") == "folder"
    until("what ran to end", lambda: not alive(host, mark))
    host.close()
    as_root.close()  # its connection went, too


def test_a_connection_whose_socket_was_removed_is_made_anew(server: Server, tmp_path: Path) -> None:
    """Else ssh would connect for each session by itself, and no pulse would watch over them."""
    host = SSHHost("web1", options_for(server, tmp_path))
    assert host.kind("/") == "folder"
    before = host._connected()
    Path(before._control).unlink()
    assert host._connected() is not before
    with pytest.raises(ConnectionRefusedError):
        host.connect("127.0.0.1:1", timeout=10)
    host.close()


def test_a_host_whose_key_is_not_known_or_changed_is_refused_with_what_to_do(
    server: Server, tmp_path: Path
) -> None:
    options = options_for(server, tmp_path)
    known = Path(options.known_hosts)
    key = known.read_text()
    other = subprocess.run(
        ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")), check=True
    )
    assert other.returncode == 0
    for text, words in (
        ("", "not in known_hosts"),
        (f"{server.address} {(tmp_path / 'other.pub').read_text()}", "another one than known_hosts has"),
    ):
        known.write_text(text)
        with pytest.raises(HostUnreachable, match=words) as refused:
            SSHHost("web1", options).kind("/")
        assert refused.value.cause is Cause.host
        assert f"ssh-keyscan {server.address}" in refused.value.hint
        assert known.read_text() == text, "no key is taken over by itself"
    known.write_text(key)
    host = SSHHost("web1", options)
    assert host.kind("/") == "folder"
    host.close()


def test_a_host_where_nobody_listens_is_a_matter_of_the_network() -> None:
    with pytest.raises(HostUnreachable) as refused:
        SSHHost("web1", HostOptions(address="127.0.0.1", port=1)).kind("/")
    assert refused.value.cause is Cause.network
    assert "Connection refused" in refused.value.message
