"""Fraisier as its users have it: processes that are killed, and facts that are read from outside of them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.integration.site import Site, free_port, until
from tests.unit.signing import github_push

FINAL = {"success", "failed", "rolled_back", "rollback_failed", "cancelled", "superseded"}


class Serve:
    """`fraisier serve` of a site, as a process; started and killed as often as a test likes."""

    def __init__(
        self, site: Site, *, command: Sequence[str] = ("serve",), before: Sequence[str] = ()
    ) -> None:
        self.site = site
        self.before = before
        self.port = free_port()
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.log = site.folder / "serve.log"

    @property
    def pid(self) -> int:
        """The process's."""
        assert self.process is not None
        return self.process.pid

    def start(self, *, ready: bool = True, env: dict[str, str] | None = None) -> None:
        """Start it; with `ready` wait until it says that it is."""
        argv = [sys.executable, "-m", "fraisier", "--config", str(self.site.config), *self.command]
        argv = [*self.before, *argv]
        argv += ["--port", str(self.port)] if self.command == ("serve",) else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdout=log, stderr=log, cwd=self.site.folder, env={**os.environ, **(env or {})}
            )
        if ready:
            until("serve to be ready", lambda: self.get("/ready")[0] == 200, 30)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """What it answers; (0, {}) if it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except (OSError, ValueError):
            return 0, {}

    def webhook(
        self, commit: str, branch: str = "main", *, before: str = "0" * 40, delivery_id: str = ""
    ) -> tuple[int, Any]:
        """Deliver the push of a commit; the status (0: no answer) and the answer."""
        delivery = github_push(commit, branch=branch, before=before, delivery_id=delivery_id)
        url = f"http://127.0.0.1:{self.port}/webhook"
        request = urllib.request.Request(url, delivery.body, dict(delivery.headers), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except (OSError, ValueError):
            return 0, None

    def cli(self, *words: str, check: bool = False, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run another command of Fraisier on the site."""
        argv = [sys.executable, "-m", "fraisier", "--config", str(self.site.config), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=check, timeout=timeout)


@contextmanager
def serving(
    site: Site, *, command: Sequence[str] = ("serve",), before: Sequence[str] = ()
) -> Iterator[Serve]:
    """A `Serve` that is gone in the end. `before` are words before its command line."""
    serve = Serve(site, command=command, before=before)
    try:
        yield serve
    finally:
        serve.end()


def rows(site: Site, query: str, *values: Any) -> list[dict[str, Any]]:
    """What the database file says, without any of Fraisier's code."""
    database = site.folder / "state" / "fraisier.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, values)]


def deployments(site: Site) -> list[dict[str, Any]]:
    """Every deployment, oldest first."""
    return rows(site, "SELECT * FROM tb_deployments ORDER BY pk")


def all_ended(site: Site, seconds: float = 60) -> list[dict[str, Any]]:
    """Every deployment, as soon as each has ended by itself."""

    def look() -> list[dict[str, Any]] | None:
        found = deployments(site)
        return found if all(row["status"] in FINAL for row in found) else None

    try:
        return until("every deployment to end", look, seconds)  # type: ignore[no-any-return]
    except AssertionError:
        print(*(row for row in deployments(site) if row["status"] not in FINAL), sep="\n")
        print(*rows(site, "SELECT * FROM tb_deployment_steps ORDER BY pk DESC LIMIT 12"), sep="\n")
        raise


def processes_below(folder: Path) -> list[str]:
    """Command lines of processes whose working folder is below `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
