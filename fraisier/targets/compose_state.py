"""What the containers of a project do now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from fraisier.application.ports import Host, UnitState
from fraisier.targets import docker_says
from fraisier.targets.compose_commands import Commands

# https://docs.docker.com/reference/api/engine/ ContainerInspect; the rest of it has the services' secrets.
_TEMPLATE = '["{{.Id}}","{{.Name}}",{{.RestartCount}},{{json .State}},{{json .Config.Labels}}]'
_LABEL = "com.docker.compose."
_PATIENCE = 20.0  # seconds; a daemon that pulls or removes much answers slowly


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What docker says of one."""

    id: str
    name: str
    status: str  # created, restarting, running, removing, paused, exited, dead
    code: int
    health: str
    restarts: int
    started: str
    pid: int
    service: str
    depends_on: str  # service:condition:restart, separated by commas

    def is_fine(self, jobs: set[str]) -> bool:
        """Whether it does what it is there for. A job is one that others wait for the end of."""
        if self.service in jobs:
            return self.status == "exited" and self.code == 0
        return self.status == "running" and self.health in {"", "none", "healthy"}

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it by itself."""
        return self.status in {"exited", "dead", "paused"}

    def describe(self) -> str:
        """'orders-api-1 exited (3)'."""
        more = f" ({self.code})" if self.status == "exited" else f", {self.health}" if self.health else ""
        return f"{self.name} {self.status}{more}"


def look(commands: Commands, host: Host) -> UnitState:
    """The project as one unit.

    Raises:
        StepFailed: host, when docker does not answer.
    """
    found = containers(commands, host)
    if found is None:
        return UnitState(known=True, running=False, settled=False, detail="containers come and go")
    if not found:
        return UnitState(known=True, running=False, detail="it has no containers")
    jobs = set(_jobs(found))
    bad = [each for each in found if not each.is_fine(jobs)]
    waiting = any(not each.is_over for each in bad) and not any(each.is_over for each in bad)
    return UnitState(
        known=True,
        running=not bad,
        settled=not waiting,
        invocation="" if bad else ",".join(f"{each.id[:12]}@{each.started}" for each in found),
        restarts=sum(each.restarts for each in found),
        detail=", ".join(each.describe() for each in bad) or f"{len(found)} containers run",
    )


def containers(commands: Commands, host: Host) -> list[Container] | None:
    """The project's containers, by name; None if one went while they were looked at."""
    listed = host.inspect(commands.containers(), timeout=_PATIENCE)
    if listed.code != 0:
        raise docker_says.cannot_ask(listed.code, listed.stdout + listed.stderr, host.name)
    ids = listed.stdout.decode().split()
    if not ids:
        return []
    shown = host.inspect(commands.inspect_containers(_TEMPLATE, ids), timeout=_PATIENCE)
    if shown.code != 0:
        if b"No such container" in shown.stderr:
            return None
        raise docker_says.cannot_ask(shown.code, shown.stderr, host.name)
    found = (_read(line) for line in shown.stdout.decode("utf-8", "replace").splitlines() if line)
    return sorted(found, key=lambda each: each.name)


def _read(line: str) -> Container:
    id_, name, restarts, state, labels = json.loads(line)
    return Container(
        id=id_,
        name=name.lstrip("/"),
        status=state["Status"],
        code=state["ExitCode"],
        health=(state.get("Health") or {}).get("Status", ""),
        restarts=restarts,
        started=state["StartedAt"],
        pid=state.get("Pid", 0),
        service=labels.get(f"{_LABEL}service", ""),
        depends_on=labels.get(f"{_LABEL}depends_on", ""),
    )


def _jobs(found: list[Container]) -> Iterator[str]:
    for each in found:
        for word in each.depends_on.split(","):
            service, _, condition = word.partition(":")
            if condition.startswith("service_completed_successfully"):
                yield service
