"""What starting costs, and reading beside a million deployments: parts of `make bench`.

Commands are run in turn with the same interpreter, with their bytecode on disk as an installed package has
it; the floor is `python -c pass`. `history` and `status` are compared with `list`, which reads no database,
and with themselves on an empty one.

    python -m tools.bench_startup [--rounds 20] [--rows 1000000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench-results"
CONFIG = """\
git:
  github: {{webhook_secret: bench-secret}}
database: {{url: "sqlite://{folder}/bench.db"}}
state_folder: {folder}/state
fraises:
  fraise0:
    type: api
    repository: acme/bench
    clone_url: https://git.example.com/acme/bench.git
    environments:
      production: {{branch: main, app_path: {folder}/production}}
      staging: {{branch: dev, app_path: {folder}/staging}}
"""

Commands = Mapping[str, Sequence[str]]


def interleaved(commands: Commands, rounds: int) -> dict[str, float]:
    """The median milliseconds of each command; a first round, not counted, writes the bytecode."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=60)
            if number:
                taken[name].append((time.perf_counter() - began) * 1000)
    return {name: round(statistics.median(each), 1) for name, each in taken.items()}


def program() -> list[str]:
    """The installed `fraisier` beside this interpreter."""
    script = Path(sys.executable).with_name("fraisier")
    return [str(script)] if script.exists() else [sys.executable, "-m", "fraisier"]


def _configured(folder: Path, *words: str) -> list[str]:
    return [*program(), "--config", str(folder / "fraises.yaml"), *words]


def measure(rounds: int) -> dict[str, Any]:
    """`--help` and `list` beside bare Python."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name:
        folder = Path(name)
        (folder / "fraises.yaml").write_text(CONFIG.format(folder=folder))
        found = interleaved(
            {
                "python": [sys.executable, "-c", "pass"],
                "help": [*program(), "--help"],
                "list": _configured(folder, "list"),
            },
            rounds,
        )
    bare = found["python"]
    ratios = {f"{name}_ratio": round(found[name] / bare, 2) for name in ("help", "list")}
    return {**{f"{name}_ms": each for name, each in found.items()}, **ratios}


def measure_reading(rounds: int, rows: int) -> dict[str, Any]:
    """`history` and `status` with that many deployments, beside `list` and beside an empty database."""
    from tools.bench_store import fill

    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name:
        commands: dict[str, Sequence[str]] = {}
        for kind, count in (("full", rows), ("empty", 1)):
            folder = Path(name) / kind
            folder.mkdir()
            fill(folder, count)
            (folder / "fraises.yaml").write_text(CONFIG.format(folder=folder))
            commands |= {
                f"{word} {kind}": _configured(folder, word) for word in ("list", "history", "status")
            }
        found = interleaved(commands, rounds)
    return {
        "rows": rows,
        "list_ms": found["list full"],
        **{
            word: {
                "full_ms": found[f"{word} full"],
                "empty_ms": found[f"{word} empty"],
                "beyond_list_ms": round(found[f"{word} full"] - found["list full"], 1),
                "beyond_empty_ms": round(found[f"{word} full"] - found[f"{word} empty"], 1),
            }
            for word in ("history", "status")
        },
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    found = {"startup": measure(given.rounds), "reading": measure_reading(given.rounds // 2, given.rows)}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
