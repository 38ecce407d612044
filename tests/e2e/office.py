"""A server with systemd where scheduled commands are deployed to, by Fraisier there or from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.shop import until
from tests.servers import Server

APP, CONFIG = "/var/www/office", "/etc/fraisier/fraises.yaml"
PYTHON = sys.executable
FRAISIER = f"{PYTHON} -m fraisier --config {CONFIG}"
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
        self.server.run("mkdir -p /srv/git /srv/work")
        self.host.run("useradd --system --create-home office; install -d -o office /srv/said")
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

    @property
    def host(self) -> Server:
        """The server where the commands are run."""
        return self.server

    def units(self) -> list[str]:
        """The units that Fraisier wrote."""
        return self.host.run("cd /etc/systemd/system && ls -d fraisier-* 2>/dev/null || true").stdout.split()

    def timers(self) -> list[str]:
        """Those that are active."""
        shown = self.host.run(
            "systemctl list-units --plain --no-legend --state=active 'fraisier-*.timer'"
        ).stdout
        return sorted(line.split()[0] for line in shown.splitlines())

    def said(self, name: str) -> list[str]:
        """Lines that jobs wrote into a file."""
        return self.host.run(f"cat /srv/said/{name} 2>/dev/null || true").stdout.splitlines()

    def says(self, name: str, line: str, seconds: float = 60.0) -> None:
        """Return when a job has written the line."""
        until(f"{line!r} in {name}", lambda: line in self.said(name), seconds)

    def runs(self, job: str = "") -> list[dict[str, Any]]:
        """Rows of v_run_history, newest first."""
        rows = self._asked("SELECT * FROM v_run_history ORDER BY started_at DESC")
        return [row for row in rows if job in ("", row["job"])]

    def output(self, run: str) -> str:
        """What a run printed."""
        rows = self._asked("SELECT run, text FROM tb_run_output ORDER BY seq")
        return "".join(row["text"] for row in rows if row["run"] == run)

    def _asked(self, sql: str) -> list[dict[str, Any]]:
        read = (
            "import json, sqlite3, sys; c = sqlite3.connect('/var/lib/fraisier/fraisier.db'); "
            "c.row_factory = sqlite3.Row; print(json.dumps([dict(row) for row in c.execute(sys.argv[1])]))"
        )
        return list(json.loads(self.server.run(["python3", "-c", read, sql]).stdout))

    def json(self, line: str) -> Any:
        """What a command of Fraisier's answers with --json."""
        return json.loads(self.fraisier(f"{line} --json").stdout)


WEB = "web1.example.com"
HOSTS = f"""
hosts:
  {WEB}: {{user: deploy, identity_file: /etc/fraisier/key, known_hosts: /etc/fraisier/known_hosts}}
"""


@dataclass
class RemoteOffice(Office):
    """`server` has Fraisier and the repository; the commands are run on `web`, reached as somebody else."""

    web: Server = field(kw_only=True)

    @property
    def host(self) -> Server:
        """The server where the commands are run."""
        return self.web

    def set_up(self, jobs: Jobs) -> None:
        """Everything that is done once, but for `fraisier bootstrap`."""
        run = self.server.run
        run("mkdir -p /etc/fraisier && cat >>/etc/hosts", stdin=f"{self.web.address} {WEB}\n".encode())
        made = "ssh-keygen -q -t ed25519 -N '' -f /etc/fraisier/key && cat /etc/fraisier/key.pub"
        self.web.run("cat >>/root/.ssh/authorized_keys", stdin=run(made).stdout.encode())
        run(f"ssh-keyscan {WEB} >/etc/fraisier/known_hosts 2>/dev/null")
        self.more = f"hosts: {WEB}\n{self.more}"
        super().set_up(jobs)

    def configure(self, jobs: Jobs) -> None:
        """Write the configuration; whoever runs reads it again."""
        super().configure(jobs)
        self.server.run(["sh", "-c", f"printf %s '{HOSTS}' >> {CONFIG}"])
        self.server.run("systemctl kill -s HUP --kill-who=main fraisier 2>/dev/null || true")
