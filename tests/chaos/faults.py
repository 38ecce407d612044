"""Scenarios of faults: what is done to Fraisier from outside, by name. `make chaos` plays them long.

    python -m tests.chaos.faults [--seed N] [--length N] [--rounds N] [--store NAME] [NAME …]

A scenario gets a world and returns, once all has come to rest, a word on how it ended. A round is repeated
by its seed, store and length; moments of chance come as near as the machine's load lets them.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import (
    faults_clock,
    faults_config,
    faults_deliveries,
    faults_disk,
    faults_postgresql,
    faults_power,
    faults_repository,
    faults_server,
    faults_workers,
)
from tests.chaos.report import Line, Report
from tests.chaos.world import STORES, World, log_of
from tests.servers.postgresql import PostgresqlServer, running

SEED = int(os.environ.get("FRAISIER_SEED", "20"))


@dataclass(frozen=True)
class Scenario:
    """`fault` is what the report calls it; `without` are invariants that it makes void."""

    play: Callable[[World], str]
    fault: str
    stores: tuple[str, ...] = STORES
    without: Collection[str] = ()


CLOCK = ("one_at_a_time",)  # it compares times of day; that no token is given twice is seen otherwise

SCENARIOS = {
    "two-workers": Scenario(faults_workers.two_workers, "kill+stop"),
    "four-workers": Scenario(faults_workers.four_workers, "kill+stop"),
    "out-of-order": Scenario(faults_deliveries.out_of_order, "deliveries"),
    "there-and-back": Scenario(faults_deliveries.there_and_back, "deliveries"),
    "the-same-at-once": Scenario(faults_deliveries.the_same_at_once, "deliveries"),
    "clock-of-the-machine": Scenario(faults_clock.clock_of_the_machine, "clock", without=CLOCK),
    "clock-of-the-server": Scenario(faults_clock.clock_of_the_server, "clock", ("postgresql",), CLOCK),
    "postgresql-restarted": Scenario(faults_postgresql.restarted, "restart", ("postgresql",)),
    "postgresql-away": Scenario(faults_postgresql.away, "restart", ("postgresql",)),
    "disk-of-the-application-full": Scenario(faults_disk.application_full, "disk"),
    "disk-of-the-state-full": Scenario(faults_disk.state_full, "disk"),
    "disk-of-the-server-full": Scenario(faults_disk.server_full, "disk", ("postgresql",)),
    "power-cut": Scenario(faults_power.power_cut, "power"),
    "server-down": Scenario(faults_server.server_down, "power"),
    "repository-unreachable": Scenario(faults_repository.unreachable, "network"),
    "repository-gone": Scenario(faults_repository.gone_for_good, "network"),
    "config-reloaded": Scenario(faults_config.reloaded, "config"),
    "config-renamed": Scenario(faults_config.renamed, "config"),
    "config-of-two-minds": Scenario(faults_config.two_minds, "config"),
}


def play(
    name: str, store: str, *, seed: int, length: int, folder: Path, server: PostgresqlServer | None
) -> Line:
    """One round, in an empty folder; what was found is in the line, and what led to it is printed."""
    scenario, began = SCENARIOS[name], time.monotonic()
    ended, found = "", ()
    with ExitStack() as stack:
        dice = random.Random(f"{seed}-{name}-{store}")
        world = World(folder, store, dice, length, stack, server if store == "postgresql" else None)
        try:
            ended = scenario.play(world)
            found = tuple(world.violations(scenario.without))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rounds are played
            traceback.print_exc()
            found = (f"it did not come to its end: {error!r:.300}",)
        if found:
            print(log_of(folder))
    return Line(name, scenario.fault, store, ended, time.monotonic() - began, found)


def main() -> int:
    """Play what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.faults")
    parser.add_argument("names", nargs="*", choices=[*SCENARIOS, []], metavar="NAME")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--length", type=int, default=4, help="how much happens in a round")
    parser.add_argument(
        "--rounds", type=int, default=1, help="of each scenario and store, each with its seed"
    )
    parser.add_argument("--store", choices=STORES)
    arguments = parser.parse_args()
    rounds = [
        (name, store, arguments.seed + number)
        for number in range(arguments.rounds)
        for name in arguments.names or SCENARIOS
        for store in SCENARIOS[name].stores
        if arguments.store in (None, store)
    ]
    words = " ".join(("python -m tests.chaos.faults", f"--length {arguments.length}", *arguments.names))
    report = Report(arguments.seed, words, len(rounds))
    report.begin()
    with running() as server:
        for name, store, seed in rounds:
            folder = Path(tempfile.mkdtemp(prefix="fraisier-faults-", dir="/var/tmp"))
            try:
                line = play(name, store, seed=seed, length=arguments.length, folder=folder, server=server)
            except pytest.skip.Exception as reason:
                line = Line(name, SCENARIOS[name].fault, store, str(reason), 0.0, reached=False)
            report.add(line)
            if line.violations:
                print(f"    seed {seed}; kept: {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
    return report.close("faults")


if __name__ == "__main__":
    sys.exit(main())
