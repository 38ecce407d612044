"""fraiseql-server on our database: its literal statements find what schema/py promises."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fraisier.cli.schema_authoring import authored_schema
from fraisier.database.house import PRUNE_CHUNK
from fraisier.database.postgresql import open_postgresql
from tests.integration.fraiseql_server import FraiseqlServer, checked
from tests.integration.postgresql_stores import database
from tests.integration.postgresql_world import World, migrate
from tests.servers.postgresql import PostgresqlServer, postgresql_server

__all__ = ["database", "postgresql_server"]

Document = dict[str, Any]
SHA_A, SHA_B = "a" * 40, "b" * 40
PATIENCE = 20.0  # seconds
TEXTS = {"String", "ID"}  # what the server takes with ->>
DEPLOY = "fn_request_deployment"
CANCEL = "fn_cancel_deployment"
# The only types that the server can bind.
BINDABLE = {"text", "uuid", "integer", "bigint", "boolean", "json", "jsonb"}


@pytest.fixture(scope="module")
def schema() -> Document:
    return authored_schema()


@pytest.fixture
def world(postgresql_server: PostgresqlServer) -> Iterator[World]:
    url = postgresql_server.database(postgresql_server.template("migrated", migrate))
    world = World(url)
    world.publish("orders", production={"branch": "main"}, staging={"branch": "dev", "hosts": ["web1"]})
    yield world
    world.close()
    postgresql_server.drop(url)


@pytest.fixture
def server(world: World) -> Iterator[FraiseqlServer]:
    server = FraiseqlServer(world.url)
    yield server
    server.close()


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def busy(world: World) -> uuid.UUID:
    """An environment with a history, one deployment of which has ended; its id."""
    ended = world.call(DEPLOY, "orders", "production", None, SHA_A)["entity_id"]
    claim = world.claim("orders", "production")
    assert claim is not None
    world.call(
        "fn_complete_deployment", *claim, 1, "failed", "build", "exit 1", "mend it", None, None, None, True
    )
    world.call(DEPLOY, "orders", "production", None, SHA_B)
    world.call(DEPLOY, "orders", "staging", None, SHA_B)
    event(world)
    world.row(
        "INSERT INTO tb_runs (id, fraise, environment, job, kind, trigger, status, requested_by, requested_at,"
        " peak_memory_bytes) VALUES (gen_random_uuid(), 'orders', 'production', 'main', 'command', 'manual',"
        " 'skipped', 'ada', clock_timestamp(), 5368709120) RETURNING id"
    )
    world.row(
        "INSERT INTO tb_alerts (id, fraise, environment, job, kind, message, raised_at)"
        " VALUES (gen_random_uuid(), 'orders', 'production', 'main', 'missed', 'late', clock_timestamp())"
        " RETURNING id"
    )
    world.row(
        "INSERT INTO tb_backups (id, fraise, environment, destination, name, made_at, bytes) VALUES"
        " (gen_random_uuid(), 'orders', 'production', 'disk', 'x', clock_timestamp(), 5368709120) RETURNING id"
    )
    assert isinstance(ended, uuid.UUID)
    return ended


def event(world: World) -> uuid.UUID:
    row = world.row(
        "INSERT INTO tb_webhook_events (id, forge, delivery_id, type, repository, ref, before, after, changes,"
        " sender, remote, received_at, verdict, reason, deployments, payload_digest, payload_bytes, payload)"
        " VALUES (gen_random_uuid(), 'github', %s, 'push', 'acme/orders', 'refs/heads/main', %s, %s, '[]',"
        " 'alice', '127.0.0.1', clock_timestamp(), 'accepted', '', 1, 'digest', 3, 'abc') RETURNING id",
        *(str(uuid.uuid4()), SHA_A, SHA_B),
    )
    found: uuid.UUID = row["id"]
    return found


# ------------------------------------------------------------------------------------------------ queries


def test_every_type_is_served_whole_by_its_view(
    world: World, server: FraiseqlServer, schema: Document
) -> None:
    busy(world)
    enums = {each["name"]: {value["name"] for value in each["values"]} for each in schema["enums"]}
    for each in schema["types"]:
        selected = {
            field["name"]: (">" if field["type"] in TEXTS else "") + snake(field["name"])
            for field in each["fields"]
        }
        rows = server.query(each["sql_source"], selected)
        assert rows, each["name"]
        for row in rows:
            for field in each["fields"]:
                value, where = row[field["name"]], f"{each['name']}.{field['name']}"
                assert value is not None or field["nullable"], where
                assert value is None or fits(value, field["type"], enums), (where, value)


def fits(value: Any, name: str, enums: dict[str, set[str]]) -> bool:
    if name in enums:
        return value in enums[name]
    if name.startswith("["):
        return isinstance(value, list) and all(fits(each, name.strip("[]!"), enums) for each in value)
    if name in {"ID", "UUID"} and isinstance(value, str):
        return str(uuid.UUID(value)) == value
    if name == "DateTime":
        return isinstance(value, str) and value.endswith("Z") and "T" in value
    kinds: dict[str, type | tuple[type, ...]] = {
        "String": str,
        "Int": int,
        "Float": (int, float),
        "Boolean": bool,
    }
    if name == "Int" and isinstance(value, int) and not -(2**31) <= value < 2**31:
        return False  # https://spec.graphql.org/October2021/#sec-Int
    return isinstance(value, kinds[name]) and (name == "Boolean" or not isinstance(value, bool))


def test_every_key_of_a_view_is_a_field_unless_we_left_it_out(world: World, schema: Document) -> None:
    busy(world)
    left_out = {"WebhookEvent": {"changes"}, "Run": {"parameters", "detail"}}
    for each in schema["types"]:
        (data,) = world.rows(f"SELECT data FROM {each['sql_source']} LIMIT 1")
        keys = set(data["data"]) - left_out.get(each["name"], set())
        assert keys == {snake(field["name"]) for field in each["fields"]}, each["name"]


def test_every_argument_of_a_query_finds_its_rows(
    world: World, server: FraiseqlServer, schema: Document
) -> None:
    busy(world)
    for query in schema["queries"]:
        view = query["sql_source"]
        everything = world.rows(f"SELECT data FROM {view}")
        for argument in query["arguments"]:
            key = snake(argument["name"])
            value = everything[-1]["data"][key]
            native = argument["type"] in {"ID", "UUID"}  # then the view has to have a column for it
            given = {"native": {key: value}} if native else {"where": {key: value}}
            found = server.query(view, {"id": ">id"}, **given)
            expected = [row["data"]["id"] for row in everything if row["data"][key] == value]
            assert [row["id"] for row in found] == expected, (query["name"], key)
            assert 0 < len(found) <= len(everything)


def test_the_history_comes_newest_first_page_by_page(world: World, server: FraiseqlServer) -> None:
    for _ in range(7):
        world.call(DEPLOY, "orders", "production", None, SHA_A)
    every = [row["id"] for row in server.query("v_deployment_history", {"id": ">id"})]
    positions = world.rows("SELECT id FROM tb_deployments ORDER BY pk DESC")
    assert every == [str(row["id"]) for row in positions]
    paged: list[str] = []
    for offset in (0, 3, 6):
        paged += [
            row["id"]
            for row in server.query(
                "v_deployment_history",
                {"id": ">id"},
                where={"fraise_id": "orders", "environment": "production"},
                limit=3,
                offset=offset,
            )
        ]
    assert paged == every


# ---------------------------------------------------------------------------------------------- mutations


def test_functions_take_the_arguments_that_mutations_declare(world: World, schema: Document) -> None:
    for mutation in schema["mutations"]:
        functions = world.rows(
            "SELECT proargnames AS names, string_to_array(pg_get_function_identity_arguments(oid), ', ') AS typed"
            " FROM pg_proc WHERE proname = %s",
            mutation["sql_source"],
        )
        (function,) = functions  # one overload only
        declared = [snake(argument["name"]) for argument in mutation["arguments"]] + ["requested_by"]
        assert list(mutation["inject_params"]) == ["requested_by"]  # comes after the client's own
        assert [name.removeprefix("p_") for name in function["names"]] == declared
        assert {each.split(" ", 1)[1] for each in function["typed"]} <= BINDABLE
        assert mutation["operation"] in {"CREATE", "UPDATE"}  # CUSTOM never reaches subscribers


def test_a_deployment_is_requested_and_cancelled(world: World, server: FraiseqlServer) -> None:
    row = server.mutate(DEPLOY, "orders", "production", None, SHA_A, None, "alice")
    assert (row["succeeded"], row["state_changed"], row["entity_type"]) == (True, True, "Deployment")
    (shown,) = server.query(
        "v_deployment_history",
        {"status": "status", "by": ">requested_by"},
        native={"id": row["entity"]["id"]},
    )
    assert shown == {"status": "pending", "by": "alice"}
    gone = server.mutate(CANCEL, row["entity"]["id"], "bob", verb="UPDATE")
    assert gone["entity"]["status"] == "cancelled"
    late = server.mutate(CANCEL, row["entity"]["id"], "bob", verb="UPDATE")
    assert (late["succeeded"], late["error_class"], late["http_status"]) == (False, "conflict", 409)


def test_all_arguments_are_sent_and_what_is_missing_is_null(world: World, server: FraiseqlServer) -> None:
    row = server.mutate(DEPLOY, "orders", "production", None, None, None, None)
    assert (row["entity"]["ref"], row["entity"]["commit"]) == ("refs/heads/main", "")
    assert (row["entity"]["force"], row["entity"]["requested_by"]) == (False, "postgres")
    refused = server.mutate(DEPLOY, None, None, None, None, None, None)
    assert (refused["error_class"], refused["http_status"]) == ("validation", 400)


def test_without_the_change_log_the_statement_is_shorter(world: World) -> None:
    """What is sent for a mutation with changelog=False, in the words of facts/fraiseql.md."""
    with psycopg.connect(world.url, cursor_factory=psycopg.RawCursor) as connection:
        sql = b'SELECT * FROM "fn_request_deployment"($1, $2, $3, $4, $5, $6)'
        with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            row = cursor.execute(sql, ("orders", "production", "main", None, False, "alice")).fetchone()
    assert row is not None
    assert checked(row)["entity"]["ref"] == "refs/heads/main"


def test_workers_hear_of_a_mutation_after_the_servers_commit(world: World, server: FraiseqlServer) -> None:
    with psycopg.connect(world.url, autocommit=True) as listener:
        listener.execute("LISTEN fraisier")
        server.mutate(DEPLOY, "orders", "production", None, SHA_A, None, "alice")
        (heard,) = listener.notifies(timeout=PATIENCE, stop_after=1)
    assert heard.channel == "fraisier"


# ------------------------------------------------------------------------------------- the change log


def test_the_server_logs_its_mutations_and_we_do_not_log_them_again(
    world: World, server: FraiseqlServer
) -> None:
    first = server.mutate(DEPLOY, "orders", "production", None, SHA_A, None, "alice")
    second = server.mutate(DEPLOY, "orders", "production", None, SHA_B, None, "alice")
    server.mutate(DEPLOY, "orders", "nowhere", None, SHA_B, None, "alice")
    logged = server.poll()
    assert [row["object_id"] for row in logged] == [first["entity_id"], second["entity_id"]]
    assert logged[1]["object_data"] == second["entity"]
    assert {row["object_type"] for row in logged} == {"Deployment"}


def test_a_mutation_that_changes_nothing_is_not_logged(world: World, server: FraiseqlServer) -> None:
    world.call(DEPLOY, "orders", "production", None, SHA_A)
    claim = world.claim("orders", "production")
    assert claim is not None
    server.mutate(CANCEL, str(claim[0]), "alice", verb="UPDATE")
    before = len(server.poll())
    again = server.mutate(CANCEL, str(claim[0]), "alice", verb="UPDATE")
    assert (again["succeeded"], again["state_changed"], again["updated_fields"]) == (True, False, [])
    assert len(server.poll()) == before


def test_what_happens_outside_of_the_server_is_logged_by_us(world: World, server: FraiseqlServer) -> None:
    row = world.call(DEPLOY, "orders", "production", None, SHA_A)
    claim = world.claim("orders", "production")
    assert claim is not None
    world.call("fn_complete_deployment", *claim, 1, "success", None, None, None, "1-aaaa", SHA_A, True)
    newer = world.call(DEPLOY, "orders", "production", None, SHA_A)
    newest = world.call(DEPLOY, "orders", "production", None, SHA_A)
    told = [
        (each["modification_type"], each["object_id"], each["object_data"]["status"], each["change_status"])
        for each in server.poll()
    ]
    one, two, three = (each["entity_id"] for each in (row, newer, newest))
    assert told == [
        ("INSERT", one, "pending", "success"),
        ("UPDATE", one, "running", "success"),
        ("UPDATE", one, "success", "success"),
        ("INSERT", two, "pending", "success"),
        ("INSERT", three, "pending", "success"),
        ("UPDATE", two, "superseded", "success"),
    ]
    last = server.poll()[2]["object_data"]
    assert last["completed_at"] is not None
    assert set(last) == set(world.deployment(one)["data"])


def test_completing_inside_the_servers_transaction_is_left_to_the_server(world: World) -> None:
    world.call(DEPLOY, "orders", "production", None, SHA_A)
    claim = world.claim("orders", "production")
    assert claim is not None
    before = world.value("SELECT count(*) FROM core.tb_entity_change_log")
    with world.connection.transaction():
        world.do("SELECT set_config('fraiseql.cdc_mediated', 'on', true)")
        assert world.call("fn_complete_deployment", *claim, 1, "success")["succeeded"]
    assert world.value("SELECT count(*) FROM core.tb_entity_change_log") == before


def test_a_change_that_is_no_news_is_not_logged(world: World, server: FraiseqlServer) -> None:
    world.call(DEPLOY, "orders", "production", None, None)
    world.do("UPDATE tb_deployments SET \"commit\" = %s, release = '1-aaaa'", SHA_A)
    assert len(server.poll()) == 1


def test_a_webhook_reaches_subscribers_with_what_filters_need(world: World, server: FraiseqlServer) -> None:
    received = event(world)
    (row,) = server.poll()
    assert (row["object_type"], row["modification_type"]) == ("WebhookEvent", "INSERT")
    assert row["object_id"] == received
    (shown,) = world.rows("SELECT data FROM v_webhook_events")
    assert row["object_data"] == shown["data"]
    assert "payload" not in row["object_data"]


def test_subscriptions_filter_by_keys_that_events_have(
    world: World, server: FraiseqlServer, schema: Document
) -> None:
    busy(world)
    told = {row["object_type"]: row["object_data"] for row in server.poll()}
    for each in schema["subscriptions"]:
        for condition in each["filter"]["conditions"]:
            assert isinstance(told[each["return_type"]][condition["path"]], str)


def test_rows_of_several_transactions_come_in_order(world: World, server: FraiseqlServer) -> None:
    for _ in range(3):
        event(world)
    rows = server.poll()
    assert [row["seq"] for row in rows] == sorted(row["seq"] for row in rows)
    assert server.poll(after=rows[1]["pk_entity_change_log"]) == rows[2:]


def test_the_table_of_observers_is_there_and_empty(server: FraiseqlServer) -> None:
    assert list(server.observers()) == []


def test_old_rows_are_pruned_and_new_ones_kept(world: World, server: FraiseqlServer) -> None:
    for _ in range(5):
        event(world)
    world.do("UPDATE core.tb_entity_change_log SET created_at = now() - interval '40 days'"
             " WHERE pk_entity_change_log <= 3")  # fmt: skip
    month = "now() - interval '30 days'"
    assert world.value(f"SELECT fn_prune_change_log({month}, 2)") == 2
    assert world.value(f"SELECT fn_prune_change_log({month}, 100)") == 1
    assert len(server.poll()) == 2


def test_keeping_house_prunes_it_too(database: str) -> None:
    world, store = World(database), open_postgresql(database)
    for _ in range(PRUNE_CHUNK + 2):
        event(world)
    world.do("UPDATE core.tb_entity_change_log SET created_at = now() - interval '40 days'"
             " WHERE pk_entity_change_log > 1")  # fmt: skip
    store.prune(retention=30 * 86400.0)
    assert world.value("SELECT count(*) FROM core.tb_entity_change_log") == 1
    store.close()
    world.close()


def test_a_change_log_that_was_there_before_is_used_as_it_is(postgresql_server: PostgresqlServer) -> None:
    """`fraiseql-cli setup` may have come first."""
    url = postgresql_server.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE SCHEMA core; CREATE SEQUENCE core.seq_entity_change_log;"
            " CREATE TABLE core.tb_entity_change_log ("
            " pk_entity_change_log bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
            " object_type text NOT NULL, modification_type text NOT NULL, object_id uuid, object_data jsonb,"
            " change_status text, commit_time timestamptz, created_at timestamptz NOT NULL DEFAULT now())"
        )
    migrate(url)
    world = World(url)
    world.publish("orders", production={"branch": "main"})
    row = world.call(DEPLOY, "orders", "production", None, SHA_A)
    assert world.value("SELECT object_id FROM core.tb_entity_change_log") == row["entity_id"]
    world.close()
    postgresql_server.drop(url)


def test_the_statements_in_the_papers_work_and_the_role_they_make_can_serve(
    world: World, schema: Document
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "schema.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    world.publish("my_api", production={"branch": "main"})
    try:
        for block in blocks:
            world.connection.execute(block.encode())
        server = FraiseqlServer(world.url.replace("postgres@", "graphql@"))
        row = server.mutate(DEPLOY, "my_api", "production", None, SHA_A, None, "alice")
        assert row["succeeded"]
        for each in schema["types"]:
            server.query(each["sql_source"], {"id": ">id"})
        assert server.query("v_deployment_history", {"id": ">id"})
        assert server.poll()[-1]["object_id"] == row["entity_id"]
        assert list(server.observers()) == []
        server.close()
    finally:
        world.do("DROP OWNED BY graphql")
        world.do("DROP ROLE graphql")


def test_the_newest_deployment_is_looked_up_in_the_index(world: World) -> None:
    """With common statistics the planner would walk through the whole history for a status that nothing has."""
    world.do(
        'INSERT INTO tb_deployments (id, fraise, environment, ref, "commit", status, trigger, requested_by,'
        " requested_at) SELECT gen_random_uuid(), 'orders', 'production', '', '', 'success', 'webhook', '', now()"
        " FROM generate_series(1, 3000)"
    )
    world.do("ANALYZE tb_deployments")
    plan = world.rows("EXPLAIN SELECT status FROM v_fraise_status")
    text = "\n".join(row["QUERY PLAN"] for row in plan)
    assert "using ix_deployments_place" in text
    assert "tb_deployments_pkey on tb_deployments d" not in text.partition("Limit")[2], text


def test_the_views_hold_under_a_session_of_another_time_zone(world: World) -> None:
    world.call(DEPLOY, "orders", "production", None, SHA_A)
    (here,) = world.rows("SELECT data FROM v_deployment_history")
    world.do("SET TimeZone = 'Pacific/Auckland'")
    (there,) = world.rows("SELECT data FROM v_deployment_history")
    assert json.dumps(here) == json.dumps(there)
