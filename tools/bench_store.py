"""Measures the store: reading beside a million deployments, recording, and what others notice of it.

    python tools/bench_store.py [--rows 1000000] [--seconds 3] [--folder DIR]

Prints medians and percentiles; limits belong to whoever reads them. The database lies in a new folder below
DIR (the checkout by default: its disk is the one that counts) and is removed afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fraisier.application.ports import Delivery  # noqa: E402
from fraisier.database.sqlite import SqliteStore, open_sqlite  # noqa: E402
from fraisier.domain.deployment import Trigger, Wish  # noqa: E402
from fraisier.domain.fraise import Environment, EnvironmentKey, Fraise, FraiseType, Source  # noqa: E402
from fraisier.domain.push import Change, EventKind, Push, RefKind  # noqa: E402

ENVIRONMENTS = 10
KEY = EnvironmentKey("fraise0", "production")

# A million deployments at once, a minute apart, ended like real ones: most succeeded, some did not.
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
INSERT INTO tb_deployments (id, fraise, environment, ref, "commit", status, trigger, requested_by,
    requested_at, started_at, completed_at, duration, release)
SELECT lower(substr(u, 1, 8) || '-' || substr(u, 9, 4) || '-4' || substr(u, 14, 3) || '-a' || substr(u, 18, 3)
             || '-' || substr(u, 21, 12)),
       'fraise' || (i % :environments / 2), CASE i % 2 WHEN 0 THEN 'production' ELSE 'staging' END,
       'refs/heads/main', lower(u || substr(u, 1, 8)),
       CASE WHEN i % 100 < 60 THEN 'success' WHEN i % 100 < 90 THEN 'superseded'
            WHEN i % 100 < 96 THEN 'failed'
            WHEN i % 100 < 99 THEN 'rolled_back' ELSE 'cancelled' END,
       'webhook', 'alice', at, at, at, 12.5, i || '-abcdef0123'
  FROM (SELECT i, hex(randomblob(16)) AS u,
               strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', (i - :rows) || ' minutes') AS at FROM n)
"""
RECOUNT = """
INSERT INTO tb_deployment_days (fraise, environment, day, status, total, timed, seconds)
SELECT fraise, environment, substr(requested_at, 1, 10), status, count(*), count(duration), sum(duration)
  FROM tb_deployments GROUP BY 1, 2, 3, 4;
"""

# What another process does: one row, one commit, at moments of its own. Prints milliseconds.
OTHER_WRITER = """
import random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
connection.execute("PRAGMA synchronous=FULL")
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO tb_audit_log (at, actor, action, subject) VALUES ('', 'bench', '', '')")
    connection.execute("COMMIT")
    print((time.perf_counter() - began) * 1000)
    time.sleep(random.uniform(0.001, 0.02))
"""

# Requests in another process; prints when each was asked for (CLOCK_BOOTTIME).
OTHER_REQUESTER = """
import sys, time
sys.path.insert(0, sys.argv[3])
from tools.bench_store import KEY, open_in, wish
from pathlib import Path
store = open_in(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    time.sleep(0.02)
    print(time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
    store.request(wish(number))
store.close()
"""


def open_in(folder: Path) -> SqliteStore:
    """The store in a folder."""
    return open_sqlite(f"sqlite://{folder}/bench.db", state_folder=str(folder))


def fraises() -> list[Fraise]:
    """As many environments as there are `ENVIRONMENTS`, two to a fraise."""
    source = Source(
        forge="github", repository="acme/bench", clone_url="https://git.example.com/acme/bench.git"
    )
    found = []
    for number in range(ENVIRONMENTS // 2):
        name = f"fraise{number}"
        base = Environment(fraise=name, name="production", type=FraiseType.api, source=source, branch="main")
        both = {"production": base, "staging": replace(base, name="staging", branch="dev")}
        found.append(Fraise(name=name, type=FraiseType.api, source=source, environments=both))
    return found


def wish(number: int) -> Wish:
    """A push of a commit of its own."""
    commit = f"{number:040x}"
    return Wish(
        environment=KEY,
        ref="refs/heads/main",
        trigger=Trigger.webhook,
        commit=commit,
        tip=commit,
        requested_by="a",
    )


def payload() -> bytes:
    """About 10 KB, as compressible as what GitHub sends."""
    base = "https://api.github.com/repos/acme/orders"
    links = {
        f"{word}_url": f"{base}/{word}{{/sha}}" for word in ("blobs", "commits", "contents", "git", "hooks")
    }
    commits = [
        {"id": os.urandom(20).hex(), "message": f"Change {n}", "url": f"{base}/commits/{n}", **links}
        for n in range(24)
    ]
    return json.dumps({"ref": "refs/heads/main", "repository": links, "commits": commits}).encode()[:10_240]


def deliver(number: int, body: bytes) -> Delivery:
    """A delivery of its own, mapped to one environment."""
    commit = f"{number:040x}"
    change = Change(kind=RefKind.branch, name="main", before=commit, after=commit, commit=commit)
    push = Push(
        forge="github",
        type="push",
        kind=EventKind.push,
        delivery_id=f"{os.urandom(16).hex()}-{number}",
        repository="acme/orders",
        sender="alice",
        changes=(change,),
    )
    return Delivery(push=push, payload=body, received_at=time.time(), wishes=(wish(number),))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def show(name: str, milliseconds: Sequence[float]) -> None:
    """One line: median, 99th percentile, worst."""
    median, high = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    worst = max(milliseconds, default=float("nan"))
    figures = f"p50 {median:8.2f} ms   p99 {high:8.2f} ms   worst {worst:8.2f} ms   n {len(milliseconds)}"
    print(f"{name:48} {figures}", flush=True)


def timed(times: int, act: Callable[[], object]) -> list[float]:
    """Milliseconds of each of some calls."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def fsync_time(folder: Path) -> list[float]:
    """Milliseconds of writing and syncing one page."""
    with (folder / "fsync").open("wb", buffering=0) as file:

        def write() -> None:
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())

        return timed(100, write)


def fill(folder: Path, rows: int) -> None:
    """A database with that many deployments."""
    store = open_in(folder)
    store.publish(fraises(), digest="bench", documents={})
    store.close()
    with sqlite3.connect(folder / "bench.db") as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-200000")
        connection.execute(FILL, {"rows": rows, "environments": ENVIRONMENTS})
        connection.executescript(RECOUNT)


def bench_reading(folder: Path) -> None:
    """History and status, with the filters that people use and the one that matches nothing."""
    store = open_in(folder)
    some = store.history(limit=1)[0]
    reads: dict[str, Callable[[], object]] = {
        "status": store.fraise_status,
        "history": store.history,
        "history fraise": lambda: store.history("fraise1"),
        "history fraise environment": lambda: store.history("fraise1", "staging"),
        "history --status failed": lambda: store.history(status="failed"),
        "history --status rollback_failed (none)": lambda: store.history("fraise1", status="rollback_failed"),
        "history offset 1000": lambda: store.history("fraise1", offset=1000),
        "stats 30 days": store.stats,
        "counts": store.counts,
        "show, by prefix": lambda: store.deployment(some["id"][:8]),
        "events": store.events,
    }
    for name, read in reads.items():
        show(name, timed(20, read))
    store.close()
    url = f"sqlite://{folder}/bench.db"

    def open_and_read() -> None:
        opened = open_sqlite(url, state_folder=str(folder), readonly=True)
        opened.history()
        opened.close()

    show("open for reading + history", timed(20, open_and_read))


async def record_for(store: SqliteStore, callers: int, seconds: float, first: int) -> list[float]:
    """Milliseconds of each delivery that some callers record, one after the other each."""
    loop, taken, body = asyncio.get_running_loop(), [], payload()
    number, until = first, time.monotonic() + seconds

    async def call() -> None:
        nonlocal number
        while time.monotonic() < until:
            number += 1
            began = time.perf_counter()
            await store.record_async(deliver(number, body), loop)
            taken.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(call() for _ in range(callers)))
    return taken


def bench_recording(store: SqliteStore, seconds: float) -> None:
    """Durable deliveries per second at 1, 10 and 100 callers."""
    for round_number in range(3):
        for callers in (1, 10, 100):
            first = (round_number + 1) * 10_000_000 + callers * 100_000
            taken = asyncio.run(record_for(store, callers, seconds, first))
            show(f"record, {callers} callers: {len(taken) / seconds:,.0f}/s", taken)


def bench_other_process(store: SqliteStore, folder: Path, seconds: float) -> None:
    """Another process's one-row commit, alone and while a hundred callers record."""
    command = [sys.executable, "-c", OTHER_WRITER, str(folder / "bench.db"), str(seconds)]
    alone = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    show("another process commits, alone", [float(line) for line in alone.split()])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        taken = asyncio.run(record_for(store, 100, seconds + 0.5, 90_000_000))
        output, _ = other.communicate(timeout=60)
    show("another process commits, beside 100 callers", [float(line) for line in output.split()])
    show(f"  meanwhile recorded: {len(taken) / (seconds + 0.5):,.0f}/s", taken)


def bench_wake(folder: Path) -> None:
    """From a request in another process to the wake here."""
    store, wakes = open_in(folder), []
    unsubscribe = store.subscribe(lambda: wakes.append(time.clock_gettime(time.CLOCK_BOOTTIME)))
    command = [sys.executable, "-c", OTHER_REQUESTER, str(folder), "50", str(ROOT)]
    asked = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    firsts = (next((wake for wake in wakes if wake > float(moment)), None) for moment in asked)
    taken = [(wake - float(moment)) * 1000 for moment, wake in zip(asked, firsts, strict=True) if wake]
    show("from a request in another process to the wake", taken)
    unsubscribe()
    store.close()


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, default=ROOT)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix=".bench-store-", dir=arguments.folder))
    try:
        print(f"fsync of a page: {statistics.median(fsync_time(folder)):.2f} ms")
        if arguments.rows:
            began = time.monotonic()
            fill(folder, arguments.rows)
            print(f"{arguments.rows:,} deployments made in {time.monotonic() - began:.1f} s")
            bench_reading(folder)
        empty = folder / "empty"
        store = open_in(empty)
        store.publish(fraises(), digest="bench", documents={})
        bench_recording(store, arguments.seconds)
        bench_other_process(store, empty, arguments.seconds)
        store.close()
        bench_wake(empty)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
