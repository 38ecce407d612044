"""A PostgreSQL database with Fraisier's schema, and what a worker does to it, in plain SQL."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from fraisier.database.migration_files import load_migrations, migrations_folder


def migrate(url: str) -> None:
    """Apply all migrations to an empty database, as they stand in their files."""
    with psycopg.connect(url, autocommit=True) as connection:
        for migration in load_migrations(migrations_folder("postgresql")):
            connection.execute(migration.sql.encode())


class World:
    """One connection that commits each statement."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        self.connection.close()

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        return self.connection.execute(sql.encode(), values).fetchall()

    def row(self, sql: str, *values: Any) -> dict[str, Any]:
        (found,) = self.rows(sql, *values)
        return found

    def value(self, sql: str, *values: Any) -> Any:
        (found,) = self.row(sql, *values).values()
        return found

    def do(self, sql: str, *values: Any) -> None:
        self.connection.execute(sql.encode(), values)

    def publish(self, fraise: str, **environments: Mapping[str, Any]) -> None:
        """A fraise with environments and their documents."""
        self.do(
            "INSERT INTO tb_fraises (name, id, type) VALUES (%s, gen_random_uuid(), 'api')"
            " ON CONFLICT (name) DO UPDATE SET published = true",
            fraise,
        )
        for name, document in environments.items():
            self.do(
                "INSERT INTO tb_environments (id, fraise, name, document)"
                " VALUES (gen_random_uuid(), %s, %s, %s)",
                *(fraise, name, json.dumps(document)),
            )

    def call(self, function: str, *values: Any) -> dict[str, Any]:
        """A function's row, outside of fraiseql-server."""
        places = ", ".join(["%s"] * len(values))
        return self.row(f"SELECT * FROM {function}({places})", *values)

    def deployment(self, deployment: uuid.UUID | str) -> dict[str, Any]:
        return self.row("SELECT * FROM v_deployment_history WHERE id = %s", deployment)

    def claim(self, fraise: str, environment: str, worker: str = "w1") -> tuple[uuid.UUID, int] | None:
        """Take the oldest pending deployment of an environment and begin an attempt: its id, the token."""
        with self.connection.transaction():
            place = self.row(
                "UPDATE tb_environments SET token = token + 1, lease_worker = %s,"
                " lease_until = clock_timestamp() + '10 s' WHERE fraise = %s AND name = %s RETURNING token",
                *(worker, fraise, environment),
            )
            taken = self.rows(
                "UPDATE tb_deployments SET status = 'running', started_at = clock_timestamp() WHERE pk ="
                " (SELECT min(pk) FROM tb_deployments WHERE fraise = %s AND environment = %s"
                "   AND status = 'pending') RETURNING id",
                *(fraise, environment),
            )
            if not taken:
                return None
            deployment, token = taken[0]["id"], place["token"]
            self.do("SELECT fn_count_deployments(ARRAY[%s]::uuid[], 'pending')", deployment)
            self.do(
                "INSERT INTO tb_deployment_attempts (deployment, number, worker, token, resolved, started_at)"
                " VALUES (%s, 1, %s, %s, '{}', clock_timestamp())",
                *(deployment, worker, token),
            )
        return deployment, token
