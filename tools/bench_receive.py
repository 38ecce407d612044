"""Durable acknowledgements per second beside the floor, and what they cost others: part of `make bench`.

The floor is the same server and stack: an endpoint of Starlette that reads the body and answers 202,
nothing else; `bare` is the same without Starlette. Rounds of all are interleaved; medians are shown. No
worker performs anything; every delivery is distinct and was signed before the clock started.

    python -m tools.bench_receive [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.loadgen import Result, packed

SECRET = b"bench-secret"
BODY = 10 * 1024  # bytes
CONNECTIONS = {1: 1500, 10: 6000, 100: 9000}  # connections -> requests of one round
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench-results"
CONFIG = """\
git:
  provider: github
  github: {{webhook_secret: "{secret}"}}
database: {{url: "sqlite://{folder}/fraisier.db"}}
sweep_interval: 0
state_folder: {folder}/state
fraises:
  orders:
    type: api
    repository: acme/orders
    clone_url: file://{folder}/orders.git
    environments:
      production: {{branch: main, app_path: {folder}/app}}
"""


# ---------------------------------------------------------------------------------------------- requests


class Pushes:
    """Signed pushes to a mapped branch (or to `ref`), no two alike."""

    def __init__(self, ref: str = "refs/heads/main") -> None:
        self._number = 0
        commits = [_commit(number) for number in range(14)]
        payload = {
            "ref": ref,
            "before": "0" * 39 + "1",
            "after": "@" * 40,
            "created": False,
            "deleted": False,
            "forced": False,
            "repository": {"id": 1, "full_name": "acme/orders", "private": True},
            "pusher": {"name": "mona"},
            "sender": {"login": "mona"},
            "commits": commits,
            "head_commit": commits[-1],
            "padding": "",
        }
        payload["padding"] = "x" * (BODY - len(_compact(payload)))
        self._template = _compact(payload)

    def take(self, count: int, *, close: bool = False) -> list[bytes]:
        """The next `count` requests, as bytes for the wire."""
        return [self._one(close=close) for _ in range(count)]

    def _one(self, *, close: bool) -> bytes:
        self._number += 1
        body = self._template.replace(b"@" * 40, b"%040x" % (self._number + (1 << 150)))
        head = (
            "POST /webhook HTTP/1.1\r\nHost: localhost\r\nUser-Agent: GitHub-Hookshot/bench\r\n"
            "Accept: */*\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\n"
            f"X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-{self._number:012x}\r\n"
            "X-GitHub-Hook-ID: 292430182\r\n"
            f"X-Hub-Signature-256: sha256={hmac.digest(SECRET, body, 'sha256').hex()}\r\n"
            f"{'Connection: close' if close else 'Connection: keep-alive'}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _compact(payload: Any) -> bytes:
    """JSON as GitHub writes it."""
    return json.dumps(payload, separators=(",", ":")).encode()


def _commit(number: int) -> dict[str, Any]:
    author = {"name": "Mona Lisa", "email": "mona@example.com", "username": "mona"}
    return {
        "id": f"{number:040x}",
        "message": f"Change number {number}, and say why",
        "timestamp": "2026-11-02T12:00:00+01:00",
        "author": author,
        "committer": author,
        "added": [],
        "removed": [],
        "modified": [f"src/module_{number}.py"],
    }


# ----------------------------------------------------------------------------------------------- servers


@dataclass
class Server:
    """A server in its own process. `peak` is read from the kernel."""

    process: subprocess.Popen[str]
    port: int

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextmanager
def server(kind: str, folder: Path) -> Iterator[Server]:
    """Start `python -m tools.bench_receive --serve KIND`, or the real `fraisier serve`."""
    if kind == "fraisier":
        command = ["fraisier", "--config", str(folder / "fraises.yaml"), "serve", "--port", "0"]
    else:
        command = ["tools.bench_receive", "--serve", kind, "--folder", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    line = ""
    while "http://" not in line:
        line = process.stderr.readline()
        if not line:
            message = f"the {kind} server did not start"
            raise SystemExit(message)
    try:
        yield Server(process, int(line.strip().rpartition(":")[2]))
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def serve_here(kind: str, folder: Path) -> None:
    """Run one of the servers that are compared, in this process."""
    from fraisier import wiring
    from fraisier.cli.serving import SWITCH_INTERVAL, recorder
    from fraisier.web.server import bounds_of, build_server, listen

    configuration = wiring.load(str(folder / "fraises.yaml"))
    sockets = listen("127.0.0.1", 0)
    sys.setswitchinterval(SWITCH_INTERVAL)
    app: Any = bare if kind == "bare" else floor()
    if kind == "receiver":
        from fraisier.application.receive_push import ReceivePush
        from fraisier.web.app import App, Parts

        store = wiring.open_store(configuration)
        wiring.assemble(configuration, store=store).publish()
        forges = wiring.forges()
        receive = ReceivePush(
            configuration,
            forges=forges,
            find_forge=wiring.find_forge(),
            record=recorder(store),
            clock=wiring.SystemClock(),
        )
        app = App(Parts(receive_push=receive, forges=forges, store=store))
    port = sockets[0].getsockname()[1]

    def started() -> None:
        print(f"http://127.0.0.1:{port}", file=sys.stderr, flush=True)

    import uvloop

    uvloop.run(build_server(app, bounds_of(configuration.settings), started).serve(sockets))


def floor() -> Any:
    """Starlette with one endpoint that reads the body and answers 202, nothing else."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def endpoint(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse({}, 202)

    return Starlette(routes=[Route("/webhook", endpoint, methods=["POST"]), Route("/health", endpoint)])


async def bare(_: Any, receive: Any, send: Any) -> None:
    """The same without Starlette."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


# ---------------------------------------------------------------------------------------------- measures


def load(
    port: int, connections: int, requests: Sequence[bytes], *, at_once: bool = False, status: str = "202"
) -> Result:
    """One round of the load generator, in a process of its own. Every answer has to be `status`."""
    command = [sys.executable, "-m", "tools.loadgen", str(port), str(connections)]
    done = subprocess.run(
        command + ["--at-once"] * at_once,
        input=packed(requests),
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
    )
    result = Result(**json.loads(done.stdout))
    if result.statuses != {status: len(requests)}:
        message = f"not every push was answered {status}: {result}"
        raise SystemExit(message)
    return result


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
        (folder / "fraises.yaml").write_text(CONFIG.format(secret=SECRET.decode(), folder=folder))
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
    parser.add_argument("--serve", choices=["receiver", "floor", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_here(arguments.serve, arguments.folder)
        return
    found = measure(arguments.rounds, 0.1 if arguments.quick else 1.0)
    show(found)
    (RESULTS / "receive.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
