"""Deployments while requests come: how many fail, and how much slower they get. Part of `make bench`.

Everything is real: a test server with systemd, Fraisier on it, which gets signed webhooks, and a proxy; the
client stands outside and never tries anything again (see cutover_client). One release in five is bad: half of
those are not healthy, half do not start. First the client runs without deployments, for comparison. `socket`
has no proxy: the client dials the socket that systemd holds while the service restarts.

    python -m tools.bench_cutover [--deployments 200] [--rate 500] [--front NAME]...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.kiosk import LINK, NGINX, Kiosk
from tests.e2e.shop import ROOT, SECRET
from tests.servers import Server, no_servers_because, servers_in
from tools.cutover_client import Client, Counts

BASELINE = 15.0  # seconds without a deployment
DRAIN = 1.0  # seconds; the WebSocket is open all the time, so each deployment takes at least that long
LATE = 3.0  # seconds after the last deployment, in which what it began still ends
DATABASE = "/var/lib/fraisier/fraisier.db"

_HAPROXY = """
global
    stats socket /run/kiosk-haproxy.sock mode 660 level admin
    server-state-file /var/lib/kiosk-servers
    maxconn 8000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    option http-server-close
frontend shop
    bind :80 backlog 4096
    default_backend shop
backend shop
    {servers}
"""
_CADDY = """
{{
    admin off
    auto_https off
    persist_config off
}}
:80 {{
    reverse_proxy unix/{link} {{
        transport http {{
            keepalive off
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Front:
    """What stands before the releases. `more` are the environment's further keys."""

    name: str
    more: str
    configuration: str = ""
    command: str = ""
    port: int = 80


def _fronts() -> list[Front]:
    linked = "cutover: blue_green"
    haproxy = "/usr/sbin/haproxy -W -db -f /etc/kiosk.conf"
    by_port = "load-server-state-from-file global\n    " + "\n    ".join(
        f"server release{port} 127.0.0.1:{port} disabled" for port in (8001, 8002)
    )
    told = "proxy: {type: haproxy, socket: /run/kiosk-haproxy.sock, backend: shop,"
    told += " state_file: /var/lib/kiosk-servers}"
    found = [
        Front("nginx, linked socket", linked, NGINX, "/usr/sbin/nginx -c /etc/kiosk.conf"),
        Front(
            "HAProxy, linked socket",
            linked,
            _HAPROXY.format(servers=f"server current unix@{LINK}"),
            haproxy,
        ),
        Front(
            "HAProxy, ports",
            f"{linked}\n        listen: [8001, 8002]\n        {told}",
            _HAPROXY.format(servers=by_port),
            haproxy,
        ),
        Front("socket", "cutover: socket\n        listen: 0.0.0.0:8000", port=8000),
    ]
    caddy = f"{Path(sys.executable).with_name('caddy')} run --adapter caddyfile --config /etc/kiosk.conf"
    found.insert(1, Front("Caddy, linked socket", linked, _CADDY.format(link=LINK), caddy))
    return found


# ------------------------------------------------------------------------------------- outside the server


def measure(
    deployments: int, rate: float, baseline: float = BASELINE, only: Sequence[str] = ()
) -> dict[str, Any]:
    """So many deployments behind each front."""
    if reason := no_servers_because():
        raise SystemExit(reason)
    found: dict[str, Any] = {"rate": rate, "deployments": deployments, "fronts": {}}
    state = Path(tempfile.mkdtemp(prefix="fraisier-bench-", dir="/var/tmp"))
    try:
        with servers_in(state) as up:
            for number, front in enumerate(_fronts()):
                if front.command and not Path(front.command.split()[0]).exists():
                    print(f"{front.name}: not measured, see tests/servers/packages", file=sys.stderr)
                elif not only or front.name in only:
                    server = up(f"front{number}")
                    found["fronts"][front.name] = _behind(front, server, deployments, rate, baseline)
                    print(_line(front.name, found["fronts"][front.name]), file=sys.stderr, flush=True)
                    server.down()
    finally:
        shutil.rmtree(state, ignore_errors=True)
    return found


def _behind(front: Front, server: Server, deployments: int, rate: float, baseline: float) -> dict[str, Any]:
    kiosk = Kiosk(server)
    kiosk.set_up(more=f"{front.more}\n        keep_releases: 2")
    _shorten(kiosk)
    if front.configuration:
        kiosk.proxy(front.configuration, front.command)
    kiosk.deployed("first")
    still = asyncio.run(_under_load(kiosk, front.port, rate, baseline, None))
    moving = asyncio.run(_under_load(kiosk, front.port, rate, None, deployments))
    return _compared(still, moving)


def _shorten(kiosk: Kiosk) -> None:
    """The WebSocket that is always open is given up soon: there are many deployments."""
    change = f"s/drain_timeout: 4s/drain_timeout: {DRAIN:g}s/"
    kiosk.server.run(f"sed -i '{change}' /etc/fraisier/fraises.yaml && systemctl restart fraisier")
    kiosk.wait_until_ready()


async def _under_load(
    kiosk: Kiosk, port: int, rate: float, seconds: float | None, deployments: int | None
) -> tuple[Counts, list[dict[str, Any]]]:
    client = Client(kiosk.server.address, port)
    running = asyncio.create_task(client.run(rate))
    rows: list[dict[str, Any]] = []
    if deployments is None:
        await asyncio.sleep(seconds or 0)
    else:
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(None, _deploy, kiosk.server, deployments)
        await asyncio.sleep(LATE)
    client.stopping.set()
    await running
    return client.counts, rows


def _deploy(server: Server, deployments: int) -> list[dict[str, Any]]:
    command = f"cd {ROOT} && {sys.executable} -m tools.bench_cutover --inside {deployments}"
    said = server.run(command, timeout=60 + deployments * 30)
    return [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]


def _compared(
    still: tuple[Counts, list[dict[str, Any]]], moving: tuple[Counts, list[dict[str, Any]]]
) -> dict[str, Any]:
    calm, (counts, rows) = still[0], moving
    good = {row["version"] for row in rows if row["wanted"] == "success"} | {"first"}
    bad = sum(number for version, number in counts.versions.items() if version not in good)
    resets = Counter(_kind(what) for what, number in counts.failed.items() for _ in range(number))
    p99, calm_p99 = counts.quantile(0.99), calm.quantile(0.99)
    return {
        "requests": counts.requests,
        "failed": counts.failures,
        "failures": dict(counts.failed),
        "kinds": dict(resets),
        "failed_calm": calm.failures,
        "answered_by_bad": bad,
        "websockets": counts.websockets,
        "websockets_cut": counts.cut,
        "p99_ms": round(p99, 1),
        "p99_calm_ms": round(calm_p99, 1),
        "p99_added_ms": round(p99 - calm_p99, 1),
        "worst_ms": round(counts.quantile(1.0), 1),
        "deployments": len(rows),
        "seconds_each": round(sum(row["seconds"] for row in rows) / max(1, len(rows)), 2),
        "ended": dict(Counter(f"{row['wanted']}: {row['status']}" for row in rows)),
    }


def _kind(what: str) -> str:
    """Whether a failure was a refusal, a reset (or an answer that broke off), or something else."""
    if "refused" in what.lower() or "[Errno 111]" in what:
        return "refused"
    return "reset" if any(word in what for word in ("Reset", "Incomplete", "Broken")) else "other"


# -------------------------------------------------------------------------------------- inside the server


def deploy_here(deployments: int) -> None:
    """Push, deliver the webhook, wait for the end; again and again. Prints a line for each."""
    from tools.bench_deploy import FINAL

    before = "0" * 40
    for number in range(1, deployments + 1):
        kind = {0: "sick", 5: "dead"}.get(number % 10, "good")
        version = f"{kind}-{number}"
        commit = _push(version)
        began = time.monotonic()
        deployment = _webhook(before, commit)
        before = commit
        while (status := _status(deployment)) not in FINAL:
            time.sleep(0.03)
        row = {
            "version": version,
            "wanted": "success" if kind == "good" else "failure",
            "status": status,
            "seconds": round(time.monotonic() - began, 3),
        }
        print(json.dumps(row), flush=True)


def _push(version: str) -> str:
    Path("/srv/work/VERSION").write_text(version)
    who = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
    for words in (
        ("add", "-A"),
        (*who, "commit", "-q", "-m", version),
        ("push", "-q", "/srv/git/shop.git", "HEAD:main"),
    ):
        subprocess.run(("git", "-C", "/srv/work", *words), check=True)
    shown = subprocess.run(("git", "-C", "/srv/work", "rev-parse", "HEAD"), capture_output=True, check=True)
    return shown.stdout.decode().strip()


def _webhook(before: str, commit: str) -> str:
    import hashlib
    import hmac
    import os
    import urllib.request

    body = json.dumps(
        {
            "ref": "refs/heads/main",
            "before": before,
            "after": commit,
            "created": False,
            "deleted": False,
            "forced": False,
            "repository": {"full_name": "acme/orders"},
            "sender": {"login": "bench"},
        }
    ).encode()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": os.urandom(16).hex(),
        "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest(),
    }
    request = urllib.request.Request("http://127.0.0.1:8080/webhook", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["deployments"][0]["id"])


def _status(deployment: str) -> str:
    import sqlite3

    connection = sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True, timeout=5)
    try:
        found = connection.execute("SELECT status FROM tb_deployments WHERE id = ?", (deployment,)).fetchone()
    finally:
        connection.close()
    return str(found[0]) if found else ""


def _line(name: str, each: Mapping[str, Any]) -> str:
    return (
        f"{name:24} failed {each['failed']}/{each['requests']} {each['failures'] or ''}"
        f"  by a bad release {each['answered_by_bad']}"
        f"  WebSockets cut {each['websockets_cut']}/{each['websockets']}"
        f"  p99 {each['p99_ms']} ms, without deployments {each['p99_calm_ms']} ms"
        f"  worst {each['worst_ms']} ms"
        f"  {each['seconds_each']} s each  {each['ended']}"
    )


def _shown(found: Mapping[str, Any]) -> str:
    about = f"{found['deployments']} deployments behind each, {found['rate']:g} requests/s, one in five bad"
    return "\n".join([about, *(_line(name, each) for name, each in found["fronts"].items())])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deployments", type=int, default=200, help="behind each front")
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second")
    names = [front.name for front in _fronts()]
    parser.add_argument(
        "--front", action="append", default=[], choices=names, help="only this one; may be repeated"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        deploy_here(given.inside)
        return
    found = measure(given.deployments, given.rate, only=given.front)
    print(json.dumps(found, indent=2) if given.json else _shown(found))


if __name__ == "__main__":
    main()
