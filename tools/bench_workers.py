"""How soon a worker begins, what it costs while it waits, how soon it is succeeded: part of `make bench`.

On both stores. The request comes by a webhook to `fraisier serve`, which contains the worker, and from
another process to a `fraisier worker`; the clock starts before it is sent and stops with the journal's first
step. An idle process's CPU is what the kernel counts. For a takeover one of two workers is killed while it
builds; the clock runs until the other's attempt is in the journal.

    python -m tools.bench_workers [--quick]
"""

from __future__ import annotations

import json
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from fraisier.application.ports import Store
from fraisier.domain.deployment import Status
from fraisier.wiring import Fraisier
from tests.ports import free_port
from tests.servers.postgresql import PostgresqlServer
from tools.bench_pushes import ROOT, Pushes
from tools.bench_site import Site, request, wait_for, wait_for_workers
from tools.bench_stores import cpu, postgresql

RESULTS = ROOT / "bench-results"
NO_SWEEP = "sweep_interval: 0"
UNSEEN = 0.1  # seconds in which nobody asks how far it is: that would take the processor from it
SLOW_ONCE = ', build: ["test -e {note} || {{ touch {note}; sleep 300; }}"]'

Places = Mapping[str, Callable[[], str]]  # name of a store -> makes an empty database of it


def measure(requests: int, idle: float, takeovers: int) -> dict[str, Any]:
    """Everything: `requests` per way of asking, `idle` seconds of doing nothing."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name, postgresql() as server:
        folder, places = Path(name), _places(Path(name), server)
        found: dict[str, Any] = {store: {} for store in places}
        for store, database in places.items():
            found[store]["to_first_step"] = _to_first_step(folder / f"start-{store}", database, requests)
        for store, used in _idle(folder, places, idle, server).items():
            found[store]["idle"] = used
        for store, taken in _takeovers(folder, places, takeovers).items():
            found[store]["takeover"] = taken
    return {"stores": found, "idle_s": idle}


def _places(folder: Path, server: PostgresqlServer) -> Places:
    numbers = iter(range(1000))
    return {
        "SQLite": lambda: f"sqlite://{folder}/{next(numbers)}.db",
        "PostgreSQL": server.database,
    }


# ------------------------------------------------------------------------------------- to the first step


def _to_first_step(folder: Path, database: Callable[[], str], requests: int) -> dict[str, Any]:
    site = Site(folder / "serve", database(), head=NO_SWEEP)
    port = free_port()
    with site.opened() as parts, site.process("serve", "--port", str(port)):
        wait_for_workers(parts.store, 1)
        pushes = Pushes()
        same = _starts(parts, site, lambda commit: _push(pushes.of(commit, close=True), port), requests)
    site = Site(folder / "worker", database(), head=NO_SWEEP)
    with site.opened() as parts, site.process("worker"):
        wait_for_workers(parts.store, 1)
        other = _starts(parts, site, lambda commit: request(parts, site.keys[0], commit), requests)
    return {"same_process": same, "other_process": other}


def _starts(parts: Fraisier, site: Site, ask: Callable[[str], str], requests: int) -> dict[str, float]:
    taken = []
    for _ in range(requests + 3):  # the first ones warm up
        commit = site.add_commit()
        asked = time.time()
        deployment = ask(commit)
        time.sleep(UNSEEN)
        _until_ended(parts.store, [deployment])
        began = datetime.fromisoformat(parts.store.steps(deployment)[0]["started_at"]).timestamp()
        taken.append((began - asked) * 1000)
    counted = sorted(taken[3:])
    return {"p50_ms": round(statistics.median(counted), 2), "worst_ms": round(counted[-1], 1), "n": requests}


def _push(push: bytes, port: int) -> str:
    """Deliver a push; the id of the deployment that it asked for."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(push)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["deployments"][0]["id"])


def _until_ended(store: Store, deployments: Sequence[str]) -> None:
    for each in deployments:
        wait_for(f"the end of {each}", lambda each=each: Status(store.deployment(each)["status"]).is_final)


# ------------------------------------------------------------------------------------------------- idle


def _idle(folder: Path, places: Places, seconds: float, server: PostgresqlServer) -> dict[str, Any]:
    """Share of a core of an idle worker, and of an idle serve; of the server's processes for all sessions."""
    with ExitStack() as stack:
        processes = {}
        for store, database in places.items():
            for command in (("worker",), ("serve", "--port", str(free_port()))):
                site = Site(folder / f"idle-{store}-{command[0]}", database())
                processes[store, command[0]] = stack.enter_context(site.process(*command)).pid
                with site.opened() as parts:
                    wait_for_workers(parts.store, 1)
        time.sleep(3)  # the first sweep
        before, server_before = {at: cpu(pid) for at, pid in processes.items()}, _server_cpu(server)
        time.sleep(seconds)
        found: dict[str, Any] = {store: {} for store in places}
        for (store, command), pid in processes.items():
            found[store][command] = round((cpu(pid) - before[store, command]) / seconds * 100, 2)
        found["PostgreSQL"]["server"] = round((_server_cpu(server) - server_before) / seconds * 100, 2)
    return found


def _server_cpu(server: PostgresqlServer) -> float:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return cpu(server.pid) + sum(cpu(int(pid)) for pid in children)


# --------------------------------------------------------------------------------------------- takeover


def _takeovers(folder: Path, places: Places, rounds: int) -> dict[str, Any]:
    with ThreadPoolExecutor(len(places)) as pool:
        running = {
            store: [
                pool.submit(_takeover, folder / f"takeover-{store}-{number}", database())
                for number in range(rounds)
            ]
            for store, database in places.items()
        }
        return {store: _summary([each.result() for each in tries]) for store, tries in running.items()}


def _takeover(folder: Path, database: str) -> float:
    """Seconds from the kill of the worker that builds to the next one's attempt."""
    site = Site(folder, database, head=NO_SWEEP, extra=SLOW_ONCE.format(note=folder / "note"))
    with site.opened() as parts:
        first = site.start("worker")
        try:
            deployment = request(parts, site.keys[0], site.commit)
            wait_for("the build", (folder / "note").exists)
            with site.process("worker"):
                wait_for_workers(parts.store, 2)
                time.sleep(random.uniform(0, 3.4))  # anywhere between two renewals
                first.kill()
                began = time.monotonic()
                wait_for("the takeover", lambda: parts.store.deployment(deployment)["attempts"] == 2)
                taken = time.monotonic() - began
                _until_ended(parts.store, [deployment])
        finally:
            first.kill()
            first.wait()
    return taken


def _summary(taken: Sequence[float]) -> dict[str, Any]:
    return {"worst_s": round(max(taken), 2), "all_s": [round(each, 2) for each in taken]}


if __name__ == "__main__":
    print(json.dumps(measure(10, 20, 1) if "--quick" in sys.argv else measure(40, 45, 3), indent=2))
