"""A store whose clock stands still, an environment with jobs, and what plans and watches them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fraisier.application.plan_runs import PlanRuns
from fraisier.application.ports import Configuration, Row, RunClaim, Serving, Settings
from fraisier.application.watch_runs import WatchRuns
from fraisier.database.clocks import Clocks
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import Job, Keeper, Schedule
from fraisier.domain.run import Reported, RunEnding, RunStatus, RunTrigger
from tests import factories
from tests.factories import KEY
from tests.fakes import FakeClock
from tests.migrated import lay_migrated
from tests.unit.store_contract import claimed, finished, wish

MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()
GOOD = RunEnding(status=RunStatus.success, exit_code=0)
SERVING = Serving(release="1-aaaaaaaaaa", commit="a" * 40, healthy=True)
BAD = RunEnding(status=RunStatus.failed, cause=Cause.run, error="exit code 3", exit_code=3)


def hourly(name: str = "main", **changes: Any) -> Job:
    """A job that is due at each full hour, unless told otherwise."""
    schedule = {
        key: changes.pop(key)
        for key in ("expression", "timezone", "jitter", "persistent", "grace")
        if key in changes
    }
    when = Schedule(**{"expression": "0 * * * *", "timezone": "UTC", **schedule})
    return Job(**{"name": name, "run": "bin/load", "schedule": when, **changes})


def by_systemd(name: str = "main", **changes: Any) -> Job:
    return hourly(name, keeper=Keeper.systemd, **changes)


class World:
    """One store; its environment runs a release, unless `deployed` is False."""

    def __init__(self, folder: Path, *jobs: Job, deployed: bool = True, **changes: Any) -> None:
        self.clock = FakeClock(MONDAY)
        clocks = Clocks(now=self.clock.now, boottime=self.clock.now, boot_id="boot")
        lay_migrated(folder / "db" / "f.db")
        self.store = open_sqlite(f"sqlite://{folder}/db/f.db", state_folder=str(folder / "db"), clocks=clocks)
        self.events: list[tuple[str, Row]] = []
        self.store.register_worker("w1", info={"host": "here", "pid": 4_000_000})
        self.configure(*jobs, **changes)
        if deployed:
            self.deploy()
        self.start()

    def configure(self, *jobs: Job, **changes: Any) -> None:
        each = factories.environment(jobs={job.name: job for job in jobs}, **changes)
        self.configuration = configuration_of(each)
        self.store.publish([factories.fraise(each)], digest="d", documents={KEY: {}})

    def deploy(self) -> None:
        self.store.request(wish())
        finished(self.store, claimed(self.store), Status.success, serving=SERVING)

    def start(self) -> None:
        """A worker begins to plan and to watch."""
        self.plan = PlanRuns(self.store, self.clock, self._tell)
        self.watch = WatchRuns(self.store, self.clock, self._tell)
        self.look()

    def _tell(self, event: str, fields: Row) -> None:
        self.events.append((event, fields))

    def look(self) -> None:
        self.plan(self.configuration)
        self.watch(self.configuration)

    def passes(self, seconds: float, *, step: float = 60.0) -> None:
        """Time goes by, and the worker looks again and again."""
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            self.clock.advance(min(step, until - self.clock.now()))
            self.look()

    def is_away(self, seconds: float) -> None:
        """Time goes by, and nobody looks."""
        self.clock.advance(seconds)

    # ---------------------------------------------------------------------------------- what is there
    def runs(self, job: str = "") -> list[tuple[str, str]]:
        """Due time and status of each run, oldest first."""
        rows = self.store.runs(job=job, limit=100)
        return [((row["due"] or "")[11:16], str(row["status"])) for row in reversed(rows)]

    def alerts(self) -> list[tuple[str, str]]:
        """Job and kind of those that stand, oldest first."""
        return [(row["job"], row["kind"]) for row in reversed(self.store.alerts())]

    def told(self, event: str) -> list[Row]:
        return [fields for name, fields in self.events if name == event]

    # ---------------------------------------------------------------------------------- what happens
    def claims(self) -> RunClaim | None:
        self.store.renew("w1", [], lease=15)
        return self.store.claim_run("w1", environments=[KEY])

    def begins(self) -> RunClaim:
        claim = self.claims()
        assert claim is not None
        return claim

    def ends(self, ending: RunEnding = GOOD, **changes: Any) -> Row:
        return self.store.finish_run(self.begins(), ending)

    def reports(
        self, at: float, ending: RunEnding | None = GOOD, job: str = "main", lasted: float = 5
    ) -> None:
        """systemd began a run, and its host told of it."""
        self.store.report_run(
            Reported(
                environment=KEY,
                host="web1",
                job=job,
                invocation=f"{job}-{at:.0f}",
                started_at=at,
                trigger=RunTrigger.scheduled,
                ended_at=at + lasted if ending else None,
                ending=ending,
            )
        )


def configuration_of(*environments: Environment) -> Configuration:
    found: dict[EnvironmentKey, Environment] = {each.key: each for each in environments}
    return Configuration(
        path="",
        digest="d",
        settings=Settings(database_url="", state_folder=""),
        fraises={},
        environments=found,
    )
