"""The statements that fraiseql-server 2.15.0 sends, literally, and what it checks of the answer.

Read from its source: fraiseql-db/src/postgres/adapter/database.rs (mutations with their change log row),
fraiseql-db/src/projection_generator.rs (queries), fraiseql-observers/src/listener/change_log.rs (the poller of
subscriptions), fraiseql-server/src/observers/repository.rs (observers).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

ERROR_CLASSES = {
    "validation",
    "conflict",
    "not_found",
    "unauthorized",
    "forbidden",
    "internal",
    "transaction_failed",
    "timeout",
    "rate_limited",
    "service_unavailable",
}
COLUMNS = {
    "succeeded": "bool",
    "state_changed": "bool",
    "error_class": "text",
    "status_detail": "text",
    "http_status": "int2",
    "message": "text",
    "entity_id": "uuid",
    "entity_type": "text",
    "entity": "jsonb",
    "updated_fields": "text[]",
    "cascade": "jsonb",
    "error_detail": "jsonb",
    "metadata": "jsonb",
}

_MUTATION = """WITH r AS MATERIALIZED (SELECT * FROM "{function}"({args})), \
_changelog AS ( \
  INSERT INTO core.tb_entity_change_log \
    (object_type, modification_type, object_id, object_data, \
     updated_fields, cascade, started_at, duration_ms, extra_metadata, \
     tenant_id, trace_id, schema_version, trace_context, \
     actor_type, acting_for, commit_time) \
  SELECT \
    COALESCE(r.entity_type, ${type}), \
    ${verb}, \
    r.entity_id, r.entity, r.updated_fields, r.cascade, \
    current_setting('fraiseql.started_at')::timestamptz, \
    (EXTRACT(EPOCH FROM (clock_timestamp() - current_setting('fraiseql.started_at')::timestamptz)) \
     * 1000)::INTEGER, \
    jsonb_build_object('duration_calc_version', 2::int) \
      || CASE WHEN ${transport}::text IS NULL THEN '{{}}'::jsonb \
              ELSE jsonb_build_object('transport', ${transport}::text) END, \
    ${tenant}::uuid, \
    ${trace}, \
    ${version}, \
    ${context}::jsonb, \
    ${actor}, \
    ${acting}::uuid, \
    clock_timestamp() \
  FROM r \
  WHERE r.succeeded AND r.state_changed \
  RETURNING 1 \
) \
SELECT * FROM r"""

# Without the clauses about core.tb_observer_dispatch, the ledger that the server makes for itself.
_POLL = """
SELECT pk_entity_change_log, id, fk_customer_org, fk_contact, object_type, object_id, modification_type,
       change_status, object_data, object_data_before, extra_metadata, created_at, tenant_id, duration_ms, seq,
       actor_type, acting_for, schema_version
FROM core.tb_entity_change_log e
WHERE e.pk_entity_change_log > $1 OR e.created_at > now() - make_interval(secs => $3)
ORDER BY e.pk_entity_change_log ASC
LIMIT $2
"""
OBSERVERS = """SELECT pk_observer, id, name, description, entity_type, event_type,
 condition_expression, actions, enabled, priority, retry_config,
 timeout_ms, fk_customer_org, created_at, updated_at,
 created_by, updated_by, deleted_at
 FROM tb_observer WHERE 1=1 AND deleted_at IS NULL"""


class FraiseqlServer:
    """Speaks to a database as fraiseql-server does: with its statements, over a connection of its own."""

    def __init__(self, url: str) -> None:
        # A raw cursor takes $1 placeholders and sends the text as it stands.
        self._connection = psycopg.connect(url, cursor_factory=psycopg.RawCursor)

    def close(self) -> None:
        self._connection.close()

    def mutate(self, function: str, *args: Any, returns: str = "Deployment", verb: str = "INSERT") -> Any:
        """Run a mutation in a transaction of its own; gives the row as the server parses it.

        Raises:
            AssertionError: the server would refuse the row.
        """
        n = len(args)
        numbers = ("type", "verb", "tenant", "trace", "version", "context", "actor", "acting", "transport")
        places = {name: n + place for place, name in enumerate(numbers, 1)}
        sql = _MUTATION.format(function=function, args=", ".join(f"${i}" for i in range(1, n + 1)), **places)
        envelope = (returns, verb, None, "4bf92f35", "schema-1", None, "human_user", None, "graphql")
        with self._connection.transaction(), self._connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute("SELECT set_config($1, clock_timestamp()::text, true)", ("fraiseql.started_at",))
            cursor.execute("SELECT set_config($1, $2, true)", ("fraiseql.cdc_mediated", "on"))
            cursor.execute(sql, (*args, *envelope))
            assert cursor.description is not None
            types = {each.name: each.type_display for each in cursor.description}
            assert types == COLUMNS, "names, order and types of the columns are a contract"
            (row,) = cursor.fetchall()
        return checked(row)

    def query(
        self,
        view: str,
        fields: Mapping[str, str],
        *,
        native: Mapping[str, str] | None = None,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[dict[str, Any]]:
        """A query's rows. `fields`: GraphQL name -> key of `data`, texts with a leading '>'."""
        pairs = []
        for name, key in fields.items():
            operator = "->>" if key.startswith(">") else "->"
            pairs.append(f"'{name}', \"data\"{operator}'{key.removeprefix('>')}'")
        values: list[Any] = []
        conditions = []
        for column, value in (native or {}).items():
            values.append(value)
            conditions.append(f'"{column}" = ${len(values)}::text::uuid')
        for key, value in (where or {}).items():
            values.append(value)
            conditions.append(f"data->>'{key}' = ${len(values)}")
        sql = f'SELECT jsonb_build_object({", ".join(pairs)}) AS "data" FROM "{view}"'
        if conditions:
            sql += " WHERE " + " AND ".join(conditions)
        for word, number in (("LIMIT", limit), ("OFFSET", offset)):
            if number is not None:
                values.append(number)
                sql += f" {word} ${len(values)}"
        with self._connection.transaction(), self._connection.cursor() as cursor:
            return [row[0] for row in cursor.execute(sql, values).fetchall()]

    def poll(self, after: int = 0, *, batch: int = 1000) -> list[dict[str, Any]]:
        """What the poller of subscriptions sees after a row.

        Raises:
            AssertionError: it would stall on a row, or refuse it.
        """
        with self._connection.transaction(), self._connection.cursor(row_factory=dict_row) as cursor:
            rows = [
                row
                for row in cursor.execute(_POLL, (after, batch, 0.0)).fetchall()
                if row["pk_entity_change_log"] > after
            ]
        for row in rows:
            assert isinstance(row["object_id"], uuid.UUID), "a NULL stalls the poller for ever"
            assert row["modification_type"] in {"INSERT", "UPDATE", "DELETE"}
        return rows

    def observers(self) -> Sequence[Any]:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            return cursor.execute(OBSERVERS).fetchall()


def checked(row: dict[str, Any]) -> dict[str, Any]:
    """The row, if `parse_mutation_row` of fraiseql-core takes it."""
    assert row["http_status"] is None or 100 <= row["http_status"] <= 599
    if row["succeeded"]:
        assert row["error_class"] is None
        assert isinstance(row["entity_id"], uuid.UUID)
        assert row["entity"]["id"] == str(row["entity_id"])
    else:
        assert not row["state_changed"], "a failure that changed something is refused"
        assert row["error_class"] in ERROR_CLASSES
        assert row["message"].startswith("cannot ")
    json.dumps(row["entity"])
    return row
