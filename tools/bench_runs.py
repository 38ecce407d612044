"""A run beside its bare command: part of `make bench`.

A worker performs the same job again and again, asked for one at a time; each is measured from the moment when
it is asked for to the one when its end is stored, by the clock of who asks. The floor is the same line by
`/bin/sh -c` in the same folder. Both in turn, so that a busy machine slows down both.

    python -m tools.bench_runs [--rounds 60]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from fraisier import wiring
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.run import RunStatus
from fraisier.worker import Worker
from tools.bench_pushes import SECRET

KEY = EnvironmentKey("bench", "production")
LINE = "true"
WAIT = 60.0  # seconds for anything
CONFIG = """\
git:
  github: {{webhook_secret: {secret}}}
database: {{url: "sqlite://{folder}/fraisier.db"}}
sweep_interval: 0
state_folder: {folder}/state
fraises:
  bench:
    type: etl
    repository: acme/bench
    clone_url: {folder}/bench.git
    environments:
      production: {{branch: main, app_path: {folder}/app, min_free_disk: 1MB, command: "{line}"}}
"""


def measure(rounds: int) -> dict[str, Any]:
    """Medians and 95th percentiles in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="fraisier-bench-") as name:
        folder = Path(name)
        _make_repository(folder)
        config = folder / "fraises.yaml"
        config.write_text(CONFIG.format(secret=SECRET.decode(), folder=folder, line=LINE))
        fraisier = wiring.assemble(wiring.load(str(config)))
        fraisier.publish()
        worker = Worker(fraisier)
        worker.start()
        try:
            release = _deployed(fraisier)
            bare, run = [], []
            for number in range(rounds + 5):
                floor, ours = _bare(folder / "app" / "releases" / release), _run(fraisier)
                if number >= 5:  # the first ones find nothing in any cache
                    bare.append(floor)
                    run.append(ours)
        finally:
            worker.stop(5)
            fraisier.store.close()
    over = [ours - floor for ours, floor in zip(run, bare, strict=True)]
    return {
        "rounds": rounds,
        "bare_ms": _ms(statistics.median(bare)),
        "run_ms": _ms(statistics.median(run)),
        "over_ms": _ms(statistics.median(over)),
        "over_p95_ms": _ms(statistics.quantiles(over, n=20)[-1]),
        "processes": sum(path.name.isdigit() for path in Path("/proc").iterdir()),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _bare(folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(("/bin/sh", "-c", LINE), cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _run(fraisier: wiring.Fraisier) -> float:
    """Until the store has its end; the store wakes us as it wakes whoever follows a run."""
    store, woken = fraisier.store, threading.Event()
    unsubscribe = store.subscribe(woken.set)
    try:
        began = time.perf_counter()
        run = fraisier.request_run(KEY, parameters={}, by="bench")["id"]
        while True:
            woken.clear()
            row = store.run(run)
            if RunStatus(row["status"]).is_final:
                break
            if not woken.wait(WAIT):
                message = f"run {run} does not end"
                raise TimeoutError(message)
        took = time.perf_counter() - began
    finally:
        unsubscribe()
    if row["status"] != RunStatus.success:
        raise RuntimeError(row["error_message"])
    return took


def _deployed(fraisier: wiring.Fraisier) -> str:
    deployment = fraisier.request_deployment(KEY, by="bench").deployment
    assert deployment is not None
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        row = fraisier.store.deployment(deployment.id)
        if row["completed_at"]:
            if row["status"] != "success":
                raise RuntimeError(row["error_message"])
            return str(row["release"])
        time.sleep(0.05)
    message = "the deployment does not end"
    raise TimeoutError(message)


def _make_repository(folder: Path) -> None:
    for words in (
        ("init", "--quiet", "--bare", "--initial-branch=main", "bench.git"),
        ("init", "--quiet", "--initial-branch=main", "work"),
    ):
        subprocess.run(("git", *words), cwd=folder, check=True)
    (folder / "work" / "README").write_text("bench\n")
    who = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
    for words in (
        ("add", "."),
        (*who, "commit", "--quiet", "-m", "one"),
        ("push", "--quiet", "../bench.git", "main"),
    ):
        subprocess.run(("git", *words), cwd=folder / "work", check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    print(json.dumps(measure(parser.parse_args().rounds), indent=2))
