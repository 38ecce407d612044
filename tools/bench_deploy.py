"""A deployment that changes nothing, beside a shell script that does the same: part of `make bench`.

Both fetch an empty commit into a mirror, unpack it, sync it, switch a link, restart a unit and wait for one
healthy answer, in turn, each with a repository, a folder and a unit of its own. Where systemd can be had
(root), that happens on a test server that is started for it; else no unit is restarted, and that is said.

    python -m tools.bench_deploy [--rounds 15]
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTHOST = ROOT / "tests/servers/testhost"
SECRET = b"bench-secret"
WAIT = 60.0  # seconds for anything
OURS, SCRIPTS = 8090, 8091  # ports of the two services on the server
FINAL = ("success", "failed", "rolled_back", "rollback_failed", "cancelled", "superseded")

SERVICE = """\
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
UNIT = """\
[Unit]
StartLimitIntervalSec=0
[Service]
WorkingDirectory={app}/current
ExecStart=/usr/bin/env python3 service.py {port}
"""
CONFIG = """\
git:
  github: {{webhook_secret: "{secret}"}}
database: {{url: "sqlite://{folder}/fraisier.db"}}
sweep_interval: 0
state_folder: {folder}/state
fraises:
  bench:
    type: api
    repository: acme/bench
    clone_url: {folder}/ours.git
    environments:
      production:
        branch: main
        app_path: {folder}/ours
        {unit}
        keep_releases: 3
        health_check: {{url: "http://127.0.0.1:{port}/", passes: 1}}
"""
# The same acts by hand: fetch, unpack, sync, mark, link, rename, sync, restart, ask for health, prune.
SCRIPT = """\
#!/bin/sh
set -eu
cd {folder}/script
commit=$1
git --git-dir=mirror.git fetch --quiet --no-tags -- {folder}/script.git +refs/heads/main:refs/heads/main
test "$(git --git-dir=mirror.git rev-parse refs/heads/main)" = "$commit"
release=releases/$(date +%s%N)-$commit
mkdir "$release"
git --git-dir=mirror.git archive --format=tar "$commit" | tar --extract --file=- --no-same-owner -C "$release"
sync -f "$release"
echo "$commit" >"$release.whole"
sync "$release.whole"
ln -s "$release" current.new
mv -T current.new current
sync .
{restart}
until curl --silent --fail --output /dev/null --max-time 5 http://127.0.0.1:{port}/; do sleep 0.02; done
ls -d releases/*-* | grep -v whole | head -n -3 | xargs -r rm -rf
"""


# ---------------------------------------------------------------------------------------------- the place


@dataclass(frozen=True)
class Site:
    """Where both deploy to."""

    folder: Path
    systemd: bool

    def set_up(self) -> None:
        """Repositories, services, the script and the configuration."""
        for name in ("ours", "script"):
            _git("init", "--quiet", "--bare", "--initial-branch=main", str(self.folder / f"{name}.git"))
        work = self.folder / "work"
        _git("init", "--quiet", "--initial-branch=main", str(work))
        (work / "service.py").write_text(SERVICE)
        for number in range(200):  # as many files as a small service has
            path = work / "src" / f"part_{number % 20}" / f"module_{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"NUMBER = {number}\n" * 40)
        _git("-C", str(work), "add", ".")
        self._set_up_script()
        self._set_up_fraisier()

    def _set_up_script(self) -> None:
        folder = self.folder / "script"
        (folder / "releases").mkdir(parents=True)
        _git("init", "--quiet", "--bare", "--initial-branch=main", str(folder / "mirror.git"))
        restart = "systemctl restart bench-script.service" if self.systemd else "true"
        path = self.folder / "deploy.sh"
        path.write_text(SCRIPT.format(folder=self.folder, restart=restart, port=SCRIPTS))
        path.chmod(0o755)
        self._unit("script", folder, SCRIPTS)

    def _set_up_fraisier(self) -> None:
        unit = "systemd_service: bench-ours.service" if self.systemd else "# no unit"
        text = CONFIG.format(secret=SECRET.decode(), folder=self.folder, unit=unit, port=OURS)
        (self.folder / "fraises.yaml").write_text(text)
        self._unit("ours", self.folder / "ours", OURS)

    def _unit(self, name: str, app: Path, port: int) -> None:
        if self.systemd:
            path = Path(f"/etc/systemd/system/bench-{name}.service")
            path.write_text(UNIT.format(app=app, port=port))
            subprocess.run(("systemctl", "daemon-reload"), check=True)

    def push(self) -> str:
        """An empty commit, in both repositories; returns its name."""
        work = str(self.folder / "work")
        who = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
        _git("-C", work, *who, "commit", "--quiet", "--allow-empty", "--message=empty")
        for name in ("ours", "script"):
            _git("-C", work, "push", "--quiet", str(self.folder / f"{name}.git"), "main")
        return _git("-C", work, "rev-parse", "HEAD")

    @contextmanager
    def services(self) -> Iterator[None]:
        """Where nothing is restarted, two services that answer all the time."""
        if self.systemd:
            yield
            return
        running = [_service(self.folder / "work", port) for port in (OURS, SCRIPTS)]
        try:
            yield
        finally:
            for each in running:
                each.terminate()
                each.wait(10)

    @contextmanager
    def fraisier(self) -> Iterator[Fraisier]:
        """`fraisier serve`, outside the checkout."""
        command = [sys.executable, "-m", "fraisier", "--config", str(self.folder / "fraises.yaml")]
        log = self.folder / "serve.log"
        with log.open("wb") as file:
            running = subprocess.Popen([*command, "serve", "--port", "0"], cwd=self.folder, stderr=file)
        try:
            address = _until(lambda: _address(log.read_text()))
            yield Fraisier(self.folder, address, command)
        finally:
            running.terminate()
            running.wait(40)


@dataclass
class Fraisier:
    """The running server, and its database to look into."""

    folder: Path
    address: str
    command: list[str]
    before: str = "0" * 40

    def deploy(self, commit: str) -> dict[str, Any]:
        """Deliver the push; returns the deployment's row when it has ended."""
        body = {
            "ref": "refs/heads/main",
            "before": self.before,
            "after": commit,
            "created": False,
            "deleted": False,
            "forced": False,
            "repository": {"full_name": "acme/bench"},
            "sender": {"login": "bench"},
        }
        self.before = commit
        began = time.time()
        answer = self._post(json.dumps(body).encode())
        found: dict[str, Any] = self._ended(str(answer["deployments"][0]["id"]))
        found["seconds"] = found["completed"] - began
        return found

    def _post(self, body: bytes) -> dict[str, Any]:
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": os.urandom(16).hex(),
            "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest(),
        }
        request = urllib.request.Request(f"{self.address}/webhook", body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))

    def _ended(self, deployment: str) -> dict[str, Any]:
        query = """
            SELECT status, error_message AS error, requested_at AS requested, completed_at AS completed
              FROM tb_deployments WHERE id = ?"""
        row: dict[str, Any] = _until(lambda: self._row(query, deployment))
        steps = """
            SELECT step, started_at AS began, duration
              FROM tb_deployment_steps WHERE deployment = ? ORDER BY pk"""
        row["steps"] = self._rows(steps, deployment)
        return row

    def _row(self, query: str, deployment: str) -> dict[str, Any] | None:
        rows = self._rows(query, deployment)
        return rows[0] if rows and rows[0]["status"] in FINAL else None

    def _rows(self, query: str, *parameters: str) -> list[dict[str, Any]]:
        connection = sqlite3.connect(f"file:{self.folder}/fraisier.db?mode=ro", uri=True, timeout=5)
        connection.row_factory = sqlite3.Row
        try:
            return [_in_seconds(dict(row)) for row in connection.execute(query, parameters)]
        finally:
            connection.close()


def _in_seconds(row: dict[str, Any]) -> dict[str, Any]:
    """Moments as Unix seconds."""
    moments = {name: row[name] for name in ("requested", "completed", "began") if row.get(name)}
    return row | {name: datetime.fromisoformat(text).timestamp() for name, text in moments.items()}


def _service(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "service.py", str(port)], cwd=folder)


def _address(log: str) -> str:
    found = [line for line in log.splitlines() if "listens on" in line]
    return found[0].rpartition(" ")[2] if found else ""


def _git(*args: str) -> str:
    done = subprocess.run(("git", *args), check=True, stdout=subprocess.PIPE, text=True, timeout=WAIT)
    return done.stdout.strip()


def _until(look: Any) -> Any:
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    message = f"waited {WAIT:g} s in vain"
    raise SystemExit(message)


# --------------------------------------------------------------------------------------------- the rounds


def measure_here(folder: Path, rounds: int) -> dict[str, Any]:
    """Rounds of both in turn; the first ones warm up."""
    site = Site(folder, systemd=Path("/run/systemd/system").is_dir() and os.geteuid() == 0)
    site.set_up()
    script, ours, rows = [], [], []
    with site.services(), site.fraisier() as fraisier:
        for number in range(rounds + 2):
            commit = site.push()
            began = time.perf_counter()
            subprocess.run([str(folder / "deploy.sh"), commit], check=True, timeout=WAIT)
            took = time.perf_counter() - began
            row = fraisier.deploy(commit)
            if row["status"] != "success":
                message = f"a deployment ended {row['status']}: {row['error']}"
                raise SystemExit(message)
            if number > 1:
                script.append(took)
                ours.append(row["seconds"])
                rows.append(row)
        command = _by_hand(site, fraisier, max(3, rounds // 3))
    return {
        "systemd": site.systemd,
        "rounds": rounds,
        "script_ms": _ms(script),
        "fraisier_ms": _ms(ours),
        "over_ms": round(_ms(ours) - _ms(script), 1),
        "deploy_command_ms": _ms(command),
        "to_first_step_ms": _ms([row["steps"][0]["began"] - row["requested"] for row in rows]),
        "steps_ms": _steps(rows),
    }


def _by_hand(site: Site, fraisier: Fraisier, rounds: int) -> list[float]:
    """Seconds of `fraisier deploy`, its own start included, while the server's worker performs."""
    taken = []
    for _ in range(rounds):
        commit = site.push()
        command = [*fraisier.command, "deploy", "bench", "production", "--commit", commit]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=site.folder, stdout=subprocess.DEVNULL, timeout=WAIT, check=False)
        taken.append(time.perf_counter() - began)
        if done.returncode:
            message = f"fraisier deploy ended with {done.returncode}"
            raise SystemExit(message)
    return taken


def _steps(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The median of each step, of the time between steps, and of what comes before and after."""
    found: dict[str, list[float]] = {}
    for row in rows:
        last = row["completed"] - row["seconds"]
        for step in row["steps"]:
            found.setdefault(f"before {step['step']}", []).append(step["began"] - last)
            found.setdefault(step["step"], []).append(step["duration"])
            last = step["began"] + step["duration"]
        found.setdefault("the end", []).append(row["completed"] - last)
    return {name: _ms(taken) for name, taken in found.items()}


def _ms(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds) * 1000, 1)


# ------------------------------------------------------------------------------------------ where it runs


def measure(rounds: int = 15) -> dict[str, Any]:
    """On a test server with systemd, or loudly without."""
    if why := _no_server():
        print(f"bench_deploy: NO SYSTEMD ({why}): no unit is restarted in either", file=sys.stderr)
        folder = tempfile.mkdtemp(prefix="fraisier-bench-", dir="/var/tmp")
        try:
            return measure_here(Path(folder), rounds)
        finally:
            shutil.rmtree(folder)
    return _on_server(rounds)


def _no_server() -> str:
    if os.geteuid() != 0:
        return "test servers need root"
    needed = ("/usr/sbin/sshd", "/lib/systemd/systemd", "ip", "iptables", "unshare", "ssh")
    missing = [program for program in needed if shutil.which(program) is None]
    return f"missing: {', '.join(missing)}; see tests/servers/packages" if missing else ""


def _on_server(rounds: int) -> dict[str, Any]:
    state = tempfile.mkdtemp(prefix="fraisier-bench-servers-", dir="/var/tmp")
    try:
        _testhost(state, "up", "bench")
        line = f"cd {ROOT} && {sys.executable} -m tools.bench_deploy --inside /srv/bench --rounds {rounds}"
        return dict(json.loads(_testhost(state, "ssh", "bench", line).splitlines()[-1]))
    finally:
        _testhost(state, "down-all")
        shutil.rmtree(state, ignore_errors=True)


def _testhost(state: str, *words: str) -> str:
    done = subprocess.run(
        ("bash", str(TESTHOST), *words),
        env={**os.environ, "TESTHOST_DIR": state, "TESTHOST_SHARE": f"{ROOT}:{sys.base_prefix}"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        arguments.inside.mkdir(parents=True)
        print(json.dumps(measure_here(arguments.inside, arguments.rounds)))
        return
    print(json.dumps(measure(arguments.rounds), indent=2))


if __name__ == "__main__":
    main()
