"""The server's clock is set back by a day: what a dead worker held, and what waits, does not wait for that day."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from fraisier.database.postgresql import PostgresqlStore
from fraisier.domain.errors import Cause
from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.unit.store_contract import KEY, LEASE, claimed, wish

# Setting the clock back makes everything that is written newer; `replica` leaves out the triggers that forbid it.
_SET_BACK = """
SET session_replication_role = replica;
UPDATE tb_environments SET lease_until = lease_until + interval '1 day';
UPDATE tb_deployments SET not_before = not_before + interval '1 day';
UPDATE tb_workers SET seen_at = seen_at + interval '1 day', alive_until = alive_until + interval '1 day';
UPDATE tb_deployment_attempts SET ended_at = ended_at + interval '1 day';
"""


@pytest.fixture
def set_back(database: str) -> Callable[[], None]:
    """Sets the server's clock back, as far as can be told from what is written."""

    def newer() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(_SET_BACK.encode())

    return newer


def holding(store: PostgresqlStore):
    """The claim of a worker that gives signs of life."""
    store.register_worker("w1", info={"host": "here", "pid": 7})
    store.register_worker("w2", info={"host": "here", "pid": 8})
    store.request(wish())
    claim = claimed(store)
    store.renew("w1", [claim], lease=LEASE)
    return claim


def seconds_left(database: str) -> float:
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM tb_environments"
            " WHERE lease_worker <> ''"
        ).fetchone()
    assert row is not None
    return float(row[0])


def test_a_lease_lasts_no_longer_than_it_was_given_for(store, database, set_back):
    claim = holding(store)
    set_back()
    assert seconds_left(database) > 80_000
    for _ in range(2):  # a second look does not prolong it
        store.renew("w2", [], lease=60)
        assert 0 < seconds_left(database) <= LEASE
    assert store.claim("w2", lease=LEASE, environments=(KEY,)) is None, "nobody takes it before its end"
    assert store.renew("w1", [claim], lease=LEASE), "who lives keeps it"


def test_a_dead_worker_does_not_count_as_alive(store, set_back):
    holding(store)
    set_back()
    store.renew("w2", [], lease=LEASE)
    assert [row["id"] for row in store.live_workers()] == ["w2"]
    store.register_worker("w1", info={"host": "elsewhere", "pid": 9})


def test_a_pause_before_the_next_try_does_not_last_the_day(store, set_back):
    claim = holding(store)
    attempt = store.begin_attempt(claim, resolved="{}")
    store.retry_later(claim, attempt, delay=3600, cause=Cause.network, error="cannot fetch")
    store.renew("w2", [], lease=LEASE)
    assert store.claim("w2", lease=LEASE, environments=(KEY,)) is None, "its pause is not over"
    set_back()
    store.renew("w2", [], lease=LEASE)
    assert store.claim("w2", lease=LEASE, environments=(KEY,)) is not None
