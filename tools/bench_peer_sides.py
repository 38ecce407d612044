"""The two sides that `tools.bench_peer` compares: how each is installed, configured, started and asked."""

from __future__ import annotations

import hmac
import http.client
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.bench_pushes import SECRET
from tools.bench_servers import Server
from tools.bench_startup import program

PEER = "fraisier==0.84.2"
BUILD = 1.0  # seconds; long enough for a kill to come in the middle of it
PATIENCE = 30.0  # seconds for a start, an end and an answer
OURS = """\
git:
  provider: github
  github: {{webhook_secret: {secret}}}
database: {{url: "sqlite://{folder}/fraisier.db"}}
fraises:
  orders:
    type: api
    repository: acme/orders
    clone_url: file://{repository}
    environments:
      production: {{branch: main, app_path: {folder}/app, build: ["sleep {build}"]}}
"""
THEIRS = """\
name: bench
git:
  provider: github
  github: {{webhook_secret: {secret}}}
deployment: {{lock_dir: {folder}/locks}}
fraises:
  orders:
    type: api
    environments:
      production:
        branch: main
        app_path: {folder}/app
        status_dir: {folder}/status
        clone_url: {repository}
        git_repo: {folder}/mirror.git
        install: {{command: [sleep, "{build}"]}}
branch_mapping:
  main: {{fraise: orders, environment: production}}
"""


@dataclass(frozen=True)
class Side:
    """One of the two, with its own folder. `served` is the file that a deployment changes."""

    name: str
    folder: Path
    python: str
    command: Sequence[str]
    serve: Callable[[int], Sequence[str]]
    served: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[tuple[Server, Callable[[], None]]]:
        """The receiver, and what kills it with SIGKILL and starts it anew on the same files.

        Raises:
            SystemExit: it does not answer `/health`.
        """
        port = _free_port()
        server = Server(self._start(port), port)

        def again() -> None:
            server.process.kill()
            server.process.wait(PATIENCE)
            server.process = self._start(port)

        try:
            yield server, again
        finally:
            server.process.terminate()
            server.process.wait(PATIENCE)

    def _start(self, port: int) -> subprocess.Popen[str]:
        env = {**os.environ, **self.env, "FRAISIER_PORT": str(port)}  # ours takes its port as an option
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                self.serve(port), cwd=self.folder, env=env, stdout=log, stderr=log, text=True
            )
        within(PATIENCE, lambda: _answers(port) or process.poll() is not None)
        if process.poll() is not None or not _answers(port):
            process.kill()
            process.wait(PATIENCE)
            message = f"{self.name} did not start:\n{(self.folder / 'log').read_text()[-2000:]}"
            raise SystemExit(message)
        return process


def ours(folder: Path, repository: Path) -> Side:
    """This checkout."""
    config = _write(folder, OURS, repository)
    command = [*program(), "--config", str(config)]
    served = folder / "app/current/version"
    return Side(
        "ours", folder, sys.executable, command, lambda port: [*command, "serve", "--port", str(port)], served
    )


def peer(folder: Path, repository: Path) -> Side:
    """The public package, freshly installed."""
    config = _write(folder, THEIRS, repository)
    _run(sys.executable, "-m", "venv", folder / "venv")
    _run(folder / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", PEER)
    # Its own `git clone --bare` leaves no origin/main, which it then asks for.
    mirror, refs = folder / "mirror.git", "+refs/heads/*:refs/remotes/origin/*"
    _run("git", "clone", "--quiet", "--bare", repository, mirror)
    _run("git", "-C", mirror, "config", "remote.origin.fetch", refs)
    for name in ("app", "locks", "status"):
        (folder / name).mkdir()
    env = {
        "FRAISIER_CONFIG": str(config),
        "FRAISIER_DB_PATH": str(folder / "fraisier.db"),
        "FRAISIER_HOST": "127.0.0.1",
    }
    programs = folder / "venv/bin"
    command = [str(programs / "fraisier"), "--config", str(config)]
    serve = [str(programs / "fraisier-webhook")]
    return Side(
        "peer", folder, str(programs / "python"), command, lambda _: serve, folder / "app/version", env
    )


def _write(folder: Path, text: str, repository: Path) -> Path:
    folder.mkdir()
    path = folder / "fraises.yaml"
    path.write_text(text.format(secret=SECRET.decode(), folder=folder, repository=repository, build=BUILD))
    return path


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout.strip()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true in that time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Repository:
    """A git repository with one file, `version`."""

    def __init__(self, folder: Path) -> None:
        self.path, self._work = folder / "orders.git", folder / "work"
        _run("git", "init", "--quiet", "--bare", "--initial-branch=main", self.path)
        _run("git", "init", "--quiet", "--initial-branch=main", self._work)
        self.commit("first")

    def commit(self, version: str) -> dict[str, Any]:
        """Push a commit whose file says `version`; the payload that tells of it."""
        git = ("git", "-C", self._work, "-c", "user.name=bench", "-c", "user.email=bench@example.com")
        (self._work / "version").write_text(version)
        _run(*git, "add", "version")
        _run(*git, "commit", "--quiet", "-m", version)
        _run(*git, "push", "--quiet", self.path, "main")
        return {
            "ref": "refs/heads/main",
            "before": "0" * 39 + "1",
            "after": _run(*git, "rev-parse", "HEAD"),
            "created": False,
            "deleted": False,
            "forced": False,
            "repository": {"id": 1, "full_name": "acme/orders"},
            "pusher": {"name": "mona"},
            "sender": {"login": "mona"},
        }


def deliver(port: int, body: bytes, delivery: str = "", signature: str = "") -> tuple[int, bytes]:
    """Send a signed push as GitHub does, each from another address, as `acknowledgements` does.

    Returns status and body of the answer; status 0 where there is none.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature-256": signature or "sha256=" + hmac.digest(SECRET, body, "sha256").hex(),
        "X-Forwarded-For": f"10.1.{uuid.uuid4().bytes[0]}.{uuid.uuid4().bytes[0]}",
    }
    try:
        connection.request("POST", "/webhook", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
