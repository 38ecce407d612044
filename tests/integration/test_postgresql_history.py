"""With a long history: what workers ask all the time, and what people look at, does not read all of it."""

from __future__ import annotations

import psycopg

from fraisier.database.postgresql import open_postgresql
from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.integration.site import until
from tests.unit.store_contract import KEY, LEASE, delivery, wish

_FILL = """
ALTER TABLE tb_deployments DISABLE TRIGGER USER;
INSERT INTO tb_deployments (id, fraise, environment, ref, "commit", status, trigger, requested_by, requested_at)
SELECT gen_random_uuid(), 'orders', 'production', 'refs/heads/main', repeat('a', 40), 'success', 'webhook', 'ada',
       now()
  FROM generate_series(1, 150000);
ALTER TABLE tb_deployments ENABLE TRIGGER USER;
ANALYZE
"""
_READS = """
SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit
  FROM pg_statio_user_tables WHERE relname = 'tb_deployments'
"""
_PAGES = "SELECT relpages FROM pg_class WHERE relname = 'ix_deployments_place'"
_SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fraisier'
"""


def number(connection: psycopg.Connection, sql: str) -> int:
    """The one number that a statement gives."""
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_nothing_that_is_asked_all_the_time_reads_the_whole_history(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(_FILL)
    with psycopg.connect(database, autocommit=True) as admin:
        before, pages = number(admin, _READS), number(admin, _PAGES)
        store = open_postgresql(database)
        store.register_worker("w1", info={})
        store.record(delivery()).result(10)
        store.request(wish("b" * 40))
        claim = store.claim("w1", lease=LEASE, environments=[KEY])
        assert claim is not None
        store.renew("w1", [claim], lease=LEASE)
        store.claim("w1", lease=LEASE, environments=[KEY])
        store.interrupt_left()
        store.cancel_requests("w1")
        store.next_due()
        store.unfinished()
        store.fraise_status()
        store.history(limit=20)
        store.history(limit=20, fraise=KEY.fraise, environment=KEY.environment)
        store.deployment(claim.deployment.id)
        store.counts()
        store.close()
        until("the sessions to end", lambda: number(admin, _SESSIONS) == 0)  # they tell what they read
        read = until("what was read", lambda: number(admin, _READS) - before)
        assert read < pages, f"{read} blocks, and the smallest index of all deployments has {pages}"
