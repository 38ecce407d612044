"""A controller with Fraisier, and many servers that it deploys one environment to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.shop import APP, CONFIG, FINAL, FRAISIER, FRAISIER_UNIT, PORT, SERVICE, UNIT, Shop, until
from tests.servers import Server
from tests.unit.signing import SECRET

YAML = """
git:
  github: {{webhook_secret: "{secret}"}}
database: {{url: "sqlite:///var/lib/fraisier/fraisier.db"}}
worker: {{lease: 3s, shutdown_grace: 1s}}
sweep_interval: 0
hosts:
{options}
fraises:
  shop:
    repository: acme/orders
    clone_url: /srv/git/shop.git
    environments:
      production:
        branch: main
        hosts: [{names}]
        rollout: {{batch: 3, canary: 1}}
        app_path: {app}
        user: shop
        systemd_service: shop.service
        min_free_disk: 10MB
        build: ["hostname > built-on"]
        health_check: {{url: "http://127.0.0.1:{port}/health", interval: 0.2, timeout: 20, passes: 1}}
"""

_HELD = "    time.sleep(0.05)\n"
_TELLS = f'    open("/srv/hold/begun", "w").close()\n{_HELD}'


@dataclass
class FleetShop(Shop):
    """`server` has Fraisier and the repository, `webs` the application."""

    webs: Sequence[Server] = field(kw_only=True)

    def set_up(self, *, app_of_user: bool = False) -> None:
        """Everything that an administrator does once."""
        run, names = self.server.run, [web.name for web in self.webs]
        known = "".join(f"{web.address} {web.name}\n" for web in self.webs).encode()
        run("mkdir -p /srv/git /srv/work && cat >>/etc/hosts", stdin=known)
        self.server.write("/srv/work/service.py", SERVICE.replace(_HELD, _TELLS))
        run("git init -q --bare -b main /srv/git/shop.git && git init -q -b main /srv/work")
        reached = "user: root, identity_file: /etc/fraisier/key, known_hosts: /etc/fraisier/known_hosts"
        options = "\n".join(f"  {name}: {{{reached}}}" for name in names)
        told = {"names": ", ".join(names), "options": options, "secret": SECRET.decode()}
        self.server.write(CONFIG, YAML.format(app=APP, port=PORT, **told), mode=0o600)
        key = run("ssh-keygen -q -t ed25519 -N '' -f /etc/fraisier/key && cat /etc/fraisier/key.pub").stdout
        run(f"ssh-keyscan {' '.join(names)} >/etc/fraisier/known_hosts 2>/dev/null")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda web: self._set_up(web, key), self.webs))
        self.server.write("/etc/systemd/system/fraisier.service", FRAISIER_UNIT)
        run("systemctl daemon-reload && systemctl restart fraisier")
        self.wait_until_ready()

    def _set_up(self, web: Server, key: str) -> None:
        web.run("useradd --system --create-home shop; mkdir -p -m 777 /srv/hold")
        web.run("cat >>/root/.ssh/authorized_keys", stdin=key.encode())
        web.write("/etc/systemd/system/shop.service", UNIT)
        web.run("chmod 777 /srv/hold; systemctl daemon-reload; systemctl enable -q shop")

    def on(self, web: Server, line: str) -> str:
        """What a line prints on a server, also while the network is parted."""
        argv = ("nsenter", "-t", str(web.pid), "-a", "sh", "-c", line)
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout.strip()

    @property
    def answers(self) -> list[str]:
        """What the service answers on each server; '' where it does not."""
        line = f"curl -s -m 2 http://127.0.0.1:{PORT}/ || true"
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda web: self.on(web, line), self.webs))

    def hold_start(self, web: Server) -> None:
        """Its next release will not come up until it is let go."""
        web.run("rm -f /srv/hold/begun; touch /srv/hold/start")

    def waits_at_start(self, web: Server, deployment: str) -> None:
        """Return when the service of a server has been started anew, and is held."""

        def look() -> bool:
            row = self.row(deployment)
            if row["status"] in FINAL:
                pytest.fail(f"it ended before the turn of {web.name}: {row}")
            return bool(self.on(web, "ls /srv/hold/begun 2>/dev/null"))

        until(f"{web.name} to be restarted", look, 150)

    def status(self) -> dict[str, Any]:
        """What `fraisier status --json` says of the environment."""
        (row,) = json.loads(self.server.run(f"{FRAISIER} status shop production --json").stdout)
        return dict(row)

    def states(self) -> list[str]:
        """Where each host stands."""
        return [host["state"] for host in self.status()["hosts"]]
