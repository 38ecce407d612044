"""The database of a played fleet: one for all hosts, whose migrations are numbered and which tells where it is."""

from __future__ import annotations

from typing import Any

from fraisier.domain.fraise import Database
from tests.fleet import Death, Fleet


class SharedDatabase:
    """One database that every host reaches, with numbered migrations; `asked` notes who did what from where."""

    def __init__(self, fleet: Fleet) -> None:
        self.applied = fleet.applied
        self.wanted = ["1"]
        self.asked: list[str] = []
        self.dies_before = self.dies_after = self.dies_down = False
        self.fails = False
        self.keys = {"up": "up", "down": "down", "current": "current", "pending": "pending"}
        self.fleet = fleet
        self.is_configured()
        for name, host in fleet.hosts.items():
            host.scripts["current"] = self.current
            host.scripts["pending"] = self.pending
            host.scripts["up"] = lambda command, job, name=name: self.up(name)
            host.scripts["down"] = lambda command, job, name=name: self.down(name, command)

    def is_configured(self, **keys: Any) -> None:
        self.fleet.configure(database=Database(**{**self.keys, **keys}))

    def current(self, _: Any, job: Any) -> int:
        job.output(("\n".join(self.applied[-1:]) + "\n").encode())
        return 0

    def pending(self, _: Any, job: Any) -> int:
        job.output("\n".join(n for n in self.wanted if n not in self.applied).encode())
        return 0

    def up(self, host: str) -> int:
        self.asked.append(f"{host} up")
        if self.dies_before:
            self.dies_before = False
            raise Death
        if self.fails:
            return 1
        self.applied += [n for n in self.wanted if n not in self.applied]
        if self.dies_after:
            self.dies_after = False
            raise Death
        return 0

    def down(self, host: str, command: Any) -> int:
        to = command.env["FRAISIER_REVISION"]
        self.asked.append(f"{host} down to {to}")
        while self.applied and self.applied[-1] != to:
            self.applied.pop()
            if self.dies_down:
                self.dies_down = False
                raise Death
        return 0
