"""A short round of each scenario of faults; `python -m tests.chaos.faults` plays long ones. See docs/chaos.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import SCENARIOS, SEED, play
from tests.servers.postgresql import PostgresqlServer, postgresql_server

__all__ = ["postgresql_server"]

# On each store only what differs there most: the others take turns, by the seed.
_ON_BOTH = {"two-workers", "power-cut"}
_LONG = {"repository-gone", "server-down"}  # tests/integration and tests/e2e have the like of them


def _rounds() -> list[tuple[str, str]]:
    found = []
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        stores = scenario.stores
        if name not in _ON_BOTH:
            stores = (stores[(number + SEED) % len(stores)],)
        found += [(name, store) for store in stores if name not in _LONG]
    return found


@pytest.mark.parametrize(("name", "store"), _rounds())
def test_what_must_hold_holds_after(
    name: str, store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: PostgresqlServer | None = None
    if store == "postgresql":
        server = request.getfixturevalue("postgresql_server")
    print(f"again: python -m tests.chaos.faults --seed {SEED} --length 1 --store {store} {name}")
    line = play(name, store, seed=SEED, length=1, folder=tmp_path, server=server)
    assert line.violations == (), line
