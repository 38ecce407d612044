"""The shop in containers on two servers, which Fraisier reaches over SSH as a user who is not root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.e2e.dock import _BASE, DOCKERFILE, PROJECT, plugin
from tests.e2e.shop import APP, CONFIG, FRAISIER, FRAISIER_UNIT, PORT, Shop, until
from tests.servers import Server
from tests.unit.signing import SECRET

COMPOSE = f"""
services:
  web:
    build: .
    ports: ["127.0.0.1:{PORT}:80"]
    environment: {{GREETING: "${{GREETING}}"}}
    restart: unless-stopped
    stop_signal: SIGKILL
"""
_YAML = """
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
        app_path: {app}
        user: shop
        compose_file: compose.yaml
        min_free_disk: 10MB
        restart_timeout: 20
        env: {{GREETING: hello}}
        keep_releases: 2
        health_check: {{url: "{url}", interval: 0.2, timeout: 8}}
        {more}
"""


@dataclass
class DockFleet(Shop):
    """`server` has Fraisier and the repository, `docks` have docker."""

    docks: Sequence[Server] = field(kw_only=True)

    def set_up(self, *, app_of_user: bool = False) -> None:
        """Everything that an administrator does once, but for `fraisier bootstrap`."""
        run, names = self.server.run, [dock.name for dock in self.docks]
        run("mkdir -p /srv/git /srv/work && cat >>/etc/hosts", stdin=self._known().encode())
        self.server.write("/srv/work/compose.yaml", COMPOSE)
        self.server.write("/srv/work/Dockerfile", DOCKERFILE)
        run("git init -q --bare -b main /srv/git/shop.git && git init -q -b main /srv/work")
        key = run("mkdir -p /etc/fraisier && ssh-keygen -q -t ed25519 -N '' -f /etc/fraisier/key")
        key = run("cat /etc/fraisier/key.pub")
        run(f"ssh-keyscan {' '.join(names)} >/etc/fraisier/known_hosts 2>/dev/null")
        for dock in self.docks:
            dock.run("cat >>/root/.ssh/authorized_keys; mkdir -m 777 /srv/hold", stdin=key.stdout.encode())
            dock.run("mkdir -p /usr/local/lib/docker/cli-plugins; systemctl enable -q --now docker")
            dock.run(f"ln -sf {plugin()} /usr/local/lib/docker/cli-plugins/docker-compose")
            dock.run(_BASE)
        self.server.write("/etc/systemd/system/fraisier.service", FRAISIER_UNIT)
        self.configure()

    def _known(self) -> str:
        return "".join(f"{dock.address} {dock.name}\n" for dock in self.docks)

    def configure(self, more: str = "", url: str = f"http://127.0.0.1:{PORT}/health") -> None:
        """Other keys from now on; a Fraisier that runs is told."""
        reached = "user: deploy, identity_file: /etc/fraisier/key, known_hosts: /etc/fraisier/known_hosts"
        names = [dock.name for dock in self.docks]
        told = {
            "options": "\n".join(f"  {name}: {{{reached}}}" for name in names),
            "names": ", ".join(names),
            "secret": SECRET.decode(),
        }
        self.server.write(CONFIG, _YAML.format(app=APP, url=url, more=more, **told), mode=0o600)
        self.server.run("systemctl is-active -q fraisier && systemctl restart fraisier || true")

    def start(self) -> None:
        """Fraisier on the controller."""
        self.server.run("systemctl daemon-reload && systemctl restart fraisier")
        self.wait_until_ready()

    @property
    def answers(self) -> list[str]:
        """What the service answers on each server; '' where it does not."""
        line = f"curl -s -m 2 http://127.0.0.1:{PORT}/ || true"
        return [dock.run(line).stdout.strip() for dock in self.docks]

    @property
    def linked(self) -> list[str]:
        """What answers at the linked socket of each server."""
        line = f"curl -s -m 5 --unix-socket {APP}/current.sock http://shop/ || true"
        return [dock.run(line).stdout.strip() for dock in self.docks]

    def projects(self) -> list[list[str]]:
        """The projects that have containers, on each server."""
        return [dock.run("docker compose ls --all --quiet").stdout.split() for dock in self.docks]


__all__ = ["APP", "FRAISIER", "PROJECT", "DockFleet", "until"]
