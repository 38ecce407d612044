"""A process manager in memory that runs releases side by side, and a host that may die at any act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fraisier.application.ports import Finished, Problem, UnitState
from fraisier.domain.acts import RemoveFile, UnitCommand, WriteFile
from fraisier.domain.fraise import Cutover, Environment, TargetSpec
from fraisier.domain.plan import TargetActs
from tests.fakes import FakeHost


class Death(BaseException):
    """kill -9, as far as one thread can play it."""


@dataclass
class Manager:
    """What runs, what starts at boot. `dead` are releases whose process ends at once."""

    running: dict[str, int] = field(default_factory=dict)  # unit -> its invocation
    enabled: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)  # units that will not stop
    restarts: dict[str, int] = field(
        default_factory=dict
    )  # unit -> how often the manager says it restarted it
    starts: int = 0

    def perform(self, argv: tuple[str, ...]) -> Finished:
        """`fakectl VERB UNIT`."""
        _, verb, unit = argv
        if verb == "restart" or (verb == "start" and unit not in self.running):
            self.starts += 1
            self.running[unit] = self.starts
        if verb == "start" and any(name in unit for name in self.dead):
            del self.running[unit]
        if verb == "stop" and unit not in self.deaf:
            self.running.pop(unit, None)
        if verb == "enable":
            self.enabled.add(unit)
        if verb == "disable":
            self.enabled.discard(unit)
        return Finished(code=0, stdout=b"", stderr=b"")

    def boot(self) -> None:
        """After a power loss only what is enabled runs."""
        self.running = {unit: 1000 + number for number, unit in enumerate(sorted(self.enabled))}


class InstanceTarget:
    """`orders` runs from current; `orders@RELEASE` runs beside it."""

    kind = "fake"
    cutovers = frozenset(Cutover)

    def __init__(self, manager: Manager, folder: str) -> None:
        self.manager, self.folder = manager, folder

    def instance(self, spec: TargetSpec, release: str) -> TargetSpec:
        return replace(spec, unit=f"{spec.unit}@{release}")

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        assert environment.target is not None
        spec, listen = environment.target, environment.listen
        if environment.is_blue_green:
            spec = self.instance(spec, release_folder.rpartition("/")[2])
            listen = (f"{self.folder}/%i.sock",)
        path = f"{self.folder}/{spec.unit}.unit"

        def command(verb: str, starts: str | None = None) -> tuple[UnitCommand, ...]:
            return (UnitCommand(argv=("fakectl", verb, spec.unit), starts=starts),)

        instance = spec.unit.partition("@")[2]

        return TargetActs(
            install=(WriteFile(destination=path, content=f"{spec.unit}\n"),),
            restart=command("restart", instance),
            start=command("start", instance),
            stop=command("stop"),
            keep=command("enable"),
            retire=command("stop"),
            forget=(*command("disable"), RemoveFile(destination=path)),
            listen=listen,
        )

    def state(self, spec: TargetSpec, host: object) -> UnitState:
        invocation = self.manager.running.get(spec.unit)
        running = invocation is not None
        return UnitState(
            known=True,
            running=running,
            invocation=str(invocation) if running else "",
            restarts=self.manager.restarts.get(spec.unit, 0),
        )

    def problems(self, environment: Environment, host: object) -> Sequence[Problem]:
        return ()

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        return UnitCommand(argv=("fakectl", "logs", spec.unit))


class MortalHost(FakeHost):
    """Counts what changes something. Dies before the act with the number `dies_at`."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.done = 0
        self.dies_at = 0
        self.look_after = lambda: None

    def _mortal(self, perform: Any) -> Any:
        self.done += 1
        if self.done == self.dies_at:
            raise Death
        result = perform()
        self.look_after()
        return result

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        return self._mortal(lambda: super(MortalHost, self).act(argv, timeout=timeout))  # type: ignore[no-any-return]

    def point(self, link: str, to: str) -> None:
        self._mortal(lambda: super(MortalHost, self).point(link, to))

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        self._mortal(lambda: super(MortalHost, self).write(path, data, mode=mode))

    def remove(self, path: str, *, user: str = "") -> None:
        self._mortal(lambda: super(MortalHost, self).remove(path, user=user))
