"""`make bench`: runs every part, prints each figure beside its limit and its floor, and stores them.

Each part runs in a process of its own that is ended when it takes too long. What is printed also goes to
`bench-results/figures.json` and `figures.md` (with --quick to `quick.*`). Limits are shown, never asserted:
the exit status says only whether every part could be measured.

    python -m tools.bench [--quick] [--only PART]... [--plot]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.bench_figures import Figure, as_markdown, as_text, figures_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench-results"
LONGEST_PART = 420.0  # seconds
BUSY = 1.0  # load per processor above which figures say more about the neighbours than about us

Part = Callable[[bool], dict[str, Any]]


def _startup(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_startup

    return bench_startup.measure(8 if quick else 25)


def _reading(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_startup

    return bench_startup.measure_reading(5 if quick else 15, 100_000 if quick else 1_000_000)


def _receive(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_receive

    return bench_receive.measure(3 if quick else 5, 0.1 if quick else 1.0)


def _store(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    command = [sys.executable, str(ROOT / "tools/bench_store.py"), "--folder", str(RESULTS)]
    command += ["--rows", "0" if quick else "1000000", "--seconds", "0.5" if quick else "2"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return {"lines": done.stdout.splitlines()}


def _deploy(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_deploy

    return bench_deploy.measure(6 if quick else 20)


def _runs(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_runs

    return bench_runs.measure(20 if quick else 100)


def _serving(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_serving

    return bench_serving.measure(10.0 if quick else 30.0)


def _workers(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_workers

    return bench_workers.measure(8, 15, 1) if quick else bench_workers.measure(30, 40, 2)


def _crowd(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_crowd

    return bench_crowd.measure(60, 100) if quick else bench_crowd.measure(400, 1000)


def _cutover(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_cutover

    return bench_cutover.measure(5, 200, 5.0) if quick else bench_cutover.measure(50, 500)


def _postgresql(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_postgresql

    return bench_postgresql.measure(3, 600) if quick else bench_postgresql.measure(9, 2000)


def _fleet(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_fleet

    return bench_fleet.measure(20, 40) if quick else bench_fleet.measure(200, 100)


def _schedule(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_schedule

    return bench_schedule.measure(5 if quick else 30)


def _hosts(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_hosts

    return bench_hosts.measure(4, 2) if quick else bench_hosts.measure(10, 5)


def _backup(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from tools import bench_backup

    return bench_backup.measure(40, 3) if quick else bench_backup.measure(300, 5)


PARTS: Mapping[str, Part] = {
    "startup": _startup,
    "reading": _reading,
    "deploy": _deploy,
    "runs": _runs,
    "serving": _serving,
    "receive": _receive,
    "store": _store,
    "postgresql": _postgresql,
    "workers": _workers,
    "crowd": _crowd,
    "cutover": _cutover,
    "fleet": _fleet,
    "schedule": _schedule,
    "hosts": _hosts,
    "backup": _backup,
}
LONGER = {"cutover": 1800.0}  # seconds; 200 deployments in all, each with a drain


def machine() -> dict[str, Any]:
    """What the figures are measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    models = [
        line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")
    ]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "fsync_ms": _fsync(),
        "load_before": round(os.getloadavg()[0], 2),
        "commit": _commit(),
    }


def _fsync() -> float:
    """Milliseconds until 4 KB are on the checkout's disk, median of 100."""
    path, taken = RESULTS / "fsync.tmp", []
    with path.open("wb", buffering=0) as file:
        for _ in range(100):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return round(sorted(taken)[50], 3)


def _commit() -> str:
    done = subprocess.run(
        ("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def run_part(name: str, *, quick: bool) -> tuple[dict[str, Any], str]:
    """What a part measured, or why it could not."""
    command = [sys.executable, "-m", "tools.bench", "--inside", name, *(["--quick"] if quick else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=LONGER.get(name, LONGEST_PART))
    except subprocess.TimeoutExpired:
        return {}, f"no end within {LONGER.get(name, LONGEST_PART):g} s"
    finally:
        _end(process)
    if process.returncode:
        return {}, f"exit status {process.returncode}, see above"
    return dict(json.loads(out.splitlines()[-1])), ""


def _end(process: subprocess.Popen[str]) -> None:
    """End the part's own process group; asked first, so that it can take its servers down."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                continue


def run(parts: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Every part in turn."""
    about = machine()
    _warn_of_neighbours()
    found: dict[str, Any] = {"machine": about, "quick": quick, "parts": {}, "failed": {}}
    for name in parts:
        began = time.monotonic()
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        measured, why = run_part(name, quick=quick)
        took = round(time.monotonic() - began, 1)
        if why:
            found["failed"][name] = why
        else:
            load = round(os.getloadavg()[0], 2)
            found["parts"][name] = {**measured, "measured_in_s": took, "load_after": load}
    return found


def _warn_of_neighbours() -> None:
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load > BUSY:
        print(
            f"THE MACHINE IS BUSY ({load:.1f} per processor): take the figures again later", file=sys.stderr
        )


def store(found: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Write the JSON and the table."""
    name = "quick" if found["quick"] else "figures"
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(as_markdown(found, figures))


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: some minutes")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be repeated")
    parser.add_argument(
        "--plot", action="store_true", help="draw docs/images/bench-*.svg from stored figures"
    )
    parser.add_argument("--inside", choices=list(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if given.inside:
        print(json.dumps(PARTS[given.inside](given.quick)))
        return
    if given.plot:
        from tools.bench_plot import draw

        draw(json.loads((RESULTS / "figures.json").read_text()), ROOT / "docs/images")
        return
    found = run(given.only or list(PARTS), quick=given.quick)
    figures = figures_of(found["parts"])
    print(as_text(found, figures))
    if not given.only:
        store(found, figures)
    sys.exit(1 if found["failed"] else 0)


if __name__ == "__main__":
    main()
