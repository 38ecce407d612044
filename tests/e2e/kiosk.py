"""A shop behind a proxy, whose releases change while people buy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.shop import APP, CONFIG, FRAISIER, FRAISIER_UNIT, ROOT, SECRET, Shop, until

LINK = f"{APP}/current.sock"
NGINX = f"""
daemon off;
worker_processes 1;
pid /run/kiosk-nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  upstream shop {{ server unix:{LINK} max_fails=0; }}
  server {{
    listen 80 backlog=4096;
    location / {{
      proxy_pass http://shop;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
}}
"""
PROXY_UNIT = """
[Unit]
After=network.target
[Service]
ExecStart={command}
Restart=always
RestartSec=100ms
[Install]
WantedBy=multi-user.target
"""
YAML = """
git:
  github: {{webhook_secret: "{secret}"}}
database: {{url: "sqlite:///var/lib/fraisier/fraisier.db"}}
worker: {{lease: 3s, shutdown_grace: 1s}}
sweep_interval: 0
fraises:
  shop:
    type: api
    repository: acme/orders
    clone_url: /srv/git/shop.git
    environments:
      production:
        branch: main
        app_path: {app}
        user: shop
        systemd_service: shop.service
        run: /usr/bin/python3 service.py
        min_free_disk: 10MB
        health_check: {{url: "http://127.0.0.1:8000/health", interval: 0.2, timeout: {patience}}}
        drain_timeout: 4s
        {more}
"""


class Kiosk(Shop):
    """The server's outside; `more` are further keys of its environment."""

    def set_up(self, *, more: str = "cutover: blue_green", app_of_user: bool = False) -> None:
        """Everything that an administrator does once."""
        assert not app_of_user
        run = self.server.run
        run("useradd --system --create-home shop; mkdir -p /srv/git /srv/hold /srv/work; chmod 755 /srv/hold")
        self.server.write("/srv/work/service.py", (ROOT / "tools/cutover_service.py").read_text())
        run("git init -q --bare -b main /srv/git/shop.git && git init -q -b main /srv/work")
        self.server.write("/etc/systemd/system/fraisier.service", FRAISIER_UNIT)
        self.configure(more)
        run("systemctl daemon-reload && systemctl enable --now fraisier")
        self.wait_until_ready()

    def configure(self, more: str, *, patience: int = 3) -> None:
        """Other keys, and seconds for a release to become healthy, from now on; a Fraisier that runs is told."""
        text = YAML.format(secret=SECRET.decode(), app=APP, more=more, patience=patience)
        self.server.write(CONFIG, text, mode=0o600)
        self.server.run("systemctl is-active -q fraisier && systemctl restart fraisier || true")

    def proxy(self, text: str = NGINX, command: str = "/usr/sbin/nginx -c /etc/kiosk.conf") -> None:
        """Start a proxy."""
        self.server.write("/etc/kiosk.conf", text)
        self.server.write("/etc/systemd/system/kiosk-proxy.service", PROXY_UNIT.format(command=command))
        self.server.run("systemctl daemon-reload && systemctl enable -q --now kiosk-proxy")

    @contextmanager
    def customers(self, rate: float = 100, port: int = 80) -> Iterator[Counted]:
        """Requests from outside all the while; what became of them is known afterwards."""
        argv = (sys.executable, "-m", "tools.cutover_client", self.server.address, str(port), str(rate))
        client = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        counted = Counted()
        try:
            yield counted
        finally:
            out, _ = client.communicate(timeout=60)
        counted.take(json.loads(out))

    @property
    def answer(self) -> str:
        """What the service answers through the link; '' if it does not."""
        said = self.server.run(f"curl -s -m 2 --unix-socket {LINK} http://shop/ || true").stdout
        return said.split(" ")[0].strip()

    @property
    def instances(self) -> list[str]:
        """The units of the shop that run, besides its socket."""
        shown = self.server.run(
            "systemctl list-units --plain --no-legend --state=active,activating,deactivating,failed"
            " 'shop@*' shop.service"
        ).stdout
        return [line.split()[0] for line in shown.splitlines()]

    @property
    def serving(self) -> str:
        """The instance that ought to run: that of `current`."""
        return f"shop@{self.server.run(f'basename $(readlink {APP}/current)').stdout.strip()}.service"

    def is_tidy(self) -> bool:
        """Exactly one instance runs, the one that serves; no other is left at any place."""
        run = self.server.run
        release = self.serving.removeprefix("shop@").removesuffix(".service")
        assert self.instances == [self.serving], self.instances
        assert run("ls /run/shop").stdout.split() == [release]
        assert run(f"readlink {LINK}").stdout.strip() == f"/run/shop/{release}/service.sock"
        assert run(f"ls {APP}/.fraisier/instances").stdout.split() == [f"{release}.env"]
        assert run("ls /etc/systemd/system | grep '^shop@'").stdout.split() == [self.serving]
        wanted = run("ls /etc/systemd/system/multi-user.target.wants | grep '^shop'").stdout.split()
        assert wanted == [self.serving]
        return True

    def why(self, deployment: str) -> str:
        """What a deployment printed, for a test that fails."""
        return self.server.run(f"{FRAISIER} logs {deployment}", check=False).stdout[-4000:]

    def deployed(self, version: str, status: str = "success", **files: str) -> dict[str, Any]:
        """Push a version and wait for its end, which has to be this one."""
        commit = self.commit(version, **files)
        deployment = str(self.webhook(commit)["deployments"][0]["id"])
        row = self.ended(deployment)
        assert row["status"] == status, (row, self.why(deployment))
        return row


@dataclass
class Counted:
    """What became of the customers' requests."""

    requests: int = 0
    failed: dict[str, int] | None = None
    versions: dict[str, int] | None = None
    cut: int = 0
    websockets: int = 0

    def take(self, told: dict[str, Any]) -> None:
        """What the client counted."""
        self.requests, self.failed, self.versions = told["requests"], told["failed"], told["versions"]
        self.cut, self.websockets = told["cut"], told["websockets"]


__all__ = ["LINK", "Kiosk", "until"]
