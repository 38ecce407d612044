"""A hundred hosts and their failures, and a plan over two hundred: a part of `make bench`.

The hosts are played (tests/fleet.py), all else is Fraisier: rule, crew, journal, store. In every rollout each
host fails with a probability of five percent: it is away, goes away in the middle of an act, cannot build, or
the release is sick there. Afterwards what each host really runs is compared with what the database says: one
that does not run what the environment is said to run has to be named. Then all are back, and are healed.

    python -m tools.bench_fleet [--rollouts 200] [--hosts 100]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fraisier.domain.deployment import Deployment
from fraisier.domain.rollout import Rollout
from tests.fleet import Fleet, FleetHost
from tools.bench_startup import RESULTS, ROOT, program

MEMORY = Path("/dev/shm")
FAILURES = 0.05
SEED = 4
CONFIG = """\
git:
  github: {{webhook_secret: bench-secret}}
database: {{url: "sqlite://{folder}/bench.db"}}
state_folder: {folder}/state
fraises:
  fleet:
    type: api
    repository: acme/bench
    clone_url: https://git.example.com/acme/bench.git
    environments:
      production:
        branch: main
        app_path: /srv/fleet
        hosts: [{hosts}]
        rollout: {{batch: "10%", canary: 2, max_failures: 3}}
        systemd_service: fleet.service
        build: ["make"]
"""


def measure(rollouts: int, hosts: int) -> dict[str, Any]:
    """Roll out that often over so many hosts, then plan over 200."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        found = _roll_out(Path(folder), rollouts, hosts)
    return {**found, "plan": _plan(200)}


def _roll_out(folder: Path, rollouts: int, hosts: int) -> dict[str, Any]:
    dice = random.Random(SEED)
    fleet = Fleet(folder, size=hosts, rollout=Rollout(batch=25, percent=True), at_once=32)
    ended: Counter[str] = Counter()
    failed = named = mixed = unhealed = 0
    taken: list[float] = []
    fleet.repository.commit(_sha(0))
    fleet.deploy(_sha(0))
    for number in range(1, rollouts + 1):
        fleet.configure(retry_for=0.0, rollout=_rollout(dice))
        fleet.repository.commit(_sha(number))
        failed += sum(_may_fail(host, dice) for host in fleet.hosts.values())
        began = time.monotonic()
        deployment = fleet.deploy(_sha(number))
        taken.append(time.monotonic() - began)
        ended[deployment.status.value] += 1
        other, unnamed = _look(fleet, deployment)
        named, mixed = named + other, mixed + unnamed
        unhealed += _all_come_back(fleet)
    fleet.close()
    return {
        "rollouts": rollouts,
        "hosts": hosts,
        "failures": failed,
        "ended": dict(ended),
        "hosts_that_ran_something_else": named,
        "mixed_without_being_named": mixed,
        "not_healed": unhealed,
        "seconds_per_rollout": round(statistics.median(taken), 2),
    }


def _sha(number: int) -> str:
    """Commits whose first letters differ, as far as there are letters: what is sick goes by them."""
    return f"{number:040x}"[::-1]


def _rollout(dice: random.Random) -> Rollout:
    return Rollout(
        batch=25, percent=True, max_failures=dice.choice((0, 5, 10, 20)), canary=dice.choice((0, 1))
    )


def _may_fail(host: FleetHost, dice: random.Random) -> bool:
    host.away, host.away_at, host.torn, host.unhealthy = False, 0, False, set()
    host.scripts.pop("echo building", None)
    if dice.random() >= FAILURES:
        return False
    kind = dice.choice(("away", "goes away", "is torn away", "sick", "cannot build"))
    host.away = kind == "away"
    if kind in ("goes away", "is torn away"):
        host.away_at, host.torn = dice.randrange(1, 14), kind == "is torn away"
    if kind == "sick":
        host.unhealthy = set("0123456789abcdef") - {host.commit[:1]}
    if kind == "cannot build":
        host.scripts["echo building"] = 1
    return True


def _look(fleet: Fleet, deployment: Deployment) -> tuple[int, int]:
    """How many hosts run something else than the environment, and how many of them nobody was told of."""
    (status,) = fleet.store.fraise_status()
    rows, others, unnamed = fleet.rows(), 0, 0
    told = set(re.findall(r"[a-z0-9]+", deployment.error_message))
    for name, host in fleet.hosts.items():
        row = rows[name]
        if host.commit == status["current_commit"] and row["state"] == "current":
            continue
        others += 1
        is_known = row["commit"] == host.commit or row["state"] == "unreachable"
        unnamed += not (name in told and is_known and row["state"] != "current" and not status["healthy"])
    return others, unnamed


def _all_come_back(fleet: Fleet) -> int:
    """Returns how many hosts that were away are not as they should be after that."""
    for host in fleet.hosts.values():
        host.away, host.away_at, host.torn, host.unhealthy = False, 0, False, set()
        host.scripts.pop("echo building", None)
    ill = [each.host for each in fleet.store.standings(fleet.environment.key) if each.is_healed_by_itself]
    if ill:
        fleet.heal()
    (status,) = fleet.store.fraise_status()
    return sum(fleet.hosts[name].commit != status["current_commit"] for name in ill)


def _plan(hosts: int) -> dict[str, Any]:
    """A plan that changes nothing, as a person waits for it."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name:
        folder = Path(name)
        names = ", ".join(f"web{number}.example.com" for number in range(1, hosts + 1))
        (folder / "fraises.yaml").write_text(CONFIG.format(folder=folder, hosts=names))
        command = [*program(), "--config", str(folder / "fraises.yaml"), "plan", "fleet", "production"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        took = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "hosts": hosts,
        "seconds": round(took, 2),
        "cpu_seconds": round(cpu, 2),
        "lines": len(done.stdout.splitlines()),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rollouts", type=int, default=200)
    parser.add_argument("--hosts", type=int, default=100)
    given = parser.parse_args()
    print(json.dumps(measure(given.rollouts, given.hosts), indent=2))


if __name__ == "__main__":
    main()
