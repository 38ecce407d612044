"""What is PostgreSQL's own: rules held by the schema, migrations, what is printed, what a session is set to."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from fraisier.application.ports import Ending
from fraisier.database import postgresql_connection
from fraisier.database.migration_files import load_migrations, migrations_folder
from fraisier.database.postgresql import PostgresqlStore, open_postgresql
from fraisier.database.postgresql_connection import (
    Connections,
    DatabaseUrl,
    ServerConnection,
)
from fraisier.database.postgresql_migrate import is_current, migrate
from fraisier.database.postgresql_watch import GRACE
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Cause, StepFailed, StoreTooNew, StoreUnavailable, UsageError
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.secret import Secret
from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.unit.store_contract import PATIENCE, claimed, delivery, finished, sha, wish

ANSWER = postgresql_connection.PATIENCE

_SESSIONS = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'fraisier' AND datname = current_database()
"""

# -------------------------------------------------------------------------------------- what is kept stays


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM tb_webhook_events",
        "TRUNCATE tb_webhook_events CASCADE",
        "UPDATE tb_webhook_events SET sender = 'mallory'",
        "UPDATE tb_webhook_events SET payload = 'x'",
        "DELETE FROM tb_deployments",
        "UPDATE tb_deployments SET requested_by = 'mallory'",
        "UPDATE tb_deployments SET \"commit\" = 'other'",
        "UPDATE tb_deployments SET status = 'pending'",
        "DELETE FROM tb_deployment_attempts",
        "UPDATE tb_deployment_attempts SET token = 99",
        "UPDATE tb_deployment_attempts SET outcome = 'other'",
        "DELETE FROM tb_deployment_steps",
        "UPDATE tb_deployment_steps SET state = 'running'",
        "UPDATE tb_environments SET token = 0",
        "DELETE FROM tb_audit_log",
        "TRUNCATE tb_audit_log",
        "UPDATE tb_audit_log SET actor = 'mallory'",
    ],
)
def test_the_schema_itself_refuses_to_rewrite_history(
    store: PostgresqlStore, database: str, sql: str
) -> None:
    store.record(delivery()).result(PATIENCE)
    claim = claimed(store)
    attempt = store.begin_attempt(claim, resolved="{}")
    step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="")
    store.end_step(claim, step, state=StepState.success, tail="")
    store.finish(claim, attempt, Ending(status=Status.success))
    with (
        psycopg.connect(database) as connection,
        pytest.raises(psycopg.IntegrityError, match=r"cannot (delete|change|lower)"),
    ):
        connection.execute(sql)  # type: ignore[arg-type]


def test_counters_are_what_counting_would_find(store: PostgresqlStore, database: str) -> None:
    other = open_postgresql(database)  # another session, another shard
    for number in range(1, 8):
        (store, other)[number % 2].record(delivery(f"d{number}", wish(sha(number)))).result(PATIENCE)
    finished(store, claimed(store))
    other.request(wish(sha(99)))
    other.close()
    with psycopg.connect(database) as connection:
        counted = dict(
            connection.execute(
                "SELECT 'deployments.' || status, count(*) FROM tb_deployments GROUP BY status"
            ).fetchall()
        )
        days = connection.execute("SELECT status, sum(total) FROM tb_deployment_days GROUP BY 1").fetchall()
    assert counted.items() <= store.counts().items()
    assert {f"deployments.{status}": total for status, total in days if total} == counted


def test_what_views_serve_is_the_row_as_json(store: PostgresqlStore, database: str) -> None:
    store.record(delivery()).result(PATIENCE)
    finished(store, claimed(store))
    readers = {
        "v_fraise": store.fraises,
        "v_fraise_status": store.fraise_status,
        "v_deployment_history": store.history,
        "v_webhook_events": store.events,
    }
    with psycopg.connect(database, options="-c TimeZone=Asia/Tokyo") as connection:
        for view, read in readers.items():
            served = connection.execute(f"SELECT data FROM {view}").fetchall()  # type: ignore[arg-type]
            assert [row for (row,) in served] == [dict(row) for row in read()], view


# --------------------------------------------------------------------------------------- values, sessions


def test_a_nul_in_output_is_shown_as_a_character_that_can_be_stored(store: PostgresqlStore) -> None:
    store.request(wish())
    claim = claimed(store)
    attempt = store.begin_attempt(claim, resolved="{}")
    step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="")
    store.write_output(claim, step, "a\x00b\n")
    failure = StepFailed(Cause.build, "\x00", "\x00")
    store.end_step(claim, step, state=StepState.failed, tail="a\x00b", failure=failure)
    assert [piece.text for piece in store.output(claim.deployment.id)] == ["a\ufffdb\n"]
    odd = replace(delivery("nul"), remote="\x00")
    assert store.record(odd).result(PATIENCE).status == "ignored"


def test_only_a_nul_itself_is_replaced_in_what_a_delivery_tells(store: PostgresqlStore) -> None:
    told = ["a\x00b", r"\u0000", "\\\\u0000", "\\\x00"]
    for number, remote in enumerate(told):
        store.record(replace(delivery(f"odd-{number}"), remote=remote)).result(PATIENCE)
    kept = [row["remote"] for row in store.events()]
    assert kept[::-1] == [remote.replace("\x00", "\ufffd") for remote in told]


def test_a_percent_sign_and_a_colon_are_only_text(store: PostgresqlStore) -> None:
    deployment = store.request(wish(requested_by="100%s :name ?")).deployment
    assert deployment is not None
    assert store.deployment(deployment.id)["requested_by"] == "100%s :name ?"
    assert store.history(":fraise", "%s") == []


def test_commits_are_durable_even_where_the_server_says_otherwise(
    store: PostgresqlStore, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')  # type: ignore[arg-type]
    session = ServerConnection(DatabaseUrl(database))
    assert list(session.execute("SHOW synchronous_commit").fetchall()[0]) == ["on"]
    session.close()


def test_a_password_is_never_printed(database: str) -> None:
    url = DatabaseUrl("postgresql://nobody:hunter2@127.0.0.1:1/none?connect_timeout=2")
    apart = DatabaseUrl("postgresql://nobody@127.0.0.1:1/none", Secret("hunter2"))
    for each in (url, apart):
        assert "hunter2" not in f"{each} {each!r} {vars(each)}"
        with pytest.raises(StoreUnavailable) as refused:
            Connections(each).take(0)
        assert "hunter2" not in f"{refused.value} {refused.value.__cause__!r} {refused.value.hint}"
    with pytest.raises(UsageError) as unreadable:
        DatabaseUrl("postgresql://nobody:hunter2@h:port/x?nothing=1")
    assert "hunter2" not in str(unreadable.value)


def test_receipts_of_sessions_that_are_gone_are_forgotten(store: PostgresqlStore, database: str) -> None:
    store.ping()
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("UPDATE tb_receipts SET at = at - interval '2 days'")
        store.prune(retention=3600)
        store.ping()  # a session whose own receipt was forgotten gets another
        assert admin.execute("SELECT count(*) FROM tb_receipts").fetchone() == (1,)


# -------------------------------------------------------------------------------------------- migrations


@pytest.fixture
def session(postgresql_url: str):
    opened = ServerConnection(DatabaseUrl(postgresql_url))
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(migrations_folder("postgresql"), tmp_path / "db"))


def test_migrations_are_applied_once_also_by_several_at_once(postgresql_url: str) -> None:
    with ThreadPoolExecutor(4) as starting:
        stores = list(starting.map(open_postgresql, [postgresql_url] * 4))
    assert len({each.installation for each in stores}) == 1
    for each in stores:
        each.close()
    with psycopg.connect(postgresql_url) as connection:
        applied = [
            row[0] for row in connection.execute("SELECT number FROM tb_migrations ORDER BY 1").fetchall()
        ]
    assert applied == [each.number for each in load_migrations(migrations_folder("postgresql"))]


def test_a_migration_that_fails_leaves_nothing(session: ServerConnection, folder: Path) -> None:
    number = len(load_migrations(folder)) + 1
    (folder / f"{number:04d}_broken.sql").write_text("CREATE TABLE tb_new (x integer); SELECT 1/0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(session, load_migrations(folder))
    assert not is_current(session, 1)
    (folder / f"{number:04d}_broken.sql").unlink()
    assert migrate(session, load_migrations(folder)) == list(range(1, number))
    assert migrate(session, load_migrations(folder)) == []


def test_an_older_fraisier_refuses_a_newer_database(session: ServerConnection, folder: Path) -> None:
    number = len(load_migrations(folder)) + 1
    (folder / f"{number:04d}_more.sql").write_text("CREATE TABLE tb_more (x integer);")
    migrate(session, load_migrations(folder))
    (folder / f"{number:04d}_more.sql").unlink()
    with pytest.raises(StoreTooNew, match="newer Fraisier"):
        migrate(session, load_migrations(folder))
    with pytest.raises(StoreTooNew):
        is_current(session, number - 1)


def test_another_migration_than_the_one_that_was_applied_is_refused(
    session: ServerConnection, folder: Path
) -> None:
    migrate(session, load_migrations(folder))
    first = sorted(folder.glob("*.sql"))[0]
    first.write_text(first.read_text() + "-- changed")
    with pytest.raises(StoreUnavailable, match="is not the one we have"):
        migrate(session, load_migrations(folder))


def test_a_server_that_hangs_is_told_of_in_time(store: PostgresqlStore, database: str) -> None:
    store.ping()
    with psycopg.connect(database, autocommit=True) as admin:
        sessions = admin.execute(_SESSIONS).fetchall()
        for (pid,) in sessions:
            os.kill(pid, signal.SIGSTOP)  # the connection stands, and nothing comes back
        try:
            for verb in (store.ping, store.history):
                began = time.monotonic()
                with contextlib.suppress(StoreUnavailable):
                    verb()
                assert time.monotonic() - began < ANSWER + GRACE + 2
            store.ping()
        finally:
            for (pid,) in sessions:
                os.kill(pid, signal.SIGCONT)
