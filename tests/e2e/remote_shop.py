"""A controller with Fraisier, and another server that it deploys to over SSH as an unprivileged user."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field

from tests.e2e.shop import APP, CONFIG, FRAISIER, FRAISIER_UNIT, PORT, SERVICE, UNIT, Shop, until
from tests.servers import Server
from tests.unit.signing import SECRET

WEB = "web1.example.com"
YAML = f"""
git:
  github: {{webhook_secret: "{SECRET.decode()}"}}
database: {{url: "sqlite:///var/lib/fraisier/fraisier.db"}}
worker: {{lease: 3s, shutdown_grace: 1s}}
sweep_interval: 0
hosts:
  {WEB}: {{user: deploy, identity_file: /etc/fraisier/key, known_hosts: /etc/fraisier/known_hosts}}
fraises:
  shop:
    repository: acme/orders
    clone_url: /srv/git/shop.git
    environments:
      production:
        branch: main
        hosts: {WEB}
        app_path: {APP}
        user: shop
        systemd_service: shop.service
        min_free_disk: 10MB
        build:
          - "touch /srv/hold/built; while test -e /srv/hold/build; do sleep 0.05; done"
          - "id -un > built-by; hostname > built-on"
        health_check: {{url: "http://127.0.0.1:{PORT}/health", interval: 0.2, timeout: 15}}
"""


@dataclass
class RemoteShop(Shop):
    """`server` has Fraisier and the repository, `web` the application."""

    web: Server = field(kw_only=True)

    def set_up(self, *, app_of_user: bool = False) -> None:
        """Everything that an administrator does once, but for `fraisier bootstrap`."""
        run = self.server.run
        run("mkdir -p /srv/git /srv/work && cat >>/etc/hosts", stdin=f"{self.web.address} {WEB}\n".encode())
        self.server.write("/srv/work/service.py", SERVICE)
        run("git init -q --bare -b main /srv/git/shop.git && git init -q -b main /srv/work")
        self.server.write(CONFIG, YAML, mode=0o600)
        public = run(
            "ssh-keygen -q -t ed25519 -N '' -f /etc/fraisier/key && cat /etc/fraisier/key.pub"
        ).stdout
        run(f"ssh-keyscan {WEB} >/etc/fraisier/known_hosts 2>/dev/null")
        self.web.run("cat >>/root/.ssh/authorized_keys; mkdir -p -m 777 /srv/hold", stdin=public.encode())
        self.web.write("/etc/systemd/system/shop.service", UNIT)
        self.web.run("chmod 777 /srv/hold; systemctl daemon-reload")
        self.server.write("/etc/systemd/system/fraisier.service", FRAISIER_UNIT)

    def start(self) -> None:
        """Fraisier on the controller."""
        self.server.run("systemctl daemon-reload && systemctl restart fraisier")
        self.wait_until_ready()

    def hold(self, what: str) -> None:
        """Keep builds, or the service's start, waiting."""
        self.web.run(f"rm -f /srv/hold/built; touch /srv/hold/{what}")

    def let_go(self, what: str) -> None:
        """Let it go on."""
        self.web.run(f"rm -f /srv/hold/{what}")

    def waits_in_build(self) -> None:
        """Return when the build waits on the other server."""
        until("the build to wait", lambda: self.inside("test -e /srv/hold/built && echo yes"))

    def inside(self, line: str) -> str:
        """What a line prints on the other server, also while the network is parted."""
        argv = ("nsenter", "-t", str(self.web.pid), "-a", "sh", "-c", line)
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout.strip()

    @property
    def builds(self) -> str:
        """Processes of a build that waits, on the other server."""
        return self.inside("ps axo args | grep -c '[t]est -e /srv/hold/build' | grep -v '^0' || true")

    @property
    def answer(self) -> str:
        """What the deployed service answers on its server; '' if it does not."""
        return self.web.run(f"curl -s -m 2 http://127.0.0.1:{PORT}/ || true").stdout.strip()

    @property
    def current(self) -> str:
        """The version that `current` points to."""
        return self.web.run(f"cat {APP}/current/VERSION", check=False).stdout.strip()


__all__ = ["APP", "CONFIG", "FRAISIER", "WEB", "RemoteShop", "until"]
