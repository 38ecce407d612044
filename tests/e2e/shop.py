"""A server with systemd, a git repository and Fraisier on it, driven from outside: webhooks and SSH."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import Server
from tests.unit.signing import SECRET, github_push

ROOT = Path(__file__).parents[2]
APP, PORT, CONFIG = "/var/www/shop", 8000, "/etc/fraisier/fraises.yaml"
FINAL = {"success", "failed", "rolled_back", "rollback_failed", "cancelled", "superseded"}
DATABASE = "sqlite:///var/lib/fraisier/fraisier.db"
FRAISIER = f"{sys.executable} -m fraisier --config {CONFIG}"

SERVICE = """
import http.server, os, time
VERSION = open("VERSION").read().strip()
while os.path.exists("/srv/hold/start"):
    time.sleep(0.05)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = VERSION.startswith("sick") and self.path == "/health"
        self.send_response(503 if sick else 200)
        self.end_headers()
        self.wfile.write(VERSION.encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
UNIT = f"""
[Unit]
StartLimitIntervalSec=0
[Service]
User=shop
WorkingDirectory={APP}/current
ExecStart=/usr/bin/python3 service.py
Restart=on-failure
RestartSec=200ms
[Install]
WantedBy=multi-user.target
"""
FRAISIER_UNIT = f"""
[Unit]
After=network.target
StartLimitIntervalSec=0
[Service]
ExecStart={FRAISIER} serve --host 0.0.0.0
WorkingDirectory=/
Restart=always
RestartSec=100ms
KillMode=mixed
[Install]
WantedBy=multi-user.target
"""
YAML = f"""
git:
  github: {{webhook_secret: "{SECRET.decode()}"}}
database: {{url: "{DATABASE}"}}
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
        app_path: {APP}
        user: shop
        systemd_service: shop.service
        unit_file: shop.service
        min_free_disk: 10MB
        build: ["while test -e /srv/hold/build; do sleep 0.05; done", "id -un > built-by"]
        health_check: {{url: "http://127.0.0.1:{PORT}/health", interval: 0.2, timeout: 20}}
"""


def until(what: str, look: Any, seconds: float = 40.0) -> Any:
    """What `look` returns as soon as it is true; fails after `seconds`."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (OSError, AssertionError, ValueError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:g} s for {what} ({last})")


@dataclass
class Shop:
    """The server's outside."""

    server: Server
    database: str = DATABASE
    commits: dict[str, str] = field(default_factory=dict)

    def set_up(self, *, app_of_user: bool = False) -> None:
        """Everything that an administrator does once.

        With `app_of_user` they made the application's folder themselves and gave it to its user.
        """
        run = self.server.run
        run("useradd --system --create-home shop; mkdir -p /srv/git /srv/hold /srv/work; chmod 755 /srv/hold")
        if app_of_user:
            run(f"install -d -o shop -g shop {APP}")
        self.server.write("/srv/work/service.py", SERVICE)
        self.server.write("/srv/work/shop.service", UNIT)
        run("git init -q --bare -b main /srv/git/shop.git && git init -q -b main /srv/work")
        self.server.write(CONFIG, YAML.replace(DATABASE, self.database), mode=0o600)
        self.server.write("/etc/systemd/system/fraisier.service", FRAISIER_UNIT)
        run("systemctl daemon-reload && systemctl enable --now fraisier")
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when Fraisier answers that it is ready."""
        until("fraisier to be ready", lambda: self.get("/ready")[0] == 200)

    def get(self, path: str) -> tuple[int, str]:
        """What Fraisier answers."""
        try:
            with urllib.request.urlopen(f"http://{self.server.address}:8080{path}", timeout=3) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def commit(self, version: str, **files: str) -> str:
        """Commit and push a version; returns the commit."""
        for name, text in files.items():
            self.server.write(f"/srv/work/{name}", text)
        self.server.write("/srv/work/VERSION", version)
        identity = "-c user.name=Ada -c user.email=ada@example.com"
        self.server.run(
            f"cd /srv/work && git add -A && git {identity} commit -q -m {version} --allow-empty"
            " && git push -q --force /srv/git/shop.git HEAD:main"
        )
        self.commits[version] = self.server.run("git -C /srv/work rev-parse HEAD").stdout.strip()
        return self.commits[version]

    def webhook(self, commit: str) -> dict[str, Any]:
        """Deliver the signed push of a commit, as GitHub does; returns the answer."""
        delivery = github_push(commit)
        request = urllib.request.Request(
            f"http://{self.server.address}:8080/webhook", delivery.body, dict(delivery.headers), method="POST"
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 202, answer.read()
            return json.loads(answer.read())  # type: ignore[no-any-return]

    def push(self, version: str) -> str:
        """Push a version and deliver its webhook; returns the deployment's id."""
        return str(self.webhook(self.commit(version))["deployments"][0]["id"])

    def row(self, deployment: str) -> dict[str, Any]:
        """What `fraisier show --json` says."""
        shown = json.loads(self.server.run(f"{FRAISIER} show {deployment} --json").stdout)
        return dict(shown.get("deployment", shown))

    def ended(self, deployment: str, seconds: float = 60) -> dict[str, Any]:
        """The deployment once it has ended."""

        def look() -> dict[str, Any] | None:
            row = self.row(deployment)
            return row if row["status"] in FINAL else None

        return dict(until(f"the end of {deployment}", look, seconds))

    def hold(self, what: str) -> None:
        """Keep builds, or the service's start, waiting."""
        self.server.run(f"touch /srv/hold/{what}")

    def let_go(self, what: str) -> None:
        """Let it go on."""
        self.server.run(f"rm -f /srv/hold/{what}")

    def waits_in(self, deployment: str, step: str) -> None:
        """Return when a step has begun."""

        def look() -> bool:
            text = self.server.run(f"{FRAISIER} show {deployment} --json").stdout
            return f'"{step}"' in text

        until(f"step {step}", look)

    @property
    def answer(self) -> str:
        """What the deployed service answers; '' if it does not."""
        said = self.server.run(f"curl -s -m 2 http://127.0.0.1:{PORT}/ || true").stdout
        return said.strip()

    @property
    def current(self) -> str:
        """The version that `current` points to."""
        return self.server.run(f"cat {APP}/current/VERSION", check=False).stdout.strip()

    def kill_fraisier(self) -> None:
        """kill -9, main process only; systemd starts it again."""
        self.server.run("kill -9 $(systemctl show -p MainPID --value fraisier)")
