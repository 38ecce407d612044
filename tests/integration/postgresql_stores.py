"""Stores on a real PostgreSQL for tests, each in a database of its own, and a way to let time pass."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from fraisier.database.postgresql import PostgresqlStore, open_postgresql
from tests.servers.postgresql import PostgresqlServer, postgresql_server, postgresql_url
from tests.unit.store_contract import Advance, publish

__all__ = ["ODD", "advance", "database", "name_of", "postgresql_server", "postgresql_url", "set_all", "store"]

PREPARED = "fraisier_published"  # the database that others are copies of

# Time goes on for the server as for everybody. What a test can do is to make all that is written older: then
# leases have ended, retries are due, payloads are old. `replica` leaves out the triggers that forbid it.
_MAKE_OLDER = """
SET session_replication_role = replica;
UPDATE tb_environments SET lease_until = lease_until - make_interval(secs => {seconds});
UPDATE tb_deployments SET not_before = not_before - make_interval(secs => {seconds});
UPDATE tb_deployment_attempts SET started_at = started_at - make_interval(secs => {seconds}),
                                  ended_at = ended_at - make_interval(secs => {seconds});
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


# What nobody reckons with, and somebody has.
ODD = {
    "default_transaction_isolation": "'repeatable read'",
    "standard_conforming_strings": "off",
    "client_encoding": "latin1",
    "extra_float_digits": "-15",
    "DateStyle": "'SQL, DMY'",
    "TimeZone": "'Asia/Kathmandu'",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "statement_timeout": "'50ms'",
    "lock_timeout": "'1ms'",
    "idle_session_timeout": "'400ms'",
}


def name_of(url: str) -> str:
    """The database's name."""
    return url.partition("@/")[2].partition("?")[0]


def set_all(server: PostgresqlServer, url: str, settings: dict[str, str]) -> None:
    """Change settings of a database; whoever connects from now on has them."""
    for name, value in settings.items():
        server.psql(f'ALTER DATABASE "{name_of(url)}" SET {name} = {value}')


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
