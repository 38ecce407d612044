"""`python -m tests.chaos`: plays every point, or some of them, and shows a table. See docs/chaos.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tests.chaos.plan import STORES, Round
from tests.chaos.repertoire import ALL
from tests.chaos.report import Report
from tests.chaos.troupe import Troupe, planned, troupe
from tests.servers.postgresql import why_not

SEED = int(os.environ.get("FRAISIER_SEED", "3"))
ROUNDS = int(os.environ.get("FRAISIER_ROUNDS", "0"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="draws what is drawn ($FRAISIER_SEED)")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="so many, drawn; 0 = all ($FRAISIER_ROUNDS)"
    )
    parser.add_argument("--skip", type=int, default=0, help="leave out the first so many: they were played")
    parser.add_argument("--store", choices=STORES, action="append", help="only on this one")
    parser.add_argument(
        "--only", default="", help="only rounds with this in their line, e.g. 'kill · update · build'"
    )
    parser.add_argument("--jobs", type=int, default=3 * (os.cpu_count() or 1), help="players at a time")
    parser.add_argument("--list", action="store_true", help="show the rounds and play none")
    return parser.parse_args()


def main() -> int:
    """Record, draw, play, report."""
    asked = _arguments()
    stores = asked.store or STORES
    if "postgresql" in stores and (reason := why_not()):
        sys.exit(f"cannot play on PostgreSQL: {reason}. Leave it out: --store sqlite")
    report = Report(asked.seed, command="python -m tests.chaos")
    report.begin()
    with troupe(stores, asked.jobs) as players:
        named = tuple(story for story in ALL if f" · {story.name} · " in asked.only)
        found = [e for e in planned(players, stores, named or ALL, asked.seed) if asked.only in e.name]
        found = found[asked.skip :][: asked.rounds or None]
        if asked.list:
            print(*sorted(each.name for each in found), sep="\n")
            return 0
        report.total, report.widest = len(found), max((len(str(each)) for each in found), default=0)
        _play(players, found, report)
    return report.close()


def _play(players: Troupe, found: Sequence[Round], report: Report) -> None:
    """All of them, or until somebody has seen enough."""
    try:
        for line in players.play(found):
            report.add(line)
    except KeyboardInterrupt:
        print("\nstopped: what is being played is played to its end", flush=True)


if __name__ == "__main__":
    sys.exit(main())
