"""Stores on a real PostgreSQL for tests, each in a database of its own, and a way to let time pass."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from fraisier.database.postgresql import PostgresqlStore, open_postgresql
from tests.servers.postgresql import PostgresqlServer, postgresql_server, postgresql_url
from tests.unit.store_contract import Advance, publish

__all__ = ["advance", "database", "postgresql_server", "postgresql_url", "store"]

PREPARED = "fraisier_published"  # the database that others are copies of

# Time goes on for the server as for everybody. What a test can do is to make all that is written older: then
# leases have ended, retries are due, payloads are old. `replica` leaves out the triggers that forbid it.
_MAKE_OLDER = """
SET session_replication_role = replica;
UPDATE tb_environments SET lease_until = lease_until - make_interval(secs => {seconds});
UPDATE tb_deployments SET not_before = not_before - make_interval(secs => {seconds});
UPDATE tb_workers SET alive_until = alive_until - make_interval(secs => {seconds});
UPDATE tb_webhook_events SET received_at = received_at - make_interval(secs => {seconds});
UPDATE tb_runs SET not_before = not_before - make_interval(secs => {seconds});
UPDATE tb_run_output SET written_at = written_at - make_interval(secs => {seconds});
UPDATE tb_step_output SET written_at = written_at - make_interval(secs => {seconds});
"""


def prepare(url: str) -> None:
    """Make it."""
    store = open_postgresql(url)
    publish(store)
    store.close()


@pytest.fixture
def database(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """The URL of a database with the environments of the contract."""
    url = postgresql_server.database(postgresql_server.template(PREPARED, prepare))
    yield url
    postgresql_server.drop(url)


@pytest.fixture
def store(database: str) -> Iterator[PostgresqlStore]:
    """A store on it."""
    opened = open_postgresql(database)
    yield opened
    opened.close()


@pytest.fixture
def advance(database: str) -> Advance:
    """Lets so many seconds pass."""

    def older(seconds: float) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(_MAKE_OLDER.format(seconds=float(seconds)))

    return older
