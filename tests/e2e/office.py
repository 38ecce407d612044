"""A server with systemd where scheduled commands are deployed to, by Fraisier there or from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.e2e.shop import until
from tests.servers import Server

APP, CONFIG = "/var/www/office", "/etc/fraisier/fraises.yaml"
FRAISIER = f"{sys.executable} -m fraisier --config {CONFIG}"
UNIT = f"""
[Unit]
After=network.target
[Service]
ExecStart={FRAISIER} worker
WorkingDirectory=/
Restart=always
RestartSec=100ms
KillMode=mixed
[Install]
WantedBy=multi-user.target
"""
YAML = """
git: {github: {webhook_secret: "0123456789abcdef0123456789abcdef"}}
database: {url: "sqlite:///var/lib/fraisier/fraisier.db"}
worker: {lease: 3s, shutdown_grace: 1s}
sweep_interval: 0
fraises:
  office:
    type: scheduled
    repository: acme/office
    clone_url: /srv/git/office.git
    environments:
      production:
        branch: main
        app_path: /var/www/office
        user: office
        min_free_disk: 10MB
        env: {GREETING: hello, API_TOKEN: "sesame-open-1234"}
        smoke: test ! -e broken
@more@
        jobs:
@jobs@
"""
Jobs = dict[str, str]


@dataclass
class Office:
    """The server, and what an administrator does there."""

    server: Server
    more: str = ""

    def set_up(self, jobs: Jobs) -> None:
        """Everything that is done once."""
        self.server.run("useradd --system --create-home office; mkdir -p /srv/git /srv/work /srv/said")
        self.server.run("chown office /srv/said")
        self.server.run("git init -q --bare -b main /srv/git/office.git && git init -q -b main /srv/work")
        self.server.write("/etc/systemd/system/fraisier.service", UNIT)
        self.configure(jobs)
        self.server.run("systemctl daemon-reload && systemctl enable --now fraisier")

    def configure(self, jobs: Jobs) -> None:
        """Write the configuration; whoever runs reads it again."""
        lines = "\n".join(f"          {name}: {told}" for name, told in jobs.items())
        more = "\n".join(f"        {line}" for line in self.more.splitlines())
        self.server.write(CONFIG, YAML.replace("@more@", more).replace("@jobs@", lines), mode=0o600)
        self.server.run("systemctl kill -s HUP --kill-who=main fraisier 2>/dev/null || true")

    def commit(self, version: str, **files: str) -> str:
        """Commit and push a version; returns the commit."""
        for name, text in {**files, "VERSION": version + "\n"}.items():
            self.server.write(f"/srv/work/{name}", text)
        identity = "-c user.name=Ada -c user.email=ada@example.com"
        self.server.run(
            f"cd /srv/work && git add -A && git {identity} commit -q -m {version} --allow-empty"
            " && git push -q --force /srv/git/office.git HEAD:main"
        )
        return self.server.run("git -C /srv/work rev-parse HEAD").stdout.strip()

    def fraisier(self, line: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of Fraisier's, there."""
        return self.server.run(f"{FRAISIER} {line}", check=check, timeout=120)

    def deploy(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Deploy the branch, and wait for it."""
        return self.fraisier("deploy office production --force", check=check)

    def units(self) -> list[str]:
        """The units that Fraisier wrote."""
        return self.server.run(
            "cd /etc/systemd/system && ls -d fraisier-* 2>/dev/null || true"
        ).stdout.split()

    def timers(self) -> list[str]:
        """Those that are active."""
        shown = self.server.run(
            "systemctl list-units --plain --no-legend --state=active 'fraisier-*.timer'"
        ).stdout
        return sorted(line.split()[0] for line in shown.splitlines())

    def said(self, name: str) -> list[str]:
        """Lines that jobs wrote into a file."""
        return self.server.run(f"cat /srv/said/{name} 2>/dev/null || true").stdout.splitlines()

    def says(self, name: str, line: str, seconds: float = 60.0) -> None:
        """Return when a job has written the line."""
        until(f"{line!r} in {name}", lambda: line in self.said(name), seconds)

    def json(self, line: str) -> Any:
        """What a command of Fraisier's answers with --json."""
        return json.loads(self.fraisier(f"{line} --json").stdout)
