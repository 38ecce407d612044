"""Signed pushes, made before the clock starts, and how they are sent: for several parts of `make bench`."""

from __future__ import annotations

import hmac
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.loadgen import Result, packed

SECRET = b"bench-secret"
BODY = 10 * 1024  # bytes
ROOT = Path(__file__).resolve().parent.parent


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
        return [self.of(f"{self._number + (1 << 150):040x}", close=close) for _ in range(count)]

    def of(self, commit: str, *, close: bool = False) -> bytes:
        """The push of a commit, a delivery of its own."""
        self._number += 1
        body = self._template.replace(b"@" * 40, commit.encode())
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
