"""A host whose tools are busybox's: told what is missing before anything is done, or used where that is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fraisier.application.ports import Ground
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.ssh import SSHHost
from tests.integration.real_host_contract import OWNER, said
from tests.servers import Server, server, server_factory
from tests.servers.remote import options_for
from tests.unit.host_contract import Heard, archive

__all__ = ["server", "server_factory"]
pytestmark = pytest.mark.servers
APPLETS = "/opt/busybox"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def busybox(server: Server) -> Server:
    """A server whose programs are busybox's where it has any, but for sh."""
    if server.run("command -v busybox", check=False).returncode != 0:
        pytest.skip("there is no busybox here: apt-get install busybox")
    server.run(f"mkdir {APPLETS} && busybox --install -s {APPLETS}")
    server.write("/etc/ssh/sshd_config.d/busybox.conf", f"SetEnv PATH={APPLETS}:{PATH}\n")
    server.run("systemctl restart ssh")
    server.log_in_again()
    return server


@pytest.fixture
def host(busybox: Server, tmp_path: Path) -> Iterator[SSHHost]:
    with closing(SSHHost("web1", options_for(busybox, tmp_path))) as made:
        yield made


def test_busybox_alone_is_refused_with_what_is_missing(host: SSHHost) -> None:
    with pytest.raises(StepFailed) as refused:
        host.adopt(Ground(app_path="/srv/app", owner=OWNER, token=5))
    assert refused.value.cause is Cause.preflight
    assert "it lacks base64 timeout setpriv (busybox's do less than is needed)" in refused.value.message
    assert "Install coreutils, util-linux" in refused.value.hint
    with pytest.raises(StepFailed):
        host.kind("/srv/app")


def test_what_is_installed_meanwhile_is_found_and_the_rest_may_be_busyboxs(
    host: SSHHost, busybox: Server
) -> None:
    with pytest.raises(StepFailed):
        host.kind("/srv/app")
    busybox.run(f"cd {APPLETS} && /bin/rm base64 timeout setpriv")
    ground = Ground(app_path="/srv/app", owner=OWNER, token=5)
    host.adopt(ground)
    with host.guard(ground):
        host.make_folder("/srv/app/releases/1-aaaaaaa", user="nobody")
    host.unpack(archive(src__app="x"), "/srv/app/releases/1-aaaaaaa", user="nobody", job=Heard().job)
    with host.guard(ground):
        host.write("/srv/app/.fraisier/x", b"y")
        host.point("/srv/app/current", "releases/1-aaaaaaa")
    assert said(host, ground, "id -un; ls -R /srv/app/current/", user="nobody").startswith("nobody\n")
    with host.guard(ground):
        host.remove("/srv/app/releases/1-aaaaaaa", user="nobody")
    assert host.read("/srv/app/.fraisier/x") == b"y"


def test_a_shell_that_prefers_busyboxs_programs_is_refused(busybox: Server, tmp_path: Path) -> None:
    busybox.run("/bin/ln -sf busybox /usr/bin/sh")
    with (
        closing(SSHHost("web1", options_for(busybox, tmp_path))) as host,
        pytest.raises(StepFailed) as refused,
    ):
        host.kind("/srv/app")
    assert "busybox's do less than is needed" in refused.value.message
    assert "a /bin/sh that is not busybox's" in refused.value.hint
