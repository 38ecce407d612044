"""Hosts by the dozen, played: each with files, units and switches of its own; and death at any moment."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fraisier.application.control import Control
from fraisier.application.ports import Claim, Finished, Ground, Health, Job, UnitState
from fraisier.application.run_deployment import RunDeployment
from fraisier.application.tools import Retries, Tools
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.acts import Command
from fraisier.domain.deployment import Deployment, Trigger, Wish
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import BuildCommand, Cutover, Environment, HealthCheck, TargetSpec
from fraisier.domain.release import Layout
from fraisier.domain.rollout import Rollout
from fraisier.migrations.command import CommandMigrations
from fraisier.wiring import SystemClock
from tests.factories import KEY, environment, fraise
from tests.fake_instances import InstanceTarget, Manager
from tests.fake_repository import FakeRepository
from tests.fakes import FakeHost, FakeTarget, FakeUnits
from tests.migrated import lay_migrated

APP = "/srv/orders"


class Death(BaseException):
    """kill -9, as far as threads can play it: from here on nothing gets through to the store or a host."""


class Fate:
    """What happens to a worker, and when: at the `at`-th moment, in whichever of its threads.

    It dies there, or (`pauses`) stops in all of its threads until `goes_on` is set.
    """

    def __init__(self, at: int = 0, *, pauses: bool = False) -> None:
        self.at = at  # 0: never
        self.passed = 0
        self.struck = threading.Event()
        self.goes_on = threading.Event()
        self._pauses = pauses
        self._lock = threading.Lock()
        self._guarded = threading.local()

    def moment(self) -> None:
        if self._pauses and getattr(self._guarded, "deep", 0):
            return  # who is stopped with a lock in hand keeps everybody waiting; that is tested elsewhere
        with self._lock:
            self.passed += 1
            if self.passed == self.at:
                self.struck.set()
        if self.struck.is_set():
            if not self._pauses:
                raise Death
            assert self.goes_on.wait(60)

    @contextmanager
    def guarding(self, guard: AbstractContextManager[None]) -> Iterator[None]:
        self.moment()
        with guard:
            self._guarded.deep = getattr(self._guarded, "deep", 0) + 1
            try:
                yield
            finally:
                self._guarded.deep -= 1
        self.moment()


class FleetHost(FakeHost):
    """One host of several. `away`: it does not answer. `fails_at` names the act that does not work there.

    `away_at` counts acts down: at the last one it goes away, in the middle, having done it or (`torn`) not.
    """

    def __init__(self, name: str, root: Path) -> None:
        units = FakeUnits()
        units.current = f"{root}{Layout(APP).current}"
        super().__init__(name, units=units, root=str(root))
        self.away = False
        self.away_at = 0
        self.torn = False
        self.on_act: Callable[[str], None] = lambda act: None
        self.unhealthy: set[str] = set()  # first letters of commits whose releases are sick here
        root.mkdir(parents=True, exist_ok=True)

    def _answers(self, *, acts: str = "") -> None:
        if acts:
            self.on_act(acts)
        if self.away:
            raise StepFailed(Cause.network, f"cannot reach {self.name}: no route to host")
        if acts and self.away_at:
            self.away_at -= 1
            if not self.away_at:
                self.away = True
                if self.torn:
                    raise StepFailed(Cause.network, f"cannot reach {self.name}: connection lost")

    def read_link(self, path: str) -> str | None:
        self._answers()
        return super().read_link(path)

    def kind(self, path: str) -> str:
        self._answers()
        return super().kind(path)

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes | None:
        self._answers()
        return super().read(path, limit=limit)

    def list(self, folder: str) -> Sequence[str]:
        self._answers()
        return super().list(folder)

    def free_bytes(self, path: str) -> int:
        self._answers()
        return super().free_bytes(path)

    def adopt(self, ground: Ground, *, force: bool = False) -> None:
        self._answers(acts="adopt")
        super().adopt(ground, force=force)

    def point(self, link: str, to: str) -> None:
        self._answers(acts="point")
        super().point(link, to)

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        self._answers(acts="write")
        super().write(path, data, mode=mode)

    def remove(self, path: str, *, user: str = "") -> None:
        self._answers(acts="remove")
        super().remove(path, user=user)

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        self._answers(acts="act")
        return super().act(argv, timeout=timeout)

    def run(self, ground: Ground, command: Command, job: Job) -> int:
        self._answers(acts="run")
        return super().run(ground, command, job)

    # -- what a test looks at
    @property
    def current(self) -> str:
        link = Path(self.root + Layout(APP).current)
        return link.readlink().name if link.is_symlink() else ""

    @property
    def runs(self) -> str:
        """The release of the process that serves."""
        return self.units.release if self.units.running else ""

    @property
    def commit(self) -> str:
        """What the release that serves was made from."""
        file = Path(f"{self.root}{Layout(APP).release(self.runs)}/app.txt")
        return file.read_text() if self.runs and file.exists() else ""

    @property
    def idle(self) -> list[str]:
        """What runs, or is started at boot, and gets no traffic."""
        return []

    def files(self) -> Sequence[str]:
        """All paths, without those of releases that are not whole."""
        layout = Layout(APP)
        torn = [
            f"{layout.release(n)}" for n in super().list(layout.releases) if not self._has(layout.marker(n))
        ]
        paths = sorted(f"/{path.relative_to(self.root)}" for path in Path(self.root).rglob("*"))
        return [
            path
            for path in paths
            if not path.startswith(tuple(f"{each}/" for each in torn)) and path not in torn
        ]

    def _has(self, path: str) -> bool:
        return Path(self.root + path).exists()

    @property
    def token(self) -> int:
        return self._tokens.get(APP, 0)


class FleetTarget(FakeTarget):
    """Each host has units of its own."""

    def state(self, spec: TargetSpec, host: Any) -> UnitState:
        host._answers()
        state: UnitState = host.units.state()
        return state


class InstanceHost(FleetHost):
    """One on which releases run side by side, and a link says which of them gets the traffic."""

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name, root)
        self.units: Any = Manager()
        self.lost_with: set[str] = set()  # first letters of commits whose start is the end of this host

    def _answers(self, *, acts: str = "") -> None:
        letters = {unit.partition("-")[2][:1] for unit in self.units.running}
        self.away = self.away or bool(letters & self.lost_with)
        super()._answers(acts=acts)

    @property
    def runs(self) -> str:
        link = Path(self.root + Layout(APP).link)
        release = link.readlink().name.removesuffix(".sock") if link.is_symlink() else ""
        return release if f"orders.service@{release}" in self.units.running else ""

    @property
    def idle(self) -> list[str]:
        serving = f"orders.service@{self.runs}"
        return sorted({*self.units.running, *self.units.enabled} - {serving})


class InstancesTarget(InstanceTarget):
    """Each host has a manager of its own."""

    def __init__(self) -> None:
        super().__init__(Manager(), Layout(APP).shared)

    def state(self, spec: TargetSpec, host: Any) -> UnitState:
        host._answers()
        return InstanceTarget(host.units, self.folder).state(spec, host)


class Codec:
    """Keeps environments by name."""

    def __init__(self) -> None:
        self.kept: dict[str, Environment] = {}

    def dump(self, environment: Environment) -> str:
        self.kept[str(len(self.kept))] = environment
        return str(len(self.kept) - 1)

    def load(self, text: str) -> Environment:
        return self.kept[text]

    load_place = load

    def secrets(self, environment: Environment, env_file: bytes | None = None) -> list[str]:
        return []


class HostProber:
    """Whoever probes does so through a command of the host: so each host has its own health."""

    def __init__(self, hosts: dict[str, FleetHost]) -> None:
        self._hosts = hosts

    def probe(
        self, check: HealthCheck, environment: Environment, release_folder: str, run: Any, dial: Any
    ) -> Health:
        (name,) = environment.hosts
        host = self._hosts[name]
        host._answers()
        if Path(release_folder).name.partition("-")[2][:1] in host.unhealthy:
            return Health(passed=False, detail="HTTP 503, expected 200")
        return Health(passed=True, detail="HTTP 200")


class Mortal:
    """A store, or a host, as a worker sees it: each call is a moment before and a moment after."""

    def __init__(self, behind: Any, fate: Fate) -> None:
        self._behind = behind
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._behind, name)
        if not inspect.ismethod(found) or name.startswith("_"):
            return found

        def called(*arguments: Any, **named: Any) -> Any:
            if name == "guard":
                return self._fate.guarding(found(*arguments, **named))
            self._fate.moment()
            result = found(*arguments, **named)
            self._fate.moment()
            return result

        return called


@dataclass
class Fleet:
    """One environment on several hosts, and what it takes to deploy to it."""

    folder: Path
    size: int = 3
    rollout: Rollout = field(default_factory=Rollout)
    at_once: int = 8
    durable: bool = True
    beside: bool = False  # releases run side by side

    def __post_init__(self) -> None:
        self.fate = Fate()
        self.dumpers: dict[str, Any] = {}
        self.here: FleetHost | None = None
        self.applied: list[str] = []  # the migrations of its database: see tests/fleet_database.py
        names = [f"web{number}" for number in range(1, self.size + 1)]
        kind = InstanceHost if self.beside else FleetHost
        self.hosts: dict[str, Any] = {name: kind(name, self.folder / name) for name in names}
        self.target = InstancesTarget() if self.beside else FleetTarget()
        self.repository = FakeRepository()
        self.codec = Codec()
        self.retries = Retries(first=0.01, longest=0.02)
        lay_migrated(self.folder / "db" / "f.db")
        self.store = open_sqlite(f"sqlite://{self.folder}/db/f.db", state_folder=str(self.folder / "db"))
        self.environment = environment(
            app_path=APP,
            hosts=tuple(names),
            rollout=self.rollout,
            target=TargetSpec(kind="fake", unit="orders.service"),
            health_check=HealthCheck(url="http://x/", interval=0.005, timeout=0.03, passes=1),
            build=(BuildCommand(run="echo building"),),
            min_free_disk=1,
            cutover=Cutover.blue_green if self.beside else Cutover.restart,
        )
        self.publish()
        self.store.register_worker("w", info={})
        self.on_event: Callable[[str, Any], None] = lambda event, fields: None

    def configure(self, **changes: Any) -> None:
        self.environment = replace(self.environment, **changes)
        self.publish()

    def publish(self) -> None:
        self.published = getattr(self, "published", 0) + 1
        documents = {KEY: {"hosts": list(self.environment.hosts)}}
        self.store.publish([fraise(self.environment)], digest=str(self.published), documents=documents)

    def __getitem__(self, number: int) -> FleetHost:
        return list(self.hosts.values())[number - 1]

    @property
    def run(self) -> RunDeployment:
        return self.run_of(self.fate)

    def run_of(self, fate: Fate) -> RunDeployment:
        """What a worker with this fate performs."""
        store: Any = Mortal(self.store, fate)
        return RunDeployment(
            self.tools_of(fate), store, self.codec, lambda key: self.environment, self.listen
        )

    def tools_of(self, fate: Fate) -> Tools:
        """What it performs that with."""
        there = {**self.hosts, "localhost": self.here} if self.here else self.hosts
        hosts: Any = {name: Mortal(host, fate) for name, host in there.items()}
        return Tools(
            hosts=hosts,
            targets={"fake": self.target},
            probers={"http": HostProber(self.hosts)},
            migrations={"command": CommandMigrations()},
            dumpers=self.dumpers,
            repository=self.repository,
            clock=SystemClock(),
            retries=self.retries,
            at_once=self.at_once,
        )

    def listen(self, event: str, fields: Any) -> None:
        self.on_event(event, fields)

    def at_turn_of(self, host: str, act: Callable[[], None], *, step: str = "activate") -> None:
        """Something happens once, as a step on a host begins."""

        def hear(event: str, told: Any) -> None:
            if (event, told.get("host"), told.get("step")) == ("step_started", host, step):
                self.on_event = lambda *_: None
                act()

        self.on_event = hear

    def until_due(self) -> None:
        """Return when what waits for another try may be claimed."""
        while due := self.store.next_due():
            time.sleep(due)

    def this_machine(self) -> FleetHost:
        """Where the worker itself is."""
        self.here = FleetHost("localhost", self.folder / "here")
        return self.here

    def add_host(self, name: str) -> None:
        self.hosts[name] = FleetHost(name, self.folder / name)
        self.configure(hosts=tuple(self.hosts))

    def wish(self, commit: str, trigger: Trigger = Trigger.webhook, **fields: Any) -> str:
        requested = self.store.request(
            Wish(environment=KEY, ref="refs/heads/main", trigger=trigger, commit=commit, **fields)
        )
        assert requested.deployment is not None, requested.reason
        return requested.deployment.id

    def claim(self, worker: str = "w", lease: float = 10.0) -> Claim:
        claim = self.store.claim(worker, lease=lease, environments=[KEY])
        assert claim is not None
        return claim

    def perform(self, control: Control | None = None) -> Deployment:
        """Claims and performs until the deployment has ended."""
        ended = self.run(self.claim(), control or Control())
        assert ended is not None
        return ended

    def deploy(self, commit: str, **fields: Any) -> Deployment:
        self.wish(commit, **fields)
        return self.perform()

    def heal(self) -> Deployment:
        return self.deploy("", trigger=Trigger.heal, requested_by="fraisier")

    @property
    def runs(self) -> list[str]:
        """What each host serves, by the first letter of the commit ('-' = nothing)."""
        return [host.commit[:1] or "-" for host in self.hosts.values()]

    def sides(self) -> list[Any]:
        """What an onlooker sees of each host's disk and units.

        Not what is not whole: an archive is unpacked without a token, and thrown away before the next build.
        """
        return [(host.token, host.units.starts, host.files()) for host in self.hosts.values()]

    def rows(self) -> dict[str, Any]:
        return {row["host"]: row for row in self.store.hosts()}

    def states(self) -> list[str]:
        return [row["state"] for row in self.store.hosts()]

    def close(self) -> None:
        self.store.close()
