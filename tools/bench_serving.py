"""How fast `/health` answers while five deployments build and webhooks come in: part of `make bench`.

The builds print a lot and compute a little until they are told to end; a prober in a process of its own asks
every 10 ms, and counts the questions that it could not ask because an answer was late. It asks the floor in
turn: a server that does nothing, on the same machine beside the same builds. Also the time from a request in
another process to the first step.

    python -m tools.bench_serving [--seconds 30]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tools.bench_pushes import Pushes
from tools.bench_servers import Server, server

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench-results"
BUILDS = 5
TICK = 0.01  # seconds between two questions
WEBHOOKS_PER_SECOND = 50
WAIT = 30.0  # seconds for anything

# Each second 80 KB of output and a twentieth of a processor.
BUILD = """\
import os, sys, time
line = "compiling module_%07d of the application with all of its many options -O2 -g\\n"
number = 0
while not os.path.exists(sys.argv[1]):
    began = time.perf_counter()
    for _ in range(50):
        number += 1
        sys.stdout.write(line % number)
    sys.stdout.flush()
    while time.perf_counter() - began < 0.0025:
        pass
    time.sleep(0.047)
"""
CONFIG = """\
git:
  github: {{webhook_secret: bench-secret}}
database: {{url: "sqlite://{folder}/fraisier.db"}}
sweep_interval: 0
state_folder: {folder}/state
worker: {{concurrency: {builds}}}
fraises:
  builder:
    type: api
    repository: acme/builder
    clone_url: {folder}/builder.git
    environments:
{environments}
  orders:
    type: api
    repository: acme/orders
    clone_url: {folder}/builder.git
    environments:
      production: {{branch: main, app_path: {folder}/orders}}
  quick:
    type: api
    repository: acme/quick
    clone_url: {folder}/builder.git
    environments:
      production: {{branch: b1, app_path: {folder}/quick}}
"""
ENVIRONMENT = """\
      env{number}:
        branch: b{number}
        app_path: {folder}/app{number}
        build: ["{python} build.py {folder}/stop"]
"""


# ---------------------------------------------------------------------------------------------- the prober


def probe(ports: Sequence[int], seconds: float) -> list[dict[str, float]]:
    """Ask each port's `/health` in turn every tick for some seconds, over one connection each."""
    taken: list[list[float]] = [[] for _ in ports]
    with ExitStack() as stack:
        connections = [stack.enter_context(_connected(port)) for port in ports]
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            for connection, times in zip(connections, taken, strict=True):
                _ask(connection, times)
            time.sleep(max(0.0, began + TICK - time.perf_counter()))
    return [_summary(sorted(times)) for times in taken]


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _ask(connection: socket.socket, times: list[float]) -> None:
    began = time.perf_counter()
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    _read_answer(connection)
    took = time.perf_counter() - began
    times.append(took)
    # While one answer was late, others would have been asked for, and have waited for the rest.
    times += [took - TICK * missed for missed in range(1, int(took / TICK) + 1)]


def _summary(ordered: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 2),
        "worst_ms": round(ordered[-1] * 1000, 2),
        "answers": len(ordered),
    }


def _read_answer(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if b" 20" not in lines[0]:
        message = f"/health answered {lines[0]!r}"
        raise SystemExit(message)
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _some(connection)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        message = "the server closed the connection"
        raise SystemExit(message)
    return data


def _probed(ours: Server, floor: Server, seconds: float) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-m", "tools.bench_serving", "--seconds", str(seconds)]
    command += ["--probe", str(ours.port), str(floor.port)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=seconds + WAIT)
    return dict(zip(("fraisier", "floor"), json.loads(done.stdout), strict=True))


# ------------------------------------------------------------------------------------------- the webhooks


@contextmanager
def webhooks(port: int, seconds: float) -> Iterator[Callable[[], int]]:
    """Send mapped pushes all the time; gives how many were accepted."""
    requests = Pushes().take(int(seconds * WEBHOOKS_PER_SECOND))
    done, accepted = threading.Event(), [0]

    def send() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            for request in requests:
                connection.sendall(request)
                accepted[0] += b" 202 " in _some(connection)
                if done.wait(1 / WEBHOOKS_PER_SECOND):
                    return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lambda: accepted[0]
    finally:
        done.set()
        thread.join()


# --------------------------------------------------------------------------------------------- the rounds


def _set_up(folder: Path) -> str:
    """A repository with the build on a branch per environment, and the configuration; returns the commit."""
    work = folder / "work"
    _git("init", "--quiet", "--initial-branch=b1", str(work))
    (work / "build.py").write_text(BUILD)
    _git("-C", str(work), "add", ".")
    who = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
    _git("-C", str(work), *who, "commit", "--quiet", "--message=build")
    for number in range(2, BUILDS + 1):
        _git("-C", str(work), "branch", f"b{number}")
    _git("clone", "--quiet", "--bare", str(work), str(folder / "builder.git"))
    environments = "".join(
        ENVIRONMENT.format(number=number, folder=folder, python=sys.executable)
        for number in range(1, BUILDS + 1)
    )
    text = CONFIG.format(folder=folder, builds=BUILDS, environments=environments.rstrip())
    (folder / "fraises.yaml").write_text(text)
    return _git("-C", str(work), "rev-parse", "HEAD")


def _git(*args: str) -> str:
    done = subprocess.run(("git", *args), check=True, stdout=subprocess.PIPE, text=True, timeout=WAIT)
    return done.stdout.strip()


def measure(seconds: float, requests: int = 15) -> dict[str, Any]:
    """Everything, in a temporary folder on the checkout's disk."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name:
        folder = Path(name)
        _set_up(folder)
        with server("fraisier", folder) as serve, server("floor", folder) as floor, _log_thrown_away(serve):
            idle = _probed(serve, floor, max(3.0, seconds / 6))
            start = _starts(folder, requests)
            try:
                busy, accepted, output = _while_building(folder, (serve, floor), seconds)
            finally:
                (folder / "stop").touch()
            _until(lambda: _count(folder, "status = 'running'") == 0)
            succeeded = _count(folder, "fraise = 'builder' AND status = 'success'")
    return {
        "seconds": seconds,
        "idle": idle,
        "busy": busy,
        "webhooks_accepted": accepted,
        "build_output_kb_per_s": output,
        "builds_succeeded": succeeded,
        "to_first_step": start,
    }


def _while_building(
    folder: Path, servers: tuple[Server, Server], seconds: float
) -> tuple[dict[str, dict[str, float]], int, int]:
    for number in range(1, BUILDS + 1):
        _deploy(folder, "builder", f"env{number}")
    _until(lambda: _building(folder) == BUILDS)
    before = _written(folder)
    with webhooks(servers[0].port, seconds + 5) as accepted:
        busy = _probed(*servers, seconds)
        return busy, accepted(), round((_written(folder) - before) / seconds / 1024)


def _starts(folder: Path, requests: int) -> dict[str, float]:
    """From a request in another process to the first step, by the store's own times."""
    taken = []
    for _ in range(requests):
        _deploy(folder, "quick", "production", "--force")
        _until(lambda: _count(folder, "status IN ('running', 'pending')") == 0)
    query = """
        SELECT d.requested_at, min(s.started_at)
          FROM tb_deployments d JOIN tb_deployment_steps s ON s.deployment = d.id
         WHERE d.fraise = 'quick' GROUP BY d.id"""
    taken = [(_moment(began) - _moment(asked)) * 1000 for asked, began in _rows(folder, query)]
    return {"p50_ms": round(statistics.median(taken), 1), "worst_ms": round(max(taken), 1), "n": len(taken)}


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _deploy(folder: Path, fraise: str, environment: str, *options: str) -> None:
    command = [sys.executable, "-m", "fraisier", "--config", str(folder / "fraises.yaml"), "deploy"]
    subprocess.run(
        [*command, fraise, environment, "--no-wait", *options],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
        timeout=WAIT,
    )


def _building(folder: Path) -> int:
    query = "SELECT count(*) FROM tb_deployment_steps WHERE step = 'build' AND state = 'running'"
    return int(_rows(folder, query)[0][0])


def _count(folder: Path, condition: str) -> int:
    query = f"SELECT count(*) FROM tb_deployments WHERE fraise <> 'orders' AND {condition}"
    return int(_rows(folder, query)[0][0])


def _written(folder: Path) -> int:
    """Bytes of output that builds have written, kept or dropped."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sum(_written_by(pid) for pid in pids if _is_build(pid, str(folder)))


def _is_build(pid: int, folder: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"build.py" in words and f"{folder}/stop".encode() in words


def _written_by(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("wchar"))


def _rows(folder: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{folder}/fraisier.db?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not look():
        if time.monotonic() > deadline:
            message = f"waited {WAIT:g} s in vain"
            raise SystemExit(message)
        time.sleep(0.02)


@contextmanager
def _log_thrown_away(serve: Server) -> Iterator[None]:
    """Nobody reads the server's stderr, which must not fill its pipe."""
    stream = serve.process.stderr
    if stream is None:
        yield
        return
    descriptor = os.dup(stream.fileno())

    def read() -> None:
        while os.read(descriptor, 1 << 16):
            pass
        os.close(descriptor)

    threading.Thread(target=read, daemon=True).start()
    yield


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(json.dumps(found, indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--probe", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.probe:
        print(json.dumps(probe(given.probe, given.seconds)))
        return
    show(measure(given.seconds))


if __name__ == "__main__":
    main()
