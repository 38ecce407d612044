"""A server, a database or a role with settings of its own: the store works all the same, or says what to change."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from fraisier.database.postgresql import PostgresqlStore, open_postgresql
from fraisier.domain.deployment import Trigger
from fraisier.domain.errors import FraisierError, StoreUnavailable
from tests import factories
from tests.integration.postgresql_stores import ODD, database, name_of, prepare, set_all, store
from tests.integration.postgresql_world import World
from tests.servers.postgresql import PostgresqlServer, postgresql_server

__all__ = ["database", "postgresql_server", "store"]

PATIENCE = 30.0  # seconds that a thread may take


def together(*acts: Callable[[], Any]) -> list[Exception]:
    """Do them at once; what they raised."""
    raised: list[Exception] = []
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> None:
        start.wait(PATIENCE)
        try:
            act()
        except (FraisierError, psycopg.Error) as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return raised


@pytest.fixture
def odd(postgresql_server: PostgresqlServer, database: str) -> str:
    """A database with settings that nobody reckons with."""
    set_all(postgresql_server, database, ODD)
    return database


# --------------------------------------------------------------------------- settings that we put right


def test_times_and_texts_come_back_as_they_were(odd: str) -> None:
    store = open_postgresql(odd)
    began = time.time()
    ref = "refs/heads/\N{SNOWMAN}"
    asked = store.request(factories.wish(ref=ref)).deployment
    time.sleep(0.6)  # until the server has ended the idle session
    assert asked is not None
    assert abs(asked.requested_at - began) < PATIENCE
    (row,) = store.history()
    assert (row["ref"], row["requested_at"][:4]) == (ref, time.strftime("%Y", time.gmtime(began)))
    store.close()


def test_those_who_ask_at_once_are_served_one_after_the_other(odd: str) -> None:
    store = open_postgresql(odd)

    def ask() -> None:
        for _ in range(10):
            store.request(factories.wish(trigger=Trigger.api, tip=""))

    assert together(*[ask] * 6) == []
    assert [row["status"] for row in store.history(limit=60)].count("pending") == 1
    store.close()


def test_several_processes_may_migrate_at_once(postgresql_server: PostgresqlServer) -> None:
    url = postgresql_server.database()
    set_all(postgresql_server, url, ODD)
    assert together(*[lambda: open_postgresql(url).close()] * 3) == []
    postgresql_server.drop(url)


def test_functions_read_their_own_text_by_their_own_rules(odd: str) -> None:
    """Whoever calls them: fraiseql-server's sessions are not ours."""
    world = World(odd)
    taken = world.call("fn_request_deployment", "orders", "production", "feature/x", None, None, "alice")
    refused = world.call("fn_request_deployment", "orders", "production", "a..b", None, None, "alice")
    assert (taken["succeeded"], refused["status_detail"]) == (True, "bad_ref")
    world.close()


# ------------------------------------------------------------------------------- schemas of their own


@pytest.fixture
def elsewhere(postgresql_server: PostgresqlServer, schema: str) -> Iterator[str]:
    """A database whose tables are in another schema than `public`; whoever connects later does not look there."""
    url = postgresql_server.database()
    for each in ("garden", '"Garden"', '"The Garden"'):  # so that the name of one may be taken for another's
        postgresql_server.psql(f"CREATE SCHEMA {each}", database=name_of(url))
    set_all(postgresql_server, url, {"search_path": schema})
    prepare(url)
    set_all(postgresql_server, url, {"search_path": "public"})
    yield url
    postgresql_server.drop(url)


@pytest.mark.parametrize("schema", ["garden", '"Garden"', '"The Garden"'])
def test_views_and_functions_are_read_by_whoever_names_their_schema(elsewhere: str, schema: str) -> None:
    world = World(elsewhere)
    asked = world.call(f"{schema}.fn_request_deployment", "orders", "production", "main")
    views = world.rows("SELECT viewname AS name FROM pg_views WHERE schemaname = %s", schema.strip('"'))
    assert len(views) > 9
    for view in views:
        world.rows(f"SELECT data FROM {schema}.{view['name']}")
    (shown,) = world.rows(f"SELECT data FROM {schema}.v_deployment_history")
    assert shown["data"] == asked["entity"]
    for each in world.rows("SELECT proname, proconfig, proacl::text FROM pg_proc WHERE prosecdef"):
        assert f"search_path=pg_catalog, {schema}, pg_temp" in each["proconfig"], each
        assert "{=X/" not in each["proacl"], "anybody may call it"
    world.close()


def test_the_data_of_a_row_is_still_no_call(database: str) -> None:
    """The planner puts the expression in its place: a call for each row of a long history would cost more."""
    world = World(database)
    for view in ("v_deployment_history", "v_run_history"):
        plan = str(world.rows(f"EXPLAIN VERBOSE SELECT data FROM {view}"))
        assert "jsonb_build_object" in plan
        assert "_data(" not in plan
    world.close()


# --------------------------------------------------------------------------------------- what is refused


def test_a_pooler_that_mixes_sessions_is_refused(store: PostgresqlStore) -> None:
    """As one in transaction mode does: the next transaction finds a session with other settings, or another's."""
    store.request(factories.wish())
    (session,) = store._connections._idle
    session.raw.execute("SELECT set_config('fraisier.connection', gen_random_uuid()::text, false)")
    with pytest.raises(StoreUnavailable, match="a pooler mixes its sessions") as refused:
        store.request(factories.wish("b" * 40))
    assert "session mode" in refused.value.hint
    store.history()
    session.raw.execute("DO 'BEGIN EXECUTE ''DEALLOCATE ALL''; END'")  # psycopg does not notice
    with pytest.raises(StoreUnavailable, match="prepared statement") as refused:
        store.history()
    assert "session mode" in refused.value.hint
    session.close()
    assert len(store.history()) == 1


@contextlib.contextmanager
def role(server: PostgresqlServer, options: str) -> Iterator[str]:
    name = "gardener"
    server.psql(f"CREATE ROLE {name} LOGIN {options}")
    try:
        yield name
    finally:
        server.psql(f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("options", "database", "hint"),
    [
        ("", "nowhere", "Create the database: createdb"),
        ("CONNECTION LIMIT 0", "postgres", "raise max_connections"),
        ("", "postgres", "Connect as the role that owns the tables and the database"),
    ],
)
def test_who_may_not_is_told_what_to_change(
    postgresql_server: PostgresqlServer, options: str, database: str, hint: str
) -> None:
    with role(postgresql_server, options) as name:
        url = postgresql_server.url(database).replace("postgres@", f"{name}@")
        with pytest.raises(StoreUnavailable) as refused:
            open_postgresql(url)
    assert hint in refused.value.hint, str(refused.value)


def test_a_role_that_nobody_made_is_told_to_look_at_the_url(postgresql_server: PostgresqlServer) -> None:
    url = postgresql_server.url().replace("postgres@", "nobody_of_that_name:hunter2@")
    with pytest.raises(StoreUnavailable) as refused:
        open_postgresql(url)
    assert "Check user and password of database.url" in refused.value.hint
    assert "hunter2" not in str(refused.value)


def test_a_role_without_a_schema_is_told_so(postgresql_server: PostgresqlServer) -> None:
    url = postgresql_server.database()
    set_all(postgresql_server, url, {"search_path": "nowhere"})
    with pytest.raises(StoreUnavailable) as refused:
        open_postgresql(url)
    assert "search_path" in refused.value.hint
    postgresql_server.drop(url)


def test_where_nothing_may_be_written_it_is_read_and_a_wish_is_refused(
    postgresql_server: PostgresqlServer, database: str
) -> None:
    set_all(postgresql_server, database, {"default_transaction_read_only": "on"})
    store = open_postgresql(database)
    assert store.history() == []
    with pytest.raises(StoreUnavailable) as refused:
        store.request(factories.wish())
    assert "default_transaction_read_only" in refused.value.hint
    store.close()
