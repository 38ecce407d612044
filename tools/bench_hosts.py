"""Ten servers deployed at once, against one of them: a part of `make bench`.

The servers are real (tests/servers: systemd and sshd of their own, from namespaces on this machine), and so
is everything else: signed webhook, build on each host, restart of a unit, its health. They share this
machine's cores, so on two cores ten cost what their work costs; look at the load beside the figure. It is
measured with the health check that everybody has who says nothing else, two passes a second apart, and again
with one pass, where nothing is left but work.

    python -m tools.bench_hosts [--hosts 10] [--deployments 5]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.e2e.fleet_shop import FleetShop
from tests.e2e.shop import CONFIG, FRAISIER
from tests.servers import no_servers_because, servers_in

# Seconds in which nobody looks: each look starts a Python on the server, which took a core away from the
# deployment. How long that took is in its row.
UNSEEN = 8.0
_EAGER = ", interval: 0.2, timeout: 20, passes: 1}"


def measure(hosts: int = 10, deployments: int = 5) -> dict[str, Any]:
    """Medians of the seconds from a deployment's start to its end, on one host and on all of them."""
    if reason := no_servers_because():
        raise SystemExit(reason)
    state = Path(tempfile.mkdtemp(prefix="fraisier-bench-", dir="/var/tmp"))
    try:
        with servers_in(state) as up:
            webs = [up(f"web{number}") for number in range(1, hosts + 1)]
            shop = FleetShop(up("fleet"), webs=webs)
            shop.set_up()
            whole = shop.server.run(f"cat {CONFIG}").stdout
            assert _EAGER in whole
            usual = _compared(shop, whole.replace(_EAGER, "}"), hosts, deployments)
            bare = _compared(shop, whole, hosts, deployments)
    finally:
        shutil.rmtree(state, ignore_errors=True)
    return {"hosts": hosts, "deployments": deployments, **usual, "one_pass": bare}


def _compared(shop: FleetShop, whole: str, hosts: int, deployments: int) -> dict[str, Any]:
    one = _deployed(shop, whole, 1, deployments)
    all_of_them = _deployed(shop, whole, hosts, deployments)
    single, many = statistics.median(one), statistics.median(all_of_them)
    return {
        "one": [round(each, 2) for each in one],
        "all": [round(each, 2) for each in all_of_them],
        "one_seconds": round(single, 2),
        "all_seconds": round(many, 2),
        "times": round(many / single, 2),
    }


def _deployed(shop: FleetShop, whole: str, hosts: int, deployments: int) -> list[float]:
    names = ", ".join(web.name for web in shop.webs[:hosts])
    text = re.sub(r" hosts: .*", f" hosts: [{names}]", whole)
    text = re.sub(r" rollout: .*", f" rollout: {{batch: {hosts}, canary: 0}}" if hosts > 1 else "", text)
    for web in shop.webs[hosts:]:  # a host that no environment names is refused
        text = re.sub(rf"^  {web.name}: .*\n", "", text, flags=re.MULTILINE)
    shop.server.write(CONFIG, text, mode=0o600)
    shop.server.run(f"{FRAISIER} config validate && systemctl restart fraisier")
    shop.wait_until_ready()
    found = []
    for number in range(deployments + 1):
        deployment = shop.push(f"on-{hosts}-{number}")
        time.sleep(UNSEEN)
        row = shop.ended(deployment, 300)
        if row["status"] != "success":
            message = f"{row['status']}: {row['error_message']}"
            raise RuntimeError(message)
        print(f"{hosts} hosts: {row['duration_seconds']:.2f} s", file=sys.stderr, flush=True)
        found.append(float(row["duration_seconds"]))
    return found[1:]  # the first one connects to its hosts


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--deployments", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(measure(given.hosts, given.deployments), indent=2))


if __name__ == "__main__":
    main()
