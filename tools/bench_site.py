"""A repository, a configuration with some environments, and the processes of Fraisier that work on them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fraisier import wiring
from fraisier.application.ports import Store
from fraisier.domain.deployment import Trigger
from fraisier.domain.fraise import EnvironmentKey
from fraisier.wiring import Fraisier
from tools.bench_pushes import ROOT, SECRET

WAIT = 120.0  # seconds for anything
_HEAD = """\
git:
  github: {{webhook_secret: {secret}}}
database: {{url: "{database}"}}
state_folder: {folder}/state
{head}
fraises:
  orders:
    type: api
    repository: acme/orders
    clone_url: {folder}/orders.git
    environments:
"""
_ENVIRONMENT = """\
      env{number}:
        {{branch: main, app_path: {folder}/apps/{number}, min_free_disk: 1MB, keep_releases: 2{extra}}}
"""


class Site:
    """In a folder of its own. `extra` are more keys of every environment, `head` more of the file."""

    def __init__(
        self, folder: Path, database: str, *, environments: int = 1, extra: str = "", head: str = ""
    ) -> None:
        self.folder, self.database = folder, database
        self.keys = [EnvironmentKey("orders", f"env{number}") for number in range(environments)]
        self.config = folder / "fraises.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        text = _HEAD.format(secret=SECRET.decode(), database=database, folder=folder, head=head)
        text += "".join(
            _ENVIRONMENT.format(number=number, folder=folder, extra=extra) for number in range(environments)
        )
        self.config.write_text(text)
        self.commits: list[str] = []
        self._make_repository()

    @property
    def commit(self) -> str:
        """The newest."""
        return self.commits[-1]

    def _make_repository(self) -> None:
        work = self.folder / "work"
        _git("init", "--quiet", "--initial-branch=main", str(work))
        (work / "app.txt").write_text("app\n")
        _git("-C", str(work), "add", ".")
        _git("init", "--quiet", "--bare", str(self.folder / "orders.git"))
        self.add_commit()

    def add_commit(self) -> str:
        """Commit and push; returns the commit."""
        work = str(self.folder / "work")
        who = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
        _git("-C", work, *who, "commit", "--quiet", "--allow-empty", "--message=app")
        _git("-C", work, "push", "--quiet", str(self.folder / "orders.git"), "main")
        self.commits.append(_git("-C", work, "rev-parse", "HEAD"))
        return self.commit

    @contextmanager
    def opened(self) -> Iterator[Fraisier]:
        """All of Fraisier's parts in this process, with the configuration published."""
        configuration = wiring.load(str(self.config))
        with closing(wiring.open_store(configuration)) as store:
            parts = wiring.assemble(configuration, store=store)
            parts.publish()
            yield parts

    @contextmanager
    def process(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """`fraisier COMMAND`, ended (and killed if need be) with the context; `start` without one."""
        started = self.start(*command)
        try:
            yield started
        finally:
            end(started)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """`fraisier COMMAND` in a process."""
        argv = [sys.executable, "-m", "fraisier", "--config", str(self.config), *command]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(argv, stdout=log, stderr=log, cwd=ROOT)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop; kill it if it does not."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(what: str, look: Callable[[], object], seconds: float = WAIT) -> None:
    """Until `look` says so; SystemExit after that time."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            message = f"waited {seconds:g} s for {what}"
            raise SystemExit(message)
        time.sleep(0.005)


def wait_for_workers(store: Store, number: int) -> None:
    """Until so many workers live."""
    wait_for(f"{number} workers", lambda: len(store.live_workers()) == number, 30)


def request(parts: Fraisier, key: EnvironmentKey, commit: str) -> str:
    """Ask for a deployment as a person does, who is not superseded by the next one; its id."""
    asked = parts.request_deployment(key, commit=commit, by="bench", trigger=Trigger.manual, force=True)
    assert asked.deployment is not None, asked.reason
    return asked.deployment.id


def _git(*words: str) -> str:
    done = subprocess.run(("git", *words), check=True, stdout=subprocess.PIPE, text=True, timeout=WAIT)
    return done.stdout.strip()
