"""Further environments of a site, each looked at by the invariants as if it were alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.chaos.invariants import Promises, violations
from tests.chaos.site import COMMANDS, FILES_ONLY, KEEP, KINDS, ChaosSite
from tests.chaos.world import HEALTH, World
from tests.integration.outside import Serve
from tests.integration.site import service

# Which column tells the environment of a row; attempts and steps have their deployment's.
_COLUMNS = ("environment", "name")


class Environment(ChaosSite):
    """One environment of the world's site, `shop/<name>`, that follows a branch of its own."""

    def __init__(self, world: World, name: str, folder: Path, branch: str) -> None:
        site = world.site
        self.name, self.branch, self.folder, self.app = name, branch, folder, folder / "app"
        self.database, self.repository, self.config = site.database, site.repository, site.config
        self.supervised = False
        self._world = world
        self.promises = Promises()
        self._pushed = 0

    def section(self) -> str:
        """Its lines of the configuration."""
        commands = (COMMANDS + FILES_ONLY).format(folder=self.folder, keep=KEEP, health=HEALTH).strip()
        lines = [
            f"branch: {self.branch}",
            f"app_path: {self.app}",
            "min_free_disk: 1MB",
            *commands.splitlines(),
        ]
        return "".join([f"      {self.name}:\n", *(f"        {line}\n" for line in lines)])

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What the database says, of this environment."""
        if query.endswith("FROM v_fraise_status"):
            return super().rows(f"{query} WHERE environment = ?", self.name)
        found = super().rows(query, *values)
        if found and "deployment" in found[0]:
            where = "SELECT id FROM tb_deployments WHERE environment = ?"
            mine = {row["id"] for row in super().rows(where, self.name)}
            return [row for row in found if row["deployment"] in mine]
        if found and (column := next((each for each in _COLUMNS if each in found[0]), "")):
            return [row for row in found if row[column] == self.name]
        return found

    # -- what people do
    def push(self, serve: Serve, kind: str = "") -> str:
        """Push to its branch and tell of it; returns the deployment, '' if it was not accepted."""
        self._pushed += 1
        kind = kind or self._world.dice.choice(("good", "slow", "sick", "broken"))
        work = self.repository
        work.checkout(self.branch)
        for mark in KINDS:
            (work.work / mark).unlink(missing_ok=True)
        marks = {} if kind == "good" else {kind: "x"}
        version = f"{self.name}-{self._pushed}-{kind}"
        commit = work.commit({**service(version), **marks}, branch=self.branch)
        status, answer = serve.webhook(commit, self.branch)
        if status != 202:
            return ""
        self.promises.accepted(answer)
        return str(answer["deployments"][0]["id"])

    def cancel(self, serve: Serve) -> None:
        """Call off what was asked for last."""
        if self.promises.commits:
            serve.cli("cancel", list(self.promises.commits)[-1])

    def roll_back(self, serve: Serve) -> None:
        """Ask for the release before."""
        ours, self._world.promises = self._world.promises, self.promises
        try:
            self._world.note(serve.cli("rollback", "shop", self.name, "--no-wait", "--json"))
        finally:
            self._world.promises = ours

    def goes_on(self, serve: Serve) -> None:
        """Nothing that happened keeps its next push from being deployed."""
        self._world.comes_to_rest()
        last = self.push(serve, "good")
        assert last, "the push was not accepted"
        row = self._world.ended(last)
        assert row["status"] == "success", row

    def violations(self) -> list[str]:
        """What does not hold in this environment."""
        return [f"{self.name}: {each}" for each in violations(self, self.promises)]


def several(world: World, names: Iterable[str]) -> list[Environment]:
    """Give the site these environments beside `production`, which is one of what is returned."""
    first = Environment(world, "production", world.folder, "main")
    others = [Environment(world, name, world.folder / name, name) for name in names]
    for each in others:
        each.folder.mkdir()
    text = world.site.config.read_text()
    world.site.config.write_text(text + "".join(each.section() for each in others))
    world.look_at = [each.violations for each in (first, *others)]
    return [first, *others]


def only(world: World, name: str) -> None:
    """Have the invariants looked at in this environment, which the world's promises are about."""
    place = Environment(world, name, world.folder, "main")
    place.promises = world.promises
    world.look_at = [place.violations]
