"""A desk on a real host: what one run is performed at, without a store or a worker."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.hear import filled, hear
from fraisier.application.ports import Ground, Host, Job, RunClaim, Said
from fraisier.domain import job as jobs
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.job import JobKind
from fraisier.domain.run import RunTrigger
from fraisier.hosts.local import LocalHost
from tests.factories import environment

USER = "nobody" if os.geteuid() == 0 else ""
RUN = "1a2b3c4d-0000-4000-8000-000000000000"


class RealDesk:
    """Fills `Desk`. `said` is the run's output; `stop` cancels it; `commands` is all that was run."""

    def __init__(self, host: Host, environment: Environment, *, timeout: float = 300.0) -> None:
        self.host = host
        self.environment = environment
        self.job = jobs.Job(name="main", kind=JobKind.backup, timeout=timeout)
        self.claim = RunClaim(
            id=RUN,
            environment=environment.key,
            job="main",
            kind=JobKind.backup,
            trigger=RunTrigger.manual,
            worker="w",
            token=1,
        )
        self.said: list[str] = []
        self.commands: list[Command] = []
        self.stop = threading.Event()
        self.while_running: Callable[[], None] | None = None
        owner = {"installation": "tests", "fraise": environment.fraise, "environment": environment.name}
        self.ground = Ground(app_path=environment.app_path, owner=owner, token=1)
        host.adopt(self.ground)

    @property
    def is_let_go(self) -> bool:
        """Whether its worker ends, or has lost it."""
        return self.ground.halt.is_set()

    def say(self, text: str) -> None:
        """A line of the run's output."""
        self.said.append(text)

    def run(self, command: Command, *, shown: bool = True) -> Said:
        """Run a long command."""
        heard = bytearray()
        complete = filled(self.environment, command)
        complete = replace(complete, cwd=command.cwd or "/", env_file="")
        self.commands.append(complete)
        code = self.host.run(self.ground, complete, Job(stop=self.stop, output=heard.extend))
        if shown:
            self.said += heard.decode("utf-8", "replace").splitlines()
        return Said(code, bytes(heard))

    def wait(self, seconds: float) -> None:
        """Let some time pass."""
        if self.stop.wait(seconds):
            raise StepFailed(Cause.cancelled, "cannot wait any longer")

    def guard(self) -> AbstractContextManager[None]:
        """The right to change something."""
        return self.host.guard(self.ground)

    def run_shell(self, line: str) -> None:
        """A shell line that has to succeed."""
        hear(self, Command.shell(line, cwd="/"), doing=line)

    def tell(self, command: Command) -> dict[str, Any]:
        """The line of JSON that a source's command prints.

        Raises:
            StepFailed: the command failed.
        """
        found: dict[str, Any] = json.loads(hear(self, command, doing="work").splitlines()[-1])
        return found


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A temporary folder that other users may pass through; pytest closes its own whenever it starts."""
    made = Path(tempfile.mkdtemp(prefix="fraisier-desk-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def desk(open_path: Path) -> RealDesk:
    """This machine, as somebody who may do nothing."""
    return RealDesk(LocalHost(), environment(user=USER, app_path=str(open_path / "app")))


@pytest.fixture
def folder(open_path: Path) -> Path:
    """The staging folder, of the environment's user."""
    return theirs(open_path / "staging")


def theirs(path: Path) -> Path:
    """A folder of the environment's user."""
    path.mkdir(mode=0o700, exist_ok=True)
    if USER:
        shutil.chown(path, USER)
    return path
