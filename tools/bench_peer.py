"""Ours beside the public package of the same name, measured in turn in one run. Never part of CI.

Makes a virtual environment in a temporary folder, installs the peer there from the package registry by name
and pinned version, measures both, prints one table and stores `bench-results/peer.json`. The peer runs as it
is installed, its receiver alone (`fraisier-webhook`) beside our `fraisier serve` with its worker.

    python -m tools.bench_peer [--rounds 5] [--kills 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tools.bench import machine
from tools.bench_peer_sides import PEER, Repository, Side, deliver, ours, peer, within
from tools.bench_pushes import Pushes, load
from tools.bench_receive import RESULTS
from tools.bench_startup import interleaved
from tools.loadgen import Result

CONNECTIONS = {1: 400, 10: 1500, 100: 2000}  # connections -> requests of one round
WARM_UP = 300  # requests
RECOVERY = 15.0  # seconds within which a push must run
NOT_COMPARED = (
    "acknowledgements of pushes that deploy: the peer performs the deployment on the loop that answers",
    "downtime and rollback with systemd, the ways to migrate, SSH, other types than api",
    "power loss: both sync before they answer (strace), but no power was cut",
    "the peer's first clone: stock git has no origin/main in it, so its mirror was prepared here",
)


# ---------------------------------------------------------------------------------------------- measures


def startup(sides: Sequence[Side], rounds: int) -> dict[str, float]:
    """Median milliseconds of each command, each beside a bare start of the same interpreter."""
    commands: dict[str, Sequence[str]] = {}
    for side in sides:
        commands[f"{side.name} python"] = [side.python, "-c", "pass"]
        commands[f"{side.name} help"] = [side.command[0], "--help"]
        commands[f"{side.name} list"] = [*side.command, "list"]
    return interleaved(commands, rounds)


def acknowledgements(sides: Sequence[Side], rounds: int) -> dict[str, Any]:
    """Signed pushes of 10 KB to a branch that nobody maps: recorded by both, answered 200; and memory.

    Only one side runs at a time, else each would be measured beside what the other still has to do.
    """
    pushes = Pushes(ref="refs/heads/unmapped")
    memory: dict[str, dict[str, list[float]]] = {"idle": {}, "after": {}}
    results: dict[int, dict[str, list[Result]]] = {connections: {} for connections in CONNECTIONS}
    for _ in range(rounds):
        for side in sides:
            with side.running() as (server, _again):
                time.sleep(1)  # for what a start leaves to do
                memory["idle"].setdefault(side.name, []).append(server.memory)
                _load(server.port, 10, pushes.take(WARM_UP))
                for connections, count in CONNECTIONS.items():
                    result = _load(server.port, connections, pushes.take(count))
                    results[connections].setdefault(side.name, []).append(result)
                memory["after"].setdefault(side.name, []).append(server.memory)
    return {
        "memory_mb": {
            when: {name: round(statistics.median(seen), 1) for name, seen in each.items()}
            for when, each in memory.items()
        },
        "connections": {
            str(connections): {name: _medians(seen) for name, seen in each.items()}
            for connections, each in results.items()
        },
    }


def _load(port: int, connections: int, requests: Sequence[bytes]) -> Result:
    return load(port, connections, _from_many_addresses(requests), status="200")


def _from_many_addresses(requests: Sequence[bytes]) -> list[bytes]:
    """Each from a client of its own: the peer counts at most 10 a minute for one, before it authenticates.

    Its server believes a proxy on the loopback; ours believes none that is not configured.
    """
    return [
        request.replace(b"\r\n", b"\r\nX-Forwarded-For: 10.0.%d.%d\r\n" % divmod(number, 256), 1)
        for number, request in enumerate(requests)
    ]


def _medians(results: Sequence[Result]) -> dict[str, float]:
    return {
        "per_second": round(statistics.median(each.per_second for each in results)),
        "p50_ms": round(statistics.median(each.p50 for each in results) * 1000, 2),
        "p99_ms": round(statistics.median(each.p99 for each in results) * 1000, 2),
    }


def _deploys(answer: tuple[int, bytes]) -> bool:
    return answer[0] == 202 or b"deployment_triggered" in answer[1]


def _json(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def kills(side: Side, repository: Repository, count: int) -> dict[str, Any]:
    """How many of `count` answered pushes run in the end, if the receiver is killed after the answer.

    Raises:
        SystemExit: a push is not even deployed without a kill, so that nothing could be compared.
    """
    took = []
    with side.running() as (server, again):
        for number in range(count + 1):
            version = f"{side.name} {number}"
            answer = deliver(server.port, _json(repository.commit(version)))
            if not _deploys(answer):
                message = f"{side.name} does not deploy a mapped push: {answer}"
                raise SystemExit(message)
            if number:
                again()
            began = time.monotonic()
            if within(RECOVERY, partial(_runs, side, version)):
                took.append(time.monotonic() - began)
            elif not number:
                message = f"{side.name} cannot deploy here:\n{(side.folder / 'log').read_text()[-2000:]}"
                raise SystemExit(message)
    return {"killed": count, "deployed": len(took) - 1, "worst_s": round(max(took[1:], default=0.0), 1)}


def _runs(side: Side, version: str) -> bool:
    return side.served.exists() and side.served.read_text() == version


def answers(side: Side, repository: Repository) -> dict[str, Any]:
    """What is said to signed pushes that should not deploy, and to hostile ones."""
    push = repository.commit(f"{side.name} answers")
    with side.running() as (server, again):
        port = server.port
        deliver(port, _json(push), "the-first")
        twice = deliver(port, _json(push), "the-first")
        again()
        asked = {
            "the same delivery again": twice,
            "the same delivery after a kill": deliver(port, _json(push), "the-first"),
            "a deletion": deliver(port, _json({**push, "deleted": True, "after": "0" * 40})),
            "a tag named like the branch": deliver(port, _json({**push, "ref": "refs/tags/main"})),
            "another repository": deliver(
                port, _json({**push, "repository": {"id": 2, "full_name": "acme/other"}})
            ),
            "no signature that fits": deliver(port, _json(push), signature="sha256=" + "0" * 64),
        }
        rude = [deliver(port, body)[0] for body in hostile(push)]
        rude.append(deliver(port, _json(push), signature="sha256=\xe9")[0])
    found: dict[str, Any] = {
        name: f"{answer[0]}{', deploys' if _deploys(answer) else ''}" for name, answer in asked.items()
    }
    return {
        **found,
        "hostile": len(rude),
        "of them 5xx or none": sum(each == 0 or each >= 500 for each in rude),
    }


def hostile(push: Mapping[str, Any]) -> list[bytes]:
    """Signed bodies that no forge sends."""
    wrong: dict[str, tuple[Any, ...]] = {
        "ref": (None, 5, [], "refs/heads/\ud800", "refs/heads/a\0b", "refs/heads/" + "a" * 70_000),
        "repository": (None, [1], "x"),
        "sender": (None, [], {"login": {}}),
        "after": (5, {}, None),
    }
    fields = [_json({**push, name: value}) for name, values in wrong.items() for value in values]
    number = b'{"ref": "refs/heads/q", "x": %s}'
    raw = [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"1",
        b'{"ref": "\xff"}',
        number % b"NaN",
        number % (b"9" * 10_000),
    ]
    return [*fields, *raw, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]


# -------------------------------------------------------------------------------------------------- main


def measure(rounds: int, count: int) -> dict[str, Any]:
    """Everything, with fresh databases on the checkout's disk."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, suffix=".tmp") as name:
        folder = Path(name)
        repository = Repository(folder)
        sides = (ours(folder / "ours", repository.path), peer(folder / "peer", repository.path))
        return {
            "machine": machine(),
            "peer": PEER,
            "startup_ms": startup(sides, rounds * 4),
            "acknowledgements": acknowledgements(sides, rounds),
            "kill_after_the_answer": {side.name: kills(side, repository, count) for side in sides},
            "answers": {side.name: answers(side, repository) for side in sides},
            "load_after": round(os.getloadavg()[0], 2),
            "not_compared": NOT_COMPARED,
        }


def rows(found: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What is shown: a name, ours, the peer's."""
    start, acknowledged = found["startup_ms"], found["acknowledgements"]
    killed = found["kill_after_the_answer"]
    for word in ("python", "help", "list"):
        yield f"{word}, ms", start[f"ours {word}"], start[f"peer {word}"]
    for when, each in acknowledged["memory_mb"].items():
        yield f"memory {when}, MB", each["ours"], each["peer"]
    for connections, each in acknowledged["connections"].items():
        for key, unit in (("per_second", "/s"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms")):
            yield f"recorded, {connections} at a time, {unit}", each["ours"][key], each["peer"][key]
    ours_, theirs = (f"{killed[name]['deployed']} of {killed[name]['killed']}" for name in ("ours", "peer"))
    yield "deployed though killed after the answer", ours_, theirs
    for name, answer in found["answers"]["ours"].items():
        yield name, answer, found["answers"]["peer"][name]


def show(found: Mapping[str, Any]) -> None:
    """Print the table for people."""
    print(*(f"{key:12} {value}" for key, value in found["machine"].items()), sep="\n")
    print(f"\n{'':42} {'ours':>14} {found['peer']:>20}")
    for name, ours_, theirs in rows(found):
        print(f"{name:42} {ours_!s:>14} {theirs!s:>20}")
    print("\nNot compared:", *found["not_compared"], sep="\n- ")


def main() -> None:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    found = measure(given.rounds, given.kills)
    show(found)
    (RESULTS / "peer.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
