"""A real server as a host over SSH: the contract as root and as somebody whom sudo lets run others' commands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from fraisier.application.ports import Ground, Host
from fraisier.hosts.ssh import SSHHost
from tests.integration.real_host_contract import OWNER, RealHostContract
from tests.servers import Server, server, server_factory
from tests.servers.remote import options_for

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
