"""Durable acknowledgements per second beside the floor, and what they cost others: part of `make bench`.

The floors are those of `bench_servers`. Rounds of all are interleaved; medians are shown. No worker performs
anything; every delivery is distinct and was signed before the clock started.

    python -m tools.bench_receive [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.bench_pushes import ROOT, Pushes, load
from tools.bench_servers import server, write_config
from tools.loadgen import Result

CONNECTIONS = {1: 1500, 10: 6000, 100: 9000}  # connections -> requests of one round
RESULTS = ROOT / "bench-results"


def throughput(folder: Path, pushes: Pushes, rounds: int, scale: float) -> list[dict[str, Any]]:
    """Acknowledgements per second at 1, 10 and 100 connections, ours and the floors' in turn."""
    found: dict[tuple[str, int], list[Result]] = {}
    with (
        server("receiver", folder) as ours,
        server("floor", folder) as beneath,
        server("bare", folder) as lowest,
    ):
        for number in range(rounds + 1):
            for connections, count in CONNECTIONS.items():
                for kind, each in (("receiver", ours), ("floor", beneath), ("bare", lowest)):
                    result = load(each.port, connections, pushes.take(max(100, int(count * scale))))
                    if number:  # the first round warms up
                        found.setdefault((kind, connections), []).append(result)
    return [_row(connections, found) for connections in CONNECTIONS]


def _row(connections: int, found: dict[tuple[str, int], list[Result]]) -> dict[str, Any]:
    row = {kind: _medians(found[kind, connections]) for kind in ("receiver", "floor", "bare")}
    ours = row["receiver"]["per_second"]
    return {
        "connections": connections,
        **row,
        "ratio": round(ours / row["floor"]["per_second"], 3),
        "bare_ratio": round(ours / row["bare"]["per_second"], 3),
    }


def _medians(results: Sequence[Result]) -> dict[str, float]:
    return {
        "per_second": round(statistics.median(each.per_second for each in results)),
        "p50_ms": round(statistics.median(each.p50 for each in results) * 1000, 2),
        "p99_ms": round(statistics.median(each.p99 for each in results) * 1000, 2),
    }


def burst(folder: Path, pushes: Pushes, rounds: int) -> dict[str, float]:
    """Seconds until 100 pushes on 100 new connections are all answered."""
    with server("receiver", folder) as ours:
        load(ours.port, 100, pushes.take(100, close=True), at_once=True)
        times = [
            load(ours.port, 100, pushes.take(100, close=True), at_once=True).seconds for _ in range(rounds)
        ]
    return {"median_s": round(statistics.median(times), 3), "worst_s": round(max(times), 3)}


def neighbour(folder: Path, pushes: Pushes, scale: float) -> dict[str, float]:
    """How long another process's one-row commit takes, alone and beside the saturated receiver."""
    with server("receiver", folder) as ours, ThreadPoolExecutor(1) as pool:
        alone = _commits(folder, lambda number: number >= 50)
        running = pool.submit(load, ours.port, 100, pushes.take(int(30_000 * scale)))
        beside = _commits(folder, lambda _: running.done())
        running.result()
    return {
        "alone_p99_ms": _p99(alone),
        "beside_p50_ms": round(statistics.median(beside) * 1000, 2),
        "beside_p99_ms": _p99(beside),
        "beside_worst_ms": round(max(beside) * 1000, 2),
        "commits": len(beside),
    }


def _commits(folder: Path, enough: Any) -> list[float]:
    connection = sqlite3.connect(folder / "fraisier.db", timeout=30, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    times: list[float] = []
    while not enough(len(times)):
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE tb_counters SET value = value WHERE name = 'events.accepted'")
        connection.execute("COMMIT")
        times.append(time.perf_counter() - began)
        time.sleep(0.02)
    connection.close()
    return times


def _p99(times: Sequence[float]) -> float:
    return round(sorted(times)[int(len(times) * 0.99)] * 1000, 2)


def memory(folder: Path, pushes: Pushes, scale: float) -> dict[str, float]:
    """Memory of an idle `fraisier serve`, and of the receiver after 50,000 and 100,000 webhooks."""
    with server("fraisier", folder) as real:
        time.sleep(2)
        idle = real.memory
    marks: list[float] = []
    with server("receiver", folder) as ours:
        for _ in range(2):
            for _ in range(10):
                load(ours.port, 100, pushes.take(int(5000 * scale)))
            marks.append(ours.memory)
    half, whole = marks
    return {
        "idle_serve_mb": round(idle, 1),
        "after_50000_mb": round(half, 1),
        "after_100000_mb": round(whole, 1),
        "growth_mb": round(whole - half, 1),
    }


def machine(folder: Path) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "fsync_ms": _fsync(folder),
        "load_before": os.getloadavg()[0],
    }


def _fsync(folder: Path) -> float:
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1000, 3)


# -------------------------------------------------------------------------------------------------- main


def measure(rounds: int, scale: float) -> dict[str, Any]:
    """Everything, on a fresh database on the checkout's disk."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name:
        folder = Path(name)
        write_config(folder)
        pushes = Pushes()
        return {
            "machine": machine(folder),
            "throughput": throughput(folder, pushes, rounds, scale),
            "burst_of_100": burst(folder, pushes, rounds),
            "other_process": neighbour(folder, pushes, scale),
            "memory": memory(folder, pushes, scale),
        }


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    print("machine      ", found["machine"])
    print("connections   receiver/s  p50 ms  p99 ms    floor/s  p50 ms  p99 ms   ratio    bare/s   ratio")
    for row in found["throughput"]:
        ours, beneath = row["receiver"], row["floor"]
        print(
            f"{row['connections']:11}  {ours['per_second']:11} {ours['p50_ms']:7} {ours['p99_ms']:7}"
            f" {beneath['per_second']:10} {beneath['p50_ms']:7} {beneath['p99_ms']:7} {row['ratio']:7}"
            f" {row['bare']['per_second']:9} {row['bare_ratio']:7}"
        )
    for name in ("burst_of_100", "other_process", "memory"):
        print(f"{name:13}", found[name])


def main() -> None:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    arguments = parser.parse_args()
    found = measure(arguments.rounds, 0.1 if arguments.quick else 1.0)
    show(found)
    (RESULTS / "receive.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
