"""Stand-ins for a host, a process manager, probes and time, that need no root and no waiting.

`FakeHost` passes the same contract as the real hosts (tests/unit/host_contract.py). It works on real files
below a temporary folder; commands are not run, but played by a tiny shell or by what a test scripted.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fraisier.application.ports import Dial, Finished, Ground, Health, Job, Problem, Runner, UnitState
from fraisier.domain.acts import Command, InstallFile, UnitCommand
from fraisier.domain.errors import Cause, ForeignOwner, StepFailed, TokenOutdated
from fraisier.domain.fraise import Environment, HealthCheck, TargetSpec
from fraisier.domain.plan import Act, TargetActs
from fraisier.domain.release import Layout

Script = int | Exception | Callable[[Command, Job], int]


class FakeClock:
    """Time that passes only when told to. `sleep` may stand in for a wait."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    sleep = advance


class FakeHost:
    """A machine whose files are real and whose commands are played.

    `scripts` says how a command ends: keys are the command's line (for a shell command) or its words
    joined by blanks; values an exit code, an exception to raise, or a function of command and job. `units`
    performs what `act` is told. `commands` and `acts` keep what was asked, in order.
    """

    def __init__(self, name: str = "localhost", *, units: FakeUnits | None = None, root: str = "") -> None:
        self.name = name
        self.root = root  # where its file system is kept
        self.units = units or FakeUnits()
        self.scripts: dict[str, Script] = {}
        self.answers: dict[tuple[str, ...], Finished] = {}
        self.users: set[str] = {"orders"}
        self.going_down = False
        self.free = 10 * 1024**3
        self.commands: list[Command] = []
        self.acts: list[tuple[str, ...]] = []
        self.synced: list[str] = []
        self.scopes: dict[str, int] = {}  # app_path -> scopes that an adoption would have to end
        self._owners: dict[str, Mapping[str, str]] = {}
        self._tokens: dict[str, int] = {}
        self._lock = threading.RLock()

    def _at(self, path: str) -> Path:
        return Path(self.root + path)

    # -- looking
    def read_link(self, path: str) -> str | None:
        found = self._at(path)
        return str(found.readlink()) if found.is_symlink() else None

    def kind(self, path: str) -> str:
        found = self._at(path)
        if found.is_symlink():
            return "link"
        if not found.exists():
            return "missing"
        return "folder" if found.is_dir() else "file" if found.is_file() else "other"

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes | None:
        found = self._at(path)
        return found.read_bytes()[:limit] if found.is_file() else None

    def list(self, folder: str) -> Sequence[str]:
        found = self._at(folder)
        return sorted(entry.name for entry in found.iterdir()) if found.is_dir() else []

    def free_bytes(self, path: str) -> int:
        return self.free

    def user_exists(self, user: str) -> bool:
        return user in self.users

    def can_run_as(self, user: str) -> str:
        return "" if user in self.users or not user else f"there is no user '{user}'"

    def writable(self, path: str) -> bool:
        found = self._at(path)
        while not found.exists():
            found = found.parent
        return found.is_dir() and os.access(found, os.W_OK)

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        missing = Finished(code=127, stdout=b"", stderr=b"not found")
        return self.answers.get(tuple(argv), missing)

    def connect(self, address: str, *, timeout: float) -> socket.socket:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "nothing listens on a fake")

    def ask(self, command: Command) -> Finished:
        said = bytearray()
        code = self._scripted(command, Job(stop=threading.Event(), output=said.extend))
        return Finished(code=code, stdout=bytes(said), stderr=b"")

    def is_going_down(self) -> bool:
        return self.going_down

    # -- the right to change
    def adopt(self, ground: Ground, *, force: bool = False) -> None:
        with self._lock:
            owner = self._owners.get(ground.app_path, ground.owner)
            newest = self._tokens.get(ground.app_path, 0)
            if (owner != ground.owner or newest > ground.token) and not (force and owner != ground.owner):
                message = f"cannot take over {ground.app_path}: it belongs to {owner} with token {newest}"
                raise ForeignOwner(message, "See `fraisier adopt`")
            self._owners[ground.app_path] = ground.owner
            self._tokens[ground.app_path] = ground.token
            self.scopes.pop(ground.app_path, None)
            layout = Layout(ground.app_path)
            for folder in (layout.releases, layout.shared, posixpath.join(layout.own, "releases")):
                self._at(folder).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def guard(self, ground: Ground) -> Iterator[None]:
        with self._lock:
            self._check(ground)
            yield

    def _check(self, ground: Ground) -> None:
        newest = self._tokens.get(ground.app_path, 0)
        if newest != ground.token:
            message = f"cannot change {ground.app_path}: token {ground.token} was replaced by {newest}"
            raise TokenOutdated(message, "Another worker has taken over")

    # -- short acts
    def make_folder(self, path: str, *, user: str = "", mode: int = 0o755) -> None:
        self._at(path).mkdir(parents=True, exist_ok=True)
        self._at(path).chmod(mode)

    def point(self, link: str, to: str) -> None:
        temporary = self._at(f"{link}.new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(to)
        temporary.replace(self._at(link))

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        temporary = self._at(f"{path}.new")
        temporary.write_bytes(data)
        temporary.chmod(mode)
        temporary.replace(self._at(path))

    def remove(self, path: str, *, user: str = "") -> None:
        found = self._at(path)
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink(missing_ok=True)

    def sync(self, folder: str) -> None:
        self.synced.append(folder)

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        self.acts.append(tuple(argv))
        return self.units.perform(tuple(argv))

    # -- long commands
    def run(self, ground: Ground, command: Command, job: Job) -> int:
        with self.guard(ground):
            self.commands.append(command)
        return self._scripted(command, job)

    def _scripted(self, command: Command, job: Job) -> int:
        if command.argv[2:3] and command.argv[2].startswith('answer=$("$@")'):
            return self._asked(command, job)
        line = command.argv[2] if command.argv[:2] == ("/bin/sh", "-c") else " ".join(command.argv)
        script = self.scripts.get(line)
        if isinstance(script, Exception):
            raise script
        if callable(script):
            return script(command, job)
        return script if script is not None else self._play(line, command, job)

    def _asked(self, command: Command, job: Job) -> int:
        """A question: what it prints is set apart by a mark, as the shell would."""
        mark = f"\n{command.argv[3]}\n".encode()
        said = bytearray()
        inner = replace(command, argv=command.argv[4:])
        code = self._scripted(inner, Job(stop=job.stop, output=said.extend))
        job.output(mark + bytes(said).rstrip(b"\n") + mark)
        return code

    def _play(self, line: str, command: Command, job: Job) -> int:
        word, _, rest = line.partition(" ")
        if word == "echo":
            job.output(rest.encode() + b"\n")
        if word == "sleep":
            _wait(float(rest), command, job)
        return int(rest) if word == "exit" else 0

    def unpack(self, archive: Iterator[bytes], folder: str, *, user: str, job: Job) -> None:
        data = io.BytesIO(b"".join(archive))
        try:
            with tarfile.open(fileobj=data) as tar:
                # Not as an argument: Python knows it from 3.11.4 on, and Debian 12 has an older one.
                tar.extraction_filter = lambda member, _: member
                tar.extractall(self._at(folder))
        except tarfile.TarError as error:
            raise StepFailed(Cause.host, f"cannot unpack into {folder}: {error}") from error

    def pack(self, folder: str, *, user: str, leave_out: Sequence[str], job: Job) -> Iterator[bytes]:
        data = io.BytesIO()
        left_out = {f"./{name.rstrip('/')}" for name in leave_out}
        with tarfile.open(fileobj=data, mode="w") as tar:
            tar.add(self._at(folder), ".", filter=lambda entry: None if entry.name in left_out else entry)
        yield data.getvalue()


def _wait(seconds: float, command: Command, job: Job) -> None:
    limit = command.timeout if command.timeout is not None else seconds
    until = time.monotonic() + min(seconds, limit)
    while time.monotonic() < until:
        if job.stop.wait(0.01):
            raise StepFailed(Cause.cancelled, f"cannot finish {command.describe()}: it was cancelled")
    if limit < seconds:
        raise StepFailed(Cause.timeout, f"cannot finish {command.describe()} in {limit:g} s")


class FakeUnits:
    """A process manager's memory: what runs, since which start, and what shall go wrong.

    `crashing` names releases whose process dies at each start: the unit never settles, and its restarts
    count up; `crashes_late` ones are restarted once more after the counter was reset. `failing` maps the verb of a command ("restart", "stop") to the error it ends with.
    """

    def __init__(self) -> None:
        self.crashing: set[str] = set()
        self.crashes_late = False
        self.failing: dict[str, str] = {}
        self.current: str = ""  # path of the `current` link, told by FakeTarget.acts
        self.starts = 0
        self.restarts = 0
        self.running = False
        self.release = ""

    def perform(self, argv: tuple[str, ...]) -> Finished:
        verb = argv[1] if len(argv) > 1 else argv[0]
        if verb in self.failing:
            return Finished(code=1, stdout=b"", stderr=self.failing[verb].encode())
        if verb == "reset":
            self.restarts = int(self.crashes_late and self.release in self.crashing)
        if verb == "restart":
            self._restart()
        if verb == "stop":
            self.running = False
        return Finished(code=0, stdout=b"", stderr=b"")

    def _restart(self) -> None:
        self.starts += 1
        self.running = True
        link = Path(self.current)
        self.release = link.readlink().name if self.current and link.is_symlink() else ""

    def state(self) -> UnitState:
        if not self.running:
            return UnitState(known=True, running=False, detail="stopped")
        if self.release in self.crashing:
            self.restarts += 1
            return UnitState(
                known=True, running=False, settled=False, restarts=self.restarts, detail="crashed at start"
            )
        return UnitState(known=True, running=True, invocation=str(self.starts), restarts=self.restarts)


class FakeTarget:
    """A process manager behind `FakeHost.act`. `script`, where not empty, is played before the units' state.

    The last state of a script is not repeated: after it the units speak again.
    """

    kind = "fake"

    def __init__(self, units: FakeUnits | None = None) -> None:
        self.units = units or FakeUnits()
        self.script: list[UnitState | Exception] = []
        self.found: list[Problem] = []

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        if environment.target is None:
            return TargetActs()
        self.units.current = Layout(environment.app_path).current
        unit = environment.target.unit
        install: tuple[Act, ...] = ()
        if environment.unit_file:
            source = posixpath.join(release_folder, environment.unit_file)
            folder = posixpath.join(environment.app_path, "shared")
            install = (InstallFile(source=source, destination=posixpath.join(folder, unit)),)
        return TargetActs(
            install=install,
            release_failure=(UnitCommand(argv=("fakectl", "reset", unit), allow_failure=True),),
            restart=(UnitCommand(argv=("fakectl", "restart", unit), starts=""),),
            stop=(UnitCommand(argv=("fakectl", "stop", unit)),),
        )

    def state(self, spec: TargetSpec, host: object) -> UnitState:
        if not self.script:
            return self.units.state()
        following = self.script.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    def problems(self, environment: Environment, host: object) -> Sequence[Problem]:
        return tuple(self.found)

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        return UnitCommand(argv=("fakectl", "logs", spec.unit, str(lines)))


class FakeProber:
    """Probes that fail for the releases named in `unhealthy` (by folder name), and pass for others."""

    def __init__(self, *, unhealthy: set[str] | None = None) -> None:
        self.unhealthy = unhealthy if unhealthy is not None else set()
        self.script: list[Health] = []
        self.probed: list[str] = []

    def probe(
        self, check: HealthCheck, environment: Environment, release_folder: str, run: Runner, dial: Dial
    ) -> Health:
        release = posixpath.basename(release_folder)
        self.probed.append(release)
        if self.script:
            return self.script.pop(0)
        if release in self.unhealthy:
            return Health(passed=False, detail="HTTP 503, expected 200")
        return Health(passed=True, detail="HTTP 200")
