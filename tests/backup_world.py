"""Backups without servers: a kind of source, a kind of destination and a cipher that are plain files, played on a
real store, so that a test can break any of them at any point.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fraisier.application.backup_tools import BackupBrands, BackupTools
from fraisier.application.make_backup import MakeBackup
from fraisier.application.ports import Desk, Problem, RunClaim, Said, Store
from fraisier.application.prune_backups import PruneBackups
from fraisier.application.restore_backup import TAKEN, RestoreBackup
from fraisier.application.staged_file import WRITE
from fraisier.application.verify_backup import VerifyBackup
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.acts import Command
from fraisier.domain.backup import BackupSpec, Copy, Destination, Encryption, Retention, Source
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment, FraiseType
from fraisier.domain.job import Job, JobKind
from fraisier.domain.run import RunEnding, RunStatus, RunWish
from tests import factories
from tests.factories import KEY
from tests.fakes import FakeClock, FakeHost
from tests.migrated import lay_migrated

JOBS = {
    "main": Job(name="main", kind=JobKind.backup),
    "verify": Job(name="verify", kind=JobKind.verify),
    "restore": Job(name="restore", kind=JobKind.restore),
    "prune": Job(name="prune", kind=JobKind.prune),
}


def environment(**changes: Any) -> Environment:
    """One source at two destinations."""
    spec = BackupSpec(
        sources=(Source(name="orders", kind="shop", url="shop:///orders"),),
        destinations=(
            Destination(name="disk", kind="shelf", place="/kept"),
            Destination(name="vault", kind="shelf", place="/vault"),
        ),
        retention=Retention(last=3),
    )
    base = factories.environment(type=FraiseType.backup, app_path="/var/lib/dumps", jobs=JOBS, backup=spec)
    spec_changes = {key: changes.pop(key) for key in list(changes) if hasattr(spec, key)}
    return replace(base, backup=replace(spec, **spec_changes), **changes)


class Shop:
    """A kind of source: databases are files of JSON, `tables: {name: [row, …]}`."""

    kind, suffix = "shop", ".shop"

    def dump_source(self, source: Source, file: str, *, timeout: float) -> Command:
        return self._do("dump", _name(source), file)

    def restore(self, source: Source, file: str, to: str, *, timeout: float) -> Command:
        return self._do("restore", file, to or _name(source))

    def scratch(self, source: Source, folder: str, run: str) -> str:
        return f"scratch_{source.name}"

    def make_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        return self._do("make", to)

    def drop_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        return self._do("drop", to)

    def count(self, source: Source, to: str, *, timeout: float) -> Command | None:
        return self._do("count", to or _name(source))

    def beside(self, source: Source, to: str, *, timeout: float) -> Command | None:
        return self._do("beside", to or _name(source))

    def ask(self, source: Source, to: str, *, timeout: float) -> Command:
        return self._do("ask", to or _name(source), source.query)

    def problems(self, source: Source, desk: Desk) -> Sequence[Problem]:
        return ()

    @staticmethod
    def _do(*words: str) -> Command:
        return Command(argv=("shop", *words))


def _name(source: Source) -> str:
    assert isinstance(source.url, str)
    return source.url.removeprefix("shop:///")


class Rot:
    """A cipher that turns bytes around."""

    suffix = ".rot"

    def encrypt(self, encryption: Encryption, file: str, to: str, *, timeout: float) -> Command:
        return Command(argv=("rot", file, to))

    decrypt = encrypt

    def problems(self, encryption: Encryption, desk: Desk) -> Sequence[Problem]:
        return ()


class Shelf:
    """A kind of destination. `broken` says what fails there; `spoil` changes what was stored."""

    kind = "shelf"

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self.broken: dict[str, StepFailed] = {}
        self.spoil: dict[str, Callable[[Path], None]] = {}
        self.removed: list[tuple[str, str]] = []

    def at(self, place: Destination | str) -> Path:
        path = place if isinstance(place, str) else place.place
        return Path(self._host.root + path)

    def _check(self, place: Destination, verb: str) -> None:
        for key in (place.name, f"{place.name}.{verb}"):
            if key in self.broken:
                raise self.broken[key]

    def store(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        self._check(place, "store")
        shutil.copytree(self._host.root + folder, self.at(place) / name)
        if place.name in self.spoil:
            self.spoil[place.name](self.at(place) / name)

    def names(self, place: Destination, desk: Desk) -> Sequence[str]:
        self._check(place, "names")
        found = self.at(place)
        return sorted(each.name for each in found.iterdir()) if found.is_dir() else []

    def read(self, place: Destination, name: str, file: str, desk: Desk) -> bytes:
        self._check(place, "read")
        try:
            return (self.at(place) / name / file).read_bytes()
        except FileNotFoundError:
            raise StepFailed(Cause.backup, f"cannot read {file} of {name}: it is not there") from None

    def look(
        self, place: Destination, name: str, files: Sequence[str], desk: Desk
    ) -> Mapping[str, tuple[int, str]]:
        self._check(place, "look")
        present = [(file, self.at(place) / name / file) for file in files]
        return {file: (path.stat().st_size, sha256(path)) for file, path in present if path.exists()}

    def fetch(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        self._check(place, "fetch")
        shutil.copytree(self.at(place) / name, self._host.root + folder, dirs_exist_ok=True)

    def remove(self, place: Destination, names: Sequence[str], desk: Desk) -> None:
        self._check(place, "remove")
        for name in names:
            shutil.rmtree(self.at(place) / name)
            self.removed.append((place.name, name))

    def problems(self, place: Destination, desk: Desk) -> Sequence[Problem]:
        return ()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class FakeDesk:
    """A run's desk: commands of `Shop` and `Rot` are played, what is said is kept.

    `before` is called with the words of each command, and may raise: a kill, a full disk, a cancel.
    """

    is_let_go = False

    def __init__(self, world: World, claim: RunClaim) -> None:
        self._world = world
        self.host = world.host
        self.environment = world.environment
        self.job = world.environment.jobs[claim.job]
        self.claim = claim
        self.said: list[str] = []
        self.before: Callable[[tuple[str, ...]], None] = world.before

    def say(self, text: str) -> None:
        self.said.append(text)

    def wait(self, seconds: float) -> None:
        self._world.clock.advance(seconds)

    @contextmanager
    def guard(self) -> Iterator[None]:
        self.before(("guard",))
        yield

    def run(self, command: Command, *, shown: bool = True) -> Said:
        mark, argv = command.argv[3], command.argv[4:]  # as `ask_database.framed` puts it
        self.before(argv)
        code, output = self._world.play(replace(command, argv=argv))
        answer = output if code == 0 else ""
        complaints = output if code else ""
        return Said(code, f"{complaints}\n{mark}\n{answer}\n{mark}\n".encode())


@dataclass
class World:
    """A host, a store, and what backups are made with. Each verb is one run, as its ending tells."""

    store: Store
    host: FakeHost
    environment: Environment

    def __post_init__(self) -> None:
        self.clock = FakeClock(1_767_234_600.0)  # 2026-01-01T02:30:00Z
        self.shelf = Shelf(self.host)
        self.tools = BackupTools(
            brands=BackupBrands({"shop": Shop()}, {"shelf": self.shelf}, {"age": Rot()}),
            store=self.store,
            clock=self.clock,
        )
        self.before: Callable[[tuple[str, ...]], None] = lambda _: None
        self.desk: FakeDesk | None = None
        self.commands: list[tuple[str, ...]] = []
        self.views = 0
        self.databases.mkdir(parents=True, exist_ok=True)
        fraise = factories.fraise(self.environment)
        self.store.publish([fraise], digest="d", documents={KEY: {"hosts": ["localhost"], "jobs": {}}})
        self.worker = uuid.uuid4().hex
        self.store.register_worker(self.worker, info={})

    # -- databases
    @property
    def databases(self) -> Path:
        return Path(self.host.root) / "databases"

    def write(self, database: str = "orders", **tables: list[int]) -> None:
        (self.databases / database).write_text(json.dumps(tables))

    def rows(self, database: str = "orders") -> dict[str, list[int]] | None:
        path = self.databases / database
        found: dict[str, list[int]] | None = json.loads(path.read_text()) if path.exists() else None
        return found

    def play(self, command: Command) -> tuple[int, str]:
        program, *words = command.argv
        self.commands.append(command.argv)
        if program == "rot":
            return self._turned(*words)
        if words[1:2] == [TAKEN]:
            path = Path(self.host.root + words[3])
            return 0, "taken" if path.is_file() or (path.is_dir() and any(path.iterdir())) else ""
        if program == "sh":
            return self._staged(words[1], *words[3:])
        if program == "sha256sum":
            folder = Path(self.host.root + command.cwd)
            return 0, "".join(f"{sha256(folder / name)}  {name}\n" for name in words[1:])
        verb: Callable[..., tuple[int, str]] = getattr(self, f"_{words[0]}")
        return verb(*words[1:])

    def _staged(self, script: str, path: str, *rest: str) -> tuple[int, str]:
        file = Path(self.host.root + path)
        if script == WRITE:
            file.write_bytes(base64.b64decode("".join(rest)))
            return 0, ""
        return 0, base64.b64encode(file.read_bytes()).decode() if file.exists() else ""

    def _turned(self, file: str, to: str) -> tuple[int, str]:
        path, target = Path(self.host.root + file), Path(self.host.root + to)
        target.write_bytes(path.read_bytes()[::-1])
        path.unlink()
        return 0, json.dumps({"bytes": target.stat().st_size, "sha256": sha256(target)})

    def _dump(self, database: str, file: str) -> tuple[int, str]:
        tables = self.rows(database)
        if tables is None:
            return 1, "cannot connect: there is no such database\n"
        path = Path(self.host.root + file)
        path.write_text(json.dumps(tables))
        told = {
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
            "entries": len(tables),
            "tables": {name: len(rows) for name, rows in tables.items()},
        }
        return 0, f"dumping\n{json.dumps(told)}\n"

    def _restore(self, file: str, database: str) -> tuple[int, str]:
        try:
            tables = json.loads(Path(self.host.root + file).read_text())
        except ValueError:
            return 1, "the dump is damaged\n"
        self.write(database, **tables)
        return 0, ""

    def _make(self, database: str) -> tuple[int, str]:
        self.write(database)
        return 0, ""

    def _drop(self, database: str) -> tuple[int, str]:
        (self.databases / database).unlink(missing_ok=True)
        return 0, ""

    def _count(self, database: str) -> tuple[int, str]:
        tables = self.rows(database)
        if tables is None:
            return 1, "there is no such database\n"
        return 0, json.dumps({"tables": {name: len(rows) for name, rows in tables.items()}})

    def _beside(self, database: str) -> tuple[int, str]:
        return 0, json.dumps({"beside": {"views": self.views, "routines": 0}})

    def _ask(self, database: str, query: str) -> tuple[int, str]:
        return (
            (1, "no such table\n")
            if query == "broken"
            else (0, f"{len((self.rows(database) or {}).get(query, []))}\n")
        )

    # -- runs
    def claim(self, job: str, **parameters: str) -> RunClaim:
        kind = self.environment.jobs[job].kind
        self.store.request_run(RunWish(environment=KEY, job=job, kind=kind, parameters=parameters))
        claim = self.store.claim_run(self.worker, environments=[KEY])
        assert claim is not None
        return claim

    def perform(self, job: str, **parameters: str) -> RunEnding:
        """One run, a day after the one before it."""
        performer = {
            "main": MakeBackup,
            "verify": VerifyBackup,
            "restore": RestoreBackup,
            "prune": PruneBackups,
        }[job]
        claim = self.claim(job, **parameters)
        self.desk = FakeDesk(self, claim)
        ending = None
        try:
            ending = performer(self.tools)(self.desk)
        finally:
            self.clock.advance(86400.0)
            self.store.finish_run(claim, ending or RunEnding(status=RunStatus.failed))
        return ending

    def copies(self, destination: str = "disk") -> list[Copy]:
        return [copy for copy in self.store.copies(KEY) if copy.destination == destination]

    def copy(self, name: str, destination: str = "disk") -> Copy:
        return next(copy for copy in self.copies(destination) if copy.name == name)

    def on(self, destination: str = "disk") -> list[str]:
        """Names of what lies there."""
        spec = self.environment.backup
        assert spec is not None
        place = next(each for each in spec.destinations if each.name == destination)
        found = self.shelf.at(place)
        return sorted(each.name for each in found.iterdir()) if found.is_dir() else []

    def file(self, name: str, file: str = "orders.shop", place: str = "/kept") -> Path:
        return self.shelf.at(place) / name / file

    def staged(self) -> list[str]:
        """What lies in the staging folder."""
        folder = Path(self.host.root) / "var/lib/dumps/backups/staging"
        return [str(each.relative_to(folder)) for each in folder.rglob("*")] if folder.is_dir() else []

    def alerts(self) -> dict[str, str]:
        return {row["kind"]: row["message"] for row in self.store.alerts("orders", "production")}


@contextmanager
def opened(folder: Path, **changes: Any) -> Iterator[World]:
    """A world with a database of two tables."""
    lay_migrated(folder / "fraisier.db")
    store = open_sqlite(f"sqlite://{folder}/fraisier.db", state_folder=str(folder))
    (folder / "host").mkdir()
    found = World(store, FakeHost(root=str(folder / "host")), environment(**changes))
    found.write(items=[1, 2, 3], people=[1])
    yield found
    store.close()


def make(world: World) -> str:
    """A backup's name."""
    ending = world.perform("main")
    assert ending.status is RunStatus.success, ending
    return str(ending.detail["backup"])


def with_spec(world: World, **changes: Any) -> None:
    """Let what is backed up, or how, be another."""
    assert world.environment.backup is not None
    world.environment = replace(world.environment, backup=replace(world.environment.backup, **changes))


class Killed(BaseException):
    """kill -9: nothing of what follows is done."""


def points(world: World, job: str) -> int:
    """How often a run of `job` may die."""
    count = 0

    def tick(_: tuple[str, ...]) -> None:
        nonlocal count
        count += 1

    world.before = tick
    world.perform(job)
    return count


def die_at(world: World, point: int) -> None:
    """The world ends at that point, and never answers again in this run."""
    left = point

    def tick(_: tuple[str, ...]) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1

    world.before = tick
