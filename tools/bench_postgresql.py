"""Durable acknowledgements per second on PostgreSQL, beside two floors: part of `make bench`.

The first floor is the same server with an endpoint that stores nothing. The second is PostgreSQL alone: as
many sessions as there are connections; each inserts a payload with one prepared statement and commits.
Rounds of all are interleaved; medians are shown, and the shares are medians of the rounds' own.

    python -m tools.bench_postgresql [--quick]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from tools.bench_pushes import BODY, ROOT, Pushes, load
from tools.bench_servers import server, write_config
from tools.bench_stores import cpu, postgresql

RESULTS = ROOT / "bench-results"
CONNECTIONS = 10
PAYLOAD = 1200  # bytes, of a push of 10 KB that was compressed


def measure(rounds: int, requests: int) -> dict[str, Any]:
    """`rounds` of `requests` each; the floor gets four times as many, to last about as long."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name, postgresql() as database:
        folder = Path(name)
        write_config(folder, database.database())
        bare = database.database()
        _prepare(bare)
        pushes, found = Pushes(), []
        with server("receiver", folder) as ours, server("floor", folder) as floor:
            for number in range(rounds + 1):
                used = cpu(ours.process.pid)
                mine = load(ours.port, CONNECTIONS, pushes.take(requests))
                used = cpu(ours.process.pid) - used
                least = load(floor.port, CONNECTIONS, pushes.take(requests * 4)).per_second
                commits = _commits(bare, requests)
                if number:  # the first round warms up
                    found.append((mine.per_second, least, commits, mine.p50, mine.p99, used / requests))
    return _summary(found)


def _summary(found: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    ours, floor, commits, p50, p99, used = (statistics.median(each) for each in zip(*found, strict=True))
    return {
        "connections": CONNECTIONS,
        "body": BODY,
        "per_second": round(ours),
        "floor_per_second": round(floor),
        "ratio": round(statistics.median(row[0] / row[1] for row in found), 3),
        "commits_per_second": round(commits),
        "commits_ratio": round(statistics.median(row[0] / row[2] for row in found), 3),
        "p50_ms": round(p50 * 1000, 2),
        "p99_ms": round(p99 * 1000, 2),
        "receiver_cpu_us": round(used * 1e6),
    }


def _prepare(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench (pk bigint GENERATED ALWAYS AS IDENTITY, payload bytea)")


def _commits(url: str, number: int) -> float:
    """Rows per second of bare INSERT and COMMIT on as many sessions."""
    sessions = [psycopg.connect(url, autocommit=True) for _ in range(CONNECTIONS)]

    def write(session: psycopg.Connection[Any]) -> None:
        for _ in range(number // CONNECTIONS):
            session.execute("INSERT INTO bench (payload) VALUES (%b)", (b"x" * PAYLOAD,), prepare=True)

    threads = [threading.Thread(target=write, args=(session,)) for session in sessions]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for session in sessions:
        session.close()
    return number // CONNECTIONS * CONNECTIONS / seconds


if __name__ == "__main__":
    print(json.dumps(measure(3, 600) if "--quick" in sys.argv else measure(9, 2000), indent=2))
