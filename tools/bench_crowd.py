"""Many workers and many environments, and what a crash leaves behind: part of `make bench`.

On both stores. Four `fraisier worker` processes perform 400 requests for 20 environments, none of which
supersedes another: each is fetched, unpacked, synced and switched to. The floor is a shell script that does
the same acts without a journal, four at a time. Then 1,000 attempts in 1,000 environments are left behind by
a process that died, in several steps; the clock runs from the start of the next worker's process until the
last of them is classified: ended as interrupted in the journal.

    python -m tools.bench_crowd [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from fraisier import wiring
from fraisier.domain.plan import Phase, StepName
from fraisier.wiring import Fraisier
from tests.servers.postgresql import PostgresqlServer
from tools.bench_pushes import ROOT
from tools.bench_site import Site, request, wait_for, wait_for_workers
from tools.bench_stores import postgresql

RESULTS = ROOT / "bench-results"
WORKERS, ENVIRONMENTS = 4, 20
NO_SWEEP = "sweep_interval: 0"
LEFT_IN = (StepName.fetch, StepName.build, StepName.migrate)
LEASE = 1.0  # seconds, of the process that dies

# The same acts by hand.
SCRIPT = """\
set -eu
cd {folder}
for number in $(seq {first} {step} {last}); do
  app=script/$((number % {environments})); mkdir -p $app/releases; release=releases/$number
  git --git-dir=script.git rev-parse --verify --quiet refs/heads/main >/dev/null
  mkdir $app/$release
  git --git-dir=script.git archive --format=tar main | tar --extract --file=- --no-same-owner -C $app/$release
  sync -f $app/$release
  echo main >$app/$release.whole; sync $app/$release.whole
  ln -s $release $app/current.new; mv -T $app/current.new $app/current; sync $app
done
"""


def measure(requests: int, attempts: int) -> dict[str, Any]:
    """`requests` for the workers, `attempts` that were interrupted."""
    RESULTS.mkdir(exist_ok=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name, postgresql() as server:
        for store in ("SQLite", "PostgreSQL"):
            folder = Path(name) / store
            found[store] = {
                "crowd": _crowd(folder / "crowd", _database(server, store, folder), requests),
                "recovery": _recovery(folder / "left", _database(server, store, folder), attempts),
            }
    return {"stores": found}


def _database(server: PostgresqlServer, store: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    number = len(list(folder.iterdir()))
    return f"sqlite://{folder}/{number}.db" if store == "SQLite" else server.database()


# ------------------------------------------------------------------------------------------------ crowd


def _crowd(folder: Path, database: str, requests: int) -> dict[str, Any]:
    site = Site(folder, database, environments=ENVIRONMENTS, head=NO_SWEEP)
    with site.opened() as parts, ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(site.process("worker"))
        wait_for_workers(parts.store, WORKERS)
        began = time.monotonic()
        for number in range(requests):
            request(parts, site.keys[number % ENVIRONMENTS], site.commit)
        wait_for("the last deployment", lambda: _unfinished(parts) == 0)
        seconds = time.monotonic() - began
    floor = _floor(folder, requests)
    return {
        "requests": requests,
        "seconds": round(seconds, 1),
        "per_second": round(requests / seconds, 1),
        "floor_per_second": round(requests / floor, 1),
        **_faults(database, requests),
    }


def _unfinished(parts: Fraisier) -> int:
    counts = parts.store.counts()
    return sum(counts.get(f"deployments.{status}", 0) for status in ("pending", "running"))


def _faults(database: str, requests: int) -> dict[str, int]:
    """Requests that were not performed, and attempts that began before the one before had ended."""
    performed = _rows(database, "SELECT count(*) FROM tb_deployments WHERE status = 'success'")[0][0]
    attempts = _rows(
        database,
        "SELECT d.environment, a.started_at, a.ended_at, a.token FROM tb_deployment_attempts a"
        " JOIN tb_deployments d ON d.id = a.deployment ORDER BY d.environment, a.token",
    )
    overlaps = sum(
        one[0] == next_[0] and (one[2] is None or str(one[2]) > str(next_[1]))
        for one, next_ in pairwise(attempts)
    )
    return {"lost": requests - performed, "overlaps": overlaps, "attempts": len(attempts)}


def _floor(folder: Path, requests: int) -> float:
    """Seconds of as many shell scripts at once as there were workers."""
    subprocess.run(
        ("git", "clone", "--quiet", "--mirror", str(folder / "orders.git"), str(folder / "script.git")),
        check=True,
    )
    began = time.monotonic()
    running = []
    for first in range(WORKERS):
        script = SCRIPT.format(
            folder=folder, first=first, step=WORKERS, last=requests - 1, environments=ENVIRONMENTS
        )
        running.append(subprocess.Popen(("sh", "-c", script)))
    if any(status for status in [each.wait() for each in running]):
        message = "the script failed"
        raise SystemExit(message)
    return time.monotonic() - began


# --------------------------------------------------------------------------------------------- recovery


def _recovery(folder: Path, database: str, attempts: int) -> dict[str, Any]:
    site = Site(folder, database, environments=attempts, head=NO_SWEEP)
    with site.opened() as parts:
        for key in site.keys:
            request(parts, key, site.commit)
    command = [sys.executable, "-m", "tools.bench_crowd", "--leave-behind", str(folder), str(attempts)]
    subprocess.run(command, cwd=ROOT, check=True)
    time.sleep(LEASE)
    began = time.monotonic()
    process = site.start("worker")
    try:
        wait_for("the interrupted attempts", lambda: _classified(database) == attempts)
        taken = time.monotonic() - began
    finally:
        process.kill()
        process.wait()
    return {"attempts": attempts, "seconds": round(taken, 2)}


def _classified(database: str) -> int:
    time.sleep(0.02)
    query = "SELECT count(*) FROM tb_deployment_attempts WHERE number = 1 AND outcome = 'interrupted'"
    return int(_rows(database, query)[0][0])


def leave_behind(folder: Path, attempts: int) -> None:
    """Begin an attempt in each environment, and die. Runs in a process of its own."""
    configuration = wiring.load(str(folder / "fraises.yaml"))
    keys = list(configuration.environments)
    with closing(wiring.open_store(configuration)) as store:
        parts = wiring.assemble(configuration, store=store)
        store.register_worker("dead", info={"host": "bench", "pid": os.getpid(), "version": ""})
        for number in range(attempts):
            claim = store.claim("dead", lease=LEASE, environments=[keys[number]])
            assert claim is not None
            resolved = parts.codec.dump(parts.environment(claim.environment))
            attempt = store.begin_attempt(claim, resolved=resolved)
            step = LEFT_IN[number % len(LEFT_IN)]
            store.begin_step(claim, attempt, phase=Phase.deploy, name=step, release="")
        os._exit(0)


# ------------------------------------------------------------------------------------------------- SQL


def _rows(database: str, query: str) -> Sequence[Any]:
    with _connected(database) as connection:
        return list(connection.execute(query).fetchall())


@contextmanager
def _connected(database: str) -> Iterator[Any]:
    if database.startswith("sqlite"):
        import sqlite3

        path = database.removeprefix("sqlite://")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            yield connection
    else:
        import psycopg

        with psycopg.connect(database, autocommit=True) as server:
            yield server


if __name__ == "__main__":
    if sys.argv[1:2] == ["--leave-behind"]:
        leave_behind(Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(measure(100, 200) if "--quick" in sys.argv else measure(400, 1000), indent=2))
