"""A short round of each scenario of faults; `python -m tests.chaos.faults` plays long ones. See docs/chaos.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import SCENARIOS, SEED, play
from tests.servers.postgresql import PostgresqlServer, postgresql_server

__all__ = ["postgresql_server"]

# Those that take longer; tests/integration and tests/e2e have the like of them.
_LONG = {"repository-gone", "server-down"}


def _rounds() -> list[tuple[str, str]]:
    """Each scenario once: the stores take turns, and the seed says who begins."""
    short = [(name, scenario.stores) for name, scenario in SCENARIOS.items() if name not in _LONG]
    return [(name, stores[(number + SEED) % len(stores)]) for number, (name, stores) in enumerate(short)]


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
