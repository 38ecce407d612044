"""The premises of a round of chaos, on either store, and what its database says without Fraisier's code."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.gitrepos import git
from tests.integration.site import Premises, service

FINAL = {"success", "failed", "rolled_back", "rollback_failed", "cancelled", "superseded"}
KEEP = 3  # releases
# Versions besides `good` ones: will not build, are unhealthy, build for 0.6 s, never end building.
KINDS = ("broken", "sick", "slow", "endless")
LEASE = 1.0  # seconds

# What a deployment does to the world beside the release is noted by the commands themselves.
COMMANDS = """
build:
  - "test ! -e broken && if test -e slow; then sleep 0.6; elif test -e endless; then sleep 60; fi"
  - "echo built >> built"
database:
  framework: command
  up: "echo up $FRAISIER_RELEASE >> {folder}/migrations"
  down: "echo down $FRAISIER_RELEASE >> {folder}/migrations"
keep_releases: {keep}
"""
FILES_ONLY = """health_check: {{command: "test ! -e sick", {health}}}"""
HEALTH = "interval: 0.05, timeout: 0.4"


class ChaosSite(Premises):
    """One environment with builds, migrations and health checks that leave traces.

    `database` is the URL of a PostgreSQL database; '' = SQLite, below `folder`. A `supervised` site runs a
    service; `supervising()` has to be entered for it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: str = "",
        supervised: bool = False,
        extra: str = "",
        head: str = "",
        health: str = HEALTH,
    ) -> None:
        commands = COMMANDS if supervised else COMMANDS + FILES_ONLY
        lines = f"{commands.format(folder=folder, keep=KEEP, health=health)}\n{extra}".strip()
        head = f"worker: {{lease: {LEASE:g}s, shutdown_grace: 0.2s}}\n{head}"
        super().__init__(folder, extra=lines, head=head, supervised=supervised, database=database)

    @property
    def store(self) -> str:
        """The brand of its database."""
        return self.database.partition(":")[0]

    def push_version(self, name: str, kind: str = "good") -> str:
        """Push a version and return its commit; its kind is one of KINDS."""
        for mark in KINDS:
            (self.repository.work / mark).unlink(missing_ok=True)
        marks = {} if kind == "good" else {kind: "x"}
        return self.push({**service(name, health=503 if kind == "sick" else 200), **marks})

    # -- looking from outside
    def version_of(self, commit: str) -> str:
        """The version that a commit holds, by git."""
        return git(self.repository.bare, "show", f"{commit}:VERSION")

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What the database says, by the driver alone. `?` is a parameter on both.

        Ids and times are text on both: times in UTC, ISO 8601 with microseconds and Z, so that they sort.
        """
        with self._connected() as connection:
            if self.store == "postgresql":
                query = query.replace("?", "%s")
            found = connection.execute(query, values or None if self.store == "postgresql" else values)
            return [{name: _plain(row[name]) for name in row.keys()} for row in found.fetchall()]  # noqa: SIM118

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if self.store == "postgresql":
            with psycopg.connect(self.database, autocommit=True, row_factory=dict_row) as server:
                yield server
            return
        path = self.database.removeprefix("sqlite://")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as file:
            file.row_factory = sqlite3.Row
            yield file

    def deployments(self) -> list[dict[str, Any]]:
        """Every deployment, oldest first."""
        return self.rows("SELECT * FROM tb_deployments ORDER BY pk")

    def unfinished(self) -> list[dict[str, Any]]:
        """Deployments that have not ended."""
        return [row for row in self.deployments() if row["status"] not in FINAL]

    def ending(self) -> str:
        """How the last deployment ended that was not superseded."""
        rows = [row for row in self.deployments() if row["status"] != "superseded"]
        return ended_as(rows[-1]) if rows else "nothing"

    def locks(self) -> list[Path]:
        """What Fraisier locks on the host."""
        return list((self.app / ".fraisier").rglob("lock"))

    def comes_back(self) -> None:
        """It has just been restored to what it was before a story."""

    def settles(self, seconds: float = 20.0) -> bool:
        """Wait until everything has ended by itself; whether that came in time."""
        deadline = time.monotonic() + seconds
        while self.unfinished():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.03)
        return True


def ended_as(row: dict[str, Any]) -> str:
    """The status of a deployment or a run, and its cause."""
    return str(row["status"]) + (f" ({row['cause']})" if row["cause"] else "")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value) if isinstance(value, uuid.UUID) else value
