"""kill -9 in the very moment in which the journal has that a step failed: the end is the one without the kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import STORES, Round
from tests.chaos.player import Player
from tests.chaos.points import Fault, Point
from tests.servers.postgresql import PostgresqlServer, postgresql_server

__all__ = ["postgresql_server"]

FAILS_IN = {
    "retry": ("fetch", "success"),  # the host is to blame, for a while
    "blocked": ("activate", "rolled_back (host)"),  # the host is to blame, behind the switch
    "broken": ("build", "failed (build)"),
    "sick": ("check_health", "rolled_back (unhealthy)"),
}
BARRED = {"broken", "sick"}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("story", FAILS_IN)
def test_a_failure_that_was_journaled_is_judged_by_its_cause(
    story: str, store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    step, ends = FAILS_IN[story]
    server: PostgresqlServer | None = None
    if store == "postgresql":
        server = request.getfixturevalue("postgresql_server")
    player = Player(tmp_path / "player", server.url() if server else "")
    line = player.play(Round(story, Fault(Point(step, "after", "end_step"), "kill"), store))
    assert line.reached
    assert line.violations == ()
    assert line.ended == ends
    (row,) = player.site(store).rows("SELECT CAST(quarantine AS text) AS barred FROM tb_environments")
    assert (row["barred"] != "{}") is (story in BARRED)
