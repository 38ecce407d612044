"""What it costs to keep a thousand schedules: a part of `make bench`.

A thousand jobs of fifty environments, most of them nightly, some hourly, some every five minutes, in zones
with and without changes of the clock. Their worker looks every five seconds, as it does; time is played, the
store is a real one on a disk. What is counted is the CPU of the whole process: planning, and the rows that
are written.

    python -m tools.bench_schedule [--minutes 30]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from fraisier.application.plan_runs import PlanRuns
from fraisier.application.ports import Configuration, Ending, Serving, Settings
from fraisier.application.watch_runs import WatchRuns
from fraisier.database.clocks import Clocks
from fraisier.database.sqlite import SqliteStore, open_sqlite
from fraisier.domain.deployment import Status, Trigger, Wish
from fraisier.domain.fraise import Environment, EnvironmentKey, Fraise, FraiseType, Source
from fraisier.domain.job import Job, Schedule
from fraisier.domain.run import RunEnding, RunStatus

ENVIRONMENTS, JOBS = 50, 20
LOOKS = 12  # a minute
BEGIN = 1_795_000_000.0
ZONES = ("Europe/Berlin", "UTC", "America/New_York", "")
COMMIT = "a" * 40


class _Clock:
    def __init__(self) -> None:
        self.at = BEGIN

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def measure(minutes: int) -> dict[str, Any]:
    """Milliseconds of CPU a minute: planning a usual mix, watching it, and deciding on a thousand at once."""
    with tempfile.TemporaryDirectory() as folder:
        clock = _Clock()
        clocks = Clocks(now=clock.now, boottime=clock.now, boot_id="bench")
        store = open_sqlite(f"sqlite://{folder}/b.db", state_folder=folder, clocks=clocks)
        try:
            configuration = _configuration(_usual)
            _deploy_all(store, configuration)
            plan = PlanRuns(store, clock, _silent)
            watch = WatchRuns(store, clock, _silent)
            plan(configuration)
            watch(configuration)
            planned, watched, asked = [], [], 0
            for _ in range(minutes):
                planned.append(_cpu(lambda: _minute(clock, lambda: plan(configuration))))
                asked += _perform_all(store)
                watched.append(_cpu(lambda: watch(configuration)))
        finally:
            store.close()
    return {
        "jobs": ENVIRONMENTS * JOBS,
        "minutes": minutes,
        "plan_ms": round(statistics.median(planned), 1),
        "plan_worst_ms": round(max(planned), 1),
        "watch_ms": round(statistics.median(watched), 1),
        "runs_a_minute": round(asked / minutes, 1),
        "decide_ms": round(_decide(), 1),
    }


def _cpu(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return (time.process_time() - began) * 1000


def _minute(clock: _Clock, act: Callable[[], object]) -> None:
    for _ in range(LOOKS):
        clock.at += 60.0 / LOOKS
        act()


def _decide() -> float:
    """All thousand due in the same minute, without a store: only when each is due, and due next."""
    configuration = _configuration(lambda _: "* * * * *")
    clock, store = _Clock(), _NoStore(configuration)
    plan = PlanRuns(store, clock, _silent)  # type: ignore[arg-type]
    plan(configuration)
    _minute(clock, lambda: plan(configuration))
    store.asked = 0
    taken = [_cpu(lambda: _minute(clock, lambda: plan(configuration))) for _ in range(5)]
    if store.asked != 5 * ENVIRONMENTS * JOBS:
        raise RuntimeError(f"{store.asked} runs were asked for")
    return statistics.median(taken)


class _NoStore:
    def __init__(self, configuration: Configuration) -> None:
        self._rows = [
            {"fraise_id": key.fraise, "environment": key.environment, "current_release": "1-aaaaaaaaaa"}
            for key in configuration.environments
        ]
        self.asked = 0

    def planned_until(self, _: object) -> dict[tuple[str, str, str], float]:
        return {}

    def note_planned(self, _: object) -> None:
        pass

    def fraise_status(self) -> list[dict[str, str]]:
        return self._rows

    def request_run(self, _: object) -> None:
        self.asked += 1


def _usual(number: int) -> str:
    if number % 20 == 0:
        return "*/5 * * * *"
    if number % 20 < 5:
        return f"{number * 7 % 60} * * * *" if number % 2 else f"*:{number * 7 % 60:02}"
    return (
        f"{number % 60} {number * 11 % 24} * * *"
        if number % 2
        else f"Mon..Fri {number % 24:02}:{number % 60:02}"
    )


def _configuration(when: Callable[[int], str]) -> Configuration:
    found = {}
    for place in range(ENVIRONMENTS):
        source = Source(
            forge="github", repository=f"acme/f{place}", clone_url="https://git.example.com/a.git"
        )
        jobs = {}
        for each in range(JOBS):
            schedule = Schedule(expression=when(place * JOBS + each), timezone=ZONES[each % len(ZONES)])
            jobs[f"job{each}"] = Job(name=f"job{each}", run="true", schedule=schedule)
        environment = Environment(
            fraise=f"f{place}",
            name="production",
            type=FraiseType.scheduled,
            source=source,
            branch="main",
            app_path=f"/srv/f{place}",
            jobs=jobs,
        )
        found[environment.key] = environment
    return Configuration(
        path="",
        digest="d",
        settings=Settings(database_url="", state_folder=""),
        fraises={},
        environments=found,
    )


def _deploy_all(store: SqliteStore, configuration: Configuration) -> None:
    each = configuration.environments.values()
    fraises = [
        Fraise(name=one.fraise, type=one.type, source=one.source, environments={one.name: one})
        for one in each
    ]
    store.publish(fraises, digest="d", documents={key: {} for key in configuration.environments})
    store.register_worker("w", info={"host": "here", "pid": 1})
    for key in configuration.environments:
        store.request(Wish(environment=key, ref="refs/heads/main", commit=COMMIT, trigger=Trigger.manual))
        claim = store.claim("w", lease=1e9, environments=[key])
        if claim is None:
            raise RuntimeError("nothing to claim")
        attempt = store.begin_attempt(claim, resolved="{}")
        serving = Serving(release="1-aaaaaaaaaa", commit=COMMIT, healthy=True)
        store.finish(claim, attempt, Ending(status=Status.success, serving=serving))


def _perform_all(store: SqliteStore) -> int:
    """Everything that waits is done; how many there were."""
    keys: list[EnvironmentKey] = [EnvironmentKey(f"f{place}", "production") for place in range(ENVIRONMENTS)]
    done = 0
    while (claim := store.claim_run("w", environments=keys)) is not None:
        store.finish_run(claim, RunEnding(status=RunStatus.success, exit_code=0))
        done += 1
    return done


def _silent(*_: object) -> None:
    pass


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description="What it costs to keep a thousand schedules.")
    parser.add_argument("--minutes", type=int, default=30)
    print(json.dumps(measure(parser.parse_args().minutes), indent=2))


if __name__ == "__main__":
    main()
