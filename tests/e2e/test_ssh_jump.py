"""A server that can only be reached through another one: ProxyJump of the user's own ssh configuration."""

from __future__ import annotations

import pytest

from tests.e2e.remote_shop import FRAISIER, WEB, RemoteShop

pytestmark = pytest.mark.servers
# The name is known on the bastion alone, so nothing gets there but through it.
CONFIG = f"""
Host bastion.example.com
    User root
    IdentityFile /etc/fraisier/key
    UserKnownHostsFile /etc/fraisier/known_hosts
Host {WEB}
    HostName web.internal
    HostKeyAlias {WEB}
    ProxyJump bastion.example.com
"""


@pytest.fixture(scope="module")
def shop(server_factory):
    bastion, web = server_factory("bastion"), server_factory("behind")
    made = RemoteShop(server_factory("outside"), web=web)
    made.set_up()
    run = made.server.run
    run(f"sed -i '/{WEB}/d' /etc/hosts && echo '{bastion.address} bastion.example.com' >>/etc/hosts")
    run("ssh-keyscan bastion.example.com >>/etc/fraisier/known_hosts 2>/dev/null")
    made.server.write("/root/.ssh/config", CONFIG, mode=0o600)
    bastion.run("cat >>/root/.ssh/authorized_keys", stdin=run("cat /etc/fraisier/key.pub").stdout.encode())
    bastion.run(f"echo '{web.address} web.internal' >>/etc/hosts")
    yield made
    for server in (made.server, bastion, web):
        server.down()


def test_a_server_behind_another_one_is_set_up_deployed_to_and_rolled_back(shop):
    assert shop.server.run("getent hosts web.internal", check=False).returncode != 0
    shop.server.run(f"{FRAISIER} bootstrap {WEB}")
    shop.start()
    row = shop.ended(shop.push("one"))
    assert row["status"] == "success", row
    assert shop.answer == "one"
    row = shop.ended(shop.push("sick"))
    assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), row
    assert shop.answer == "one"
