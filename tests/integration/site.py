"""A whole Fraisier on this machine for tests: real git, real processes under supervisord, a real worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fraisier import wiring
from fraisier.application.ports import Requested
from fraisier.domain.deployment import Status, Trigger
from fraisier.domain.fraise import EnvironmentKey
from fraisier.worker import Worker
from tests.gitrepos import GitRepository
from tests.ports import free_port

KEY = EnvironmentKey("shop", "production")

SERVICE = """
import http.server, os, sys, time
VERSION, HEALTH = "{version}", {health}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(HEALTH if self.path == "/health" else 200)
        self.end_headers()
        self.wfile.write(VERSION.encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def service(version: str, *, health: int = 200) -> dict[str, str]:
    """The files of one version of a small web service."""
    return {
        "service.py": SERVICE.replace("{version}", version).replace("{health}", str(health)),
        "VERSION": version,
    }


def until(what: str, look: Any, seconds: float = 20.0) -> Any:
    """What `look` returns as soon as it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s for {what}")


class Premises:
    """A repository, a configuration and a place to deploy to: all of a site that is outside of Fraisier."""

    def __init__(
        self,
        folder: Path,
        *,
        extra: str = "",
        head: str = "",
        supervised: bool = False,
        sweep: float = 0,
        database: str = "",
    ) -> None:
        self.sweep = sweep
        self.folder = folder
        self.database = database or f"sqlite://{folder}/state/fraisier.db"
        self.repository = GitRepository.create(folder / "git")
        self.app = folder / "app"
        self.port = free_port()
        self.config = folder / "fraises.yaml"
        self.supervised = supervised
        self.write_config(extra, head)

    def write_config(self, extra: str = "", head: str = "") -> None:
        """`extra` are further lines of the environment, `head` further sections of the file."""
        target = ""
        if self.supervised:
            target = f"""
        supervisord_program: shop
        supervisord_config: {self.folder}/supervisord.conf
        health_check: {{url: "http://127.0.0.1:{self.port}/health", interval: 0.1, timeout: 6}}"""
        lines = "".join(f"\n        {line}" for line in extra.splitlines())
        self.config.write_text(
            f"""
git:
  provider: github
  github: {{webhook_secret: "It's a Secret to Everybody"}}
database: {{url: "{self.database}"}}
state_folder: {self.folder}/state
sweep_interval: {self.sweep:g}
{head}
fraises:
  shop:
    type: api
    repository: acme/orders
    clone_url: {self.repository.url}
    environments:
      production:
        branch: main
        app_path: {self.app}
        min_free_disk: 1MB{target}{lines}
"""
        )

    def push(self, files: dict[str, str], branch: str = "main") -> str:
        """Commit and push; returns the commit."""
        return self.repository.commit(files, branch=branch)

    def answer(self, path: str = "/") -> tuple[int, str]:
        """What the deployed service answers; (0, reason) if it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def version(self) -> str:
        """The version that `current` points to."""
        path = self.app / "current" / "VERSION"
        return path.read_text() if path.exists() else ""

    @contextmanager
    def supervising(self) -> Iterator[None]:
        """supervisord, with the service as its program, for as long as this is entered."""
        socket_path = Path(f"/tmp/fraisier-{os.getpid()}-{self.port}.sock")
        (self.folder / "supervisord.conf").write_text(
            f"""
[unix_http_server]
file={socket_path}
[supervisord]
nodaemon=true
{"user=root" if os.geteuid() == 0 else ""}
logfile={self.folder}/supervisord.log
pidfile={self.folder}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{socket_path}
[program:shop]
command={sys.executable} service.py {self.port}
directory={self.app}/current
autostart=false
startsecs=0
"""
        )
        started = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.folder / "supervisord.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until("supervisord", socket_path.exists)
            yield
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(20)
            socket_path.unlink(missing_ok=True)


class Site(Premises):
    """Premises with a store, and what is deployed from them."""

    def __init__(self, folder: Path, **premises: Any) -> None:
        super().__init__(folder, **premises)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.fraisier = wiring.assemble(wiring.load(str(self.config)), listener=self._listen)
        self.fraisier.publish()

    def _listen(self, event: str, fields: Any) -> None:
        self.events.append((event, dict(fields)))

    def request(self, **fields: Any) -> Requested:
        """Ask for a deployment as a person does."""
        return self.fraisier.request_deployment(KEY, by="alice", **fields)

    def deploy(self, **fields: Any) -> dict[str, Any]:
        """Request and wait for the end; a worker must run."""
        requested = self.request(**fields)
        assert requested.deployment is not None, requested.reason
        return self.ended(requested.deployment.id)

    def ended(self, deployment: str, seconds: float = 30.0) -> dict[str, Any]:
        """The row of a deployment once it has ended."""

        def look() -> dict[str, Any] | None:
            row = self.fraisier.store.deployment(deployment)
            return dict(row) if Status(row["status"]).is_final else None

        try:
            return until(f"the end of {deployment}", look, seconds)  # type: ignore[no-any-return]
        except AssertionError:
            print(*self.events, *self.fraisier.store.steps(deployment), sep="\n")
            raise

    def waits_in(self, deployment: str, step: str) -> None:
        """Return when a deployment's step has begun."""
        store = self.fraisier.store
        until(f"step {step}", lambda: any(s["step"] == step for s in store.steps(deployment)))

    def output(self, deployment: str) -> str:
        """Everything that its steps printed."""
        return "".join(piece.text for piece in self.fraisier.store.output(deployment))

    @contextmanager
    def working(self) -> Iterator[Worker]:
        """A worker, for as long as this is entered."""
        worker = Worker(self.fraisier)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop(5)


class Prober:
    """Asks the service all the time, and counts."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stop = threading.Event()
        self.versions: list[str] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.02):
            status, text = self._site.answer()
            self.versions.append(text if status == 200 else "")


__all__ = ["KEY", "Premises", "Prober", "Site", "Trigger", "free_port", "service", "until"]
