"""A database moves from SQLite to PostgreSQL and back without loss, and deployments go on where they were."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as HypothesisPhase
from psycopg.rows import dict_row

from fraisier import wiring
from fraisier.application.ports import SchemaState
from fraisier.database.postgresql import open_postgresql
from fraisier.database.postgresql_connection import Connections, DatabaseUrl
from fraisier.database.postgresql_database import PostgresqlDatabase
from fraisier.database.sqlite_database import SqliteDatabase
from fraisier.database.tables import STAYS, TABLES
from fraisier.domain.errors import Conflict, StoreTooNew, StoreUnavailable, UnusableExport
from tests.exports import Rows, contents, dump, lines, without_import, write
from tests.integration.outside import serving
from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.integration.postgresql_stores import ODD, name_of, set_all
from tests.integration.site import KEY, Site, service, until
from tests.integration.test_disk_full import disk
from tests.servers.postgresql import PostgresqlServer
from tests.unit.store_contract import PATIENCE, delivery, sha, wish
from tests.unit.test_database_exports import EVENTS, exported, imported, old, store_events, untold

__all__ = ["old"]

EVENTS_MADE = 30_000  # of 300 bytes that cannot be compressed; to write them takes a second


def server(url: str) -> PostgresqlDatabase:
    return PostgresqlDatabase(url, Connections(DatabaseUrl(url)))


def to_server(url: str, file: Path) -> None:
    database = server(url)
    with file.open("rb") as given_file:
        database.import_from(given_file, by="ada", told=untold)
    database.close()


def from_server(url: str, file: Path) -> Path:
    database = server(url)
    with file.open("wb") as output:
        database.export_to(output, told=untold)
    database.close()
    return file


def query(url: str, sql: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(sql.encode()).fetchall()


# ------------------------------------------------------------------------------------------ all of it


def test_every_table_and_column_of_the_server_is_exported_or_stays_for_a_reason(postgresql_url: str) -> None:
    open_postgresql(postgresql_url).close()
    there = {
        f"{'' if row['schema'] == 'public' else row['schema'] + '.'}{row['name']}.{row['attname']}"
        for row in query(
            postgresql_url,
            "SELECT n.nspname AS schema, c.relname AS name, a.attname FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
        )
    }
    listed = {f"{table.name}.{column}" for table in TABLES for column in table.columns}
    assert listed <= there, "an export names a column that no migration makes"
    left = {name for name in there - listed if name not in STAYS and name.rpartition(".")[0] not in STAYS}
    assert left == set(), "add what a migration adds to fraisier/database/tables.py"


@pytest.mark.parametrize("odd", [False, True], ids=["plain", "odd settings, another schema"])
def test_there_and_back_again_is_equal_row_by_row(
    old: Path,
    postgresql_server: PostgresqlServer,
    postgresql_url: str,
    tmp_path: Path,
    odd: bool,
) -> None:
    if odd:
        postgresql_server.psql("CREATE SCHEMA garden", database=name_of(postgresql_url))
        set_all(postgresql_server, postgresql_url, {**ODD, "search_path": "garden, public"})
    first = exported(old, tmp_path / "first")
    to_server(postgresql_url, first)
    second = from_server(postgresql_url, tmp_path / "second")
    (tmp_path / "back").mkdir()
    imported(tmp_path / "back", second)
    before, after = dump(old / "fraisier.db"), dump(tmp_path / "back" / "fraisier.db")
    assert all(before.values()), "the test has something in every table"
    assert without_import(contents(second)) == contents(first)
    assert without_import(comparable(after)) == comparable(before)


def test_a_schema_that_came_later_hides_nothing_from_an_export(
    old: Path, postgresql_url: str, tmp_path: Path
) -> None:
    first = exported(old, tmp_path / "first")
    to_server(postgresql_url, first)
    with psycopg.connect(postgresql_url) as connection:  # named like the role: in front of `public`
        connection.execute("CREATE SCHEMA postgres")
        assert connection.execute("SELECT current_schema()").fetchone() == ("postgres",)
    assert without_import(contents(from_server(postgresql_url, tmp_path / "second"))) == contents(first)


def comparable(rows: Rows) -> Rows:
    """Without what stays behind; of JSON, what it says."""
    kept = {table: listed for table, listed in rows.items() if table not in STAYS}
    return {
        table: [
            {name: _said(v) for name, v in row.items() if f"{table}.{name}" not in STAYS} for row in listed
        ]
        for table, listed in kept.items()
    }


def _said(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def test_a_server_s_database_is_copied_to_another_one(
    old: Path, postgresql_server: PostgresqlServer, postgresql_url: str, tmp_path: Path
) -> None:
    to_server(postgresql_url, exported(old, tmp_path / "first"))
    other = postgresql_server.database()
    to_server(other, from_server(postgresql_url, tmp_path / "second"))
    third = from_server(other, tmp_path / "third")
    assert without_import(contents(third)) == without_import(contents(tmp_path / "second"))
    postgresql_server.drop(other)


@settings(
    max_examples=6,
    phases=[HypothesisPhase.generate],  # each example is a database: to shrink one would take minutes
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(rows=EVENTS)
def test_any_value_comes_over_but_for_nul(
    rows: list[dict[str, Any]], postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    folder = tmp_path / str(time.monotonic_ns())
    folder.mkdir()
    SqliteDatabase(f"sqlite://{folder}/fraisier.db", folder).migrate()
    store_events(folder / "fraisier.db", rows)
    url = postgresql_server.database()
    to_server(url, exported(folder, folder / "first"))
    after = contents(from_server(url, folder / "second"))["tb_webhook_events"]
    before = contents(folder / "first")["tb_webhook_events"]
    assert after == without_nul(before)
    postgresql_server.drop(url)


def without_nul(value: Any) -> Any:
    """PostgreSQL has no NUL in a text."""
    if isinstance(value, list):
        return [without_nul(each) for each in value]
    if isinstance(value, dict):
        return {without_nul(name): without_nul(each) for name, each in value.items()}
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value


def test_nobody_is_told_of_old_rows_and_everybody_of_new_ones(
    old: Path, postgresql_url: str, tmp_path: Path
) -> None:
    open_postgresql(postgresql_url).close()
    with psycopg.connect(postgresql_url, autocommit=True) as listening:
        listening.execute("LISTEN fraisier")
        to_server(postgresql_url, exported(old, tmp_path / "first"))
        listening.execute("NOTIFY fraisier, 'the end'")  # heard after all that was committed before
        assert [each.payload for each in listening.notifies(timeout=60, stop_after=1)] == ["the end"]
    assert query(postgresql_url, "SELECT * FROM core.tb_entity_change_log") == []
    (asked,) = query(postgresql_url, "SELECT * FROM fn_request_deployment('orders', 'production')")
    assert asked["succeeded"], asked
    assert query(postgresql_url, "SELECT * FROM core.tb_entity_change_log") != []
    with pytest.raises(psycopg.IntegrityError, match="cannot delete an event"):
        query(postgresql_url, "DELETE FROM tb_webhook_events")


def test_an_export_of_a_server_is_the_state_of_one_moment_though_others_write(
    old: Path, postgresql_url: str, tmp_path: Path
) -> None:
    to_server(postgresql_url, exported(old, tmp_path / "first"))
    before = contents(from_server(postgresql_url, tmp_path / "second"))
    store, database, numbers = open_postgresql(postgresql_url), server(postgresql_url), iter(range(100, 200))

    def push(_table: str, _rows: int) -> None:
        store.record(delivery(f"later-{next(numbers)}", wish(sha(next(numbers))))).result(PATIENCE)

    with (tmp_path / "third").open("wb") as output:
        database.export_to(output, told=push)
    database.close()
    store.close()
    assert contents(tmp_path / "third") == before
    assert contents(from_server(postgresql_url, tmp_path / "fourth")) != before


def test_who_does_not_own_the_tables_is_told_so(
    old: Path, postgresql_server: PostgresqlServer, postgresql_url: str, tmp_path: Path
) -> None:
    open_postgresql(postgresql_url).close()
    postgresql_server.psql("CREATE ROLE stranger LOGIN IN ROLE pg_read_all_data, pg_write_all_data")
    with pytest.raises(StoreUnavailable, match="Connect as the role that owns the tables"):
        to_server(postgresql_url.replace("postgres@", "stranger@"), exported(old, tmp_path / "first"))
    assert is_empty(postgresql_url)
    postgresql_server.psql("DROP ROLE stranger")


def test_the_owner_of_the_database_needs_no_other_rights(
    old: Path, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    postgresql_server.psql("CREATE ROLE plain LOGIN")
    postgresql_server.psql("CREATE DATABASE plainly OWNER plain TEMPLATE template0")
    url = postgresql_server.url("plainly").replace("postgres@", "plain@")
    to_server(url, exported(old, tmp_path / "first"))
    second = from_server(url, tmp_path / "second")
    assert without_import(contents(second)) == contents(tmp_path / "first")
    postgresql_server.drop(postgresql_server.url("plainly"))
    postgresql_server.psql("DROP ROLE plain")


# ------------------------------------------------------------------------------------------- refusals


def is_empty(url: str) -> bool:
    tables = [table.name for table in TABLES if table.name != "tb_installation"]
    return not any(query(url, f"SELECT 1 FROM {table} LIMIT 1") for table in tables)


def test_a_damaged_export_leaves_the_server_s_database_empty(
    old: Path, postgresql_url: str, tmp_path: Path
) -> None:
    whole = exported(old, tmp_path / "whole").read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(UnusableExport):
            to_server(postgresql_url, tmp_path / "cut")
    documents = lines(tmp_path / "whole")
    documents[2][2] = "no uuid"
    write(tmp_path / "wrong", documents)
    with pytest.raises(UnusableExport, match=r"cannot import tb_installation: .*uuid"):
        to_server(postgresql_url, tmp_path / "wrong")
    assert is_empty(postgresql_url)
    to_server(postgresql_url, tmp_path / "whole")


def test_a_database_in_use_is_refused_and_stays(old: Path, postgresql_url: str, tmp_path: Path) -> None:
    file = exported(old, tmp_path / "export")
    store = open_postgresql(postgresql_url)
    store.register_worker("w1", info={"host": "there", "pid": 7})
    with pytest.raises(Conflict, match="a worker lives"):
        to_server(postgresql_url, file)
    store.retire_worker("w1")
    store.close()
    to_server(postgresql_url, file)
    with pytest.raises(Conflict, match="in use"):
        to_server(postgresql_url, file)


def test_the_status_of_a_server_s_database(postgresql_url: str) -> None:
    database = server(postgresql_url)
    empty = database.status()
    assert (empty.state, empty.rows, empty.schema) == (SchemaState.empty, {}, 0)
    assert database.migrate(dry_run=True) == database.migrate()
    assert database.migrate() == []
    store = open_postgresql(postgresql_url)
    store.register_worker("w1", info={"host": "there", "pid": 7})
    current = database.status()
    assert current.state is SchemaState.current
    assert current.installation == store.installation
    assert current.server.startswith("PostgreSQL 1")
    assert [each["id"] for each in current.workers] == ["w1"]
    assert current.rows["core.tb_entity_change_log"] == 0
    store.close()
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("INSERT INTO tb_migrations VALUES (99, 'x', 'y')")
    assert database.status().state is SchemaState.newer
    with pytest.raises(StoreTooNew):
        database.export_to(io.BytesIO(), told=untold)
    database.close()


# ------------------------------------------------------------------------------------------- killed


def many(folder: Path, number: int) -> None:
    """A SQLite database with so many events, made without any of Fraisier's code but its schema."""
    SqliteDatabase(f"sqlite://{folder}/state/fraisier.db", folder).migrate()
    with closing(sqlite3.connect(folder / "state" / "fraisier.db")) as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO tb_webhook_events (id, forge, delivery_id, type, repository, ref, before, after,"
            " changes, sender, remote, received_at, verdict, reason, deployments, payload_digest,"
            " payload_bytes, payload) SELECT printf('00000000-0000-4000-a000-%012x', i), 'github', 'd' || i,"
            " 'push', '', '', '', '', '[]', 'ada', '', '2026-11-22T21:00:00.000001Z', 'accepted', '', 0, '',"
            " 1, randomblob(300) FROM n",
            (number,),
        )
        connection.commit()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path / "site")
    made.fraisier.store.close()
    (made.folder / "state" / "fraisier.db").unlink()
    many(made.folder, EVENTS_MADE)
    return made


def configured(site: Site, url: str) -> Path:
    """The same configuration with another database."""
    text = site.config.read_text().replace(f"sqlite://{site.folder}/state/fraisier.db", url)
    new = site.folder / "new.yaml"
    new.write_text(text)
    return new


def command(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "fraisier", "--config", str(config), "db", *words]


def run(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(config, *words), capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_import_that_is_killed_leaves_an_empty_database(
    site: Site, kind: str, postgresql_url: str, tmp_path: Path
) -> None:
    url = postgresql_url if kind == "postgresql" else f"sqlite://{tmp_path}/target/fraisier.db"
    config = configured(site, url)
    assert run(site.config, "export", str(tmp_path / "export")).returncode == 0
    whole = (tmp_path / "export").read_bytes()
    running = subprocess.Popen(command(config, "import", "-"), stdin=subprocess.PIPE)
    assert running.stdin is not None
    running.stdin.write(whole[: len(whole) * 9 // 10])  # a pipe holds 64 KB: it has read all but those
    assert running.poll() is None, "it waits for the rest"
    running.kill()
    running.wait()
    running.stdin.close()
    found = json.loads(run(config, "status", "--json").stdout)
    assert found["rows"]["tb_webhook_events"] == 0
    done = run(config, "import", str(tmp_path / "export"))
    assert done.returncode == 0, done.stderr
    found = json.loads(run(config, "status", "--json").stdout)
    assert found["rows"]["tb_webhook_events"] == EVENTS_MADE


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_export_that_is_killed_leaves_the_earlier_file(site: Site, number: int, tmp_path: Path) -> None:
    file = tmp_path / "backups" / "export"
    file.parent.mkdir()
    file.write_bytes(b"earlier")
    running = subprocess.Popen(command(site.config, "export", str(file)), stderr=subprocess.DEVNULL)
    until("the export to begin", lambda: any(p.stat().st_size for p in file.parent.glob(".export*partial")))
    running.send_signal(number)
    assert running.wait(20) == (130 if number == signal.SIGINT else -number)
    assert file.read_bytes() == b"earlier"
    assert number == signal.SIGKILL or list(file.parent.iterdir()) == [file]
    assert run(site.config, "export", str(file)).returncode == 0
    assert lines(file)[-1]["end"]["tb_webhook_events"] == EVENTS_MADE
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts small disks")
def test_a_full_disk_leaves_the_earlier_file_and_says_so(site: Site, tmp_path: Path) -> None:
    with disk(tmp_path / "small") as small:
        file = small.folder / "export"
        file.write_bytes(b"earlier")
        done = run(site.config, "export", str(file))
        assert done.returncode == 1, done
        assert "cannot write" in done.stderr
        assert "No space left" in done.stderr
        assert [each.name for each in small.folder.iterdir()] == ["export"]
        assert file.read_bytes() == b"earlier"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts small disks")
def test_a_full_disk_stops_an_import_as_if_it_had_not_begun(site: Site, tmp_path: Path) -> None:
    assert run(site.config, "export", str(tmp_path / "export")).returncode == 0
    with disk(tmp_path / "small") as small:
        config = configured(site, f"sqlite://{small.folder}/fraisier.db")
        done = run(config, "import", str(tmp_path / "export"))
        assert done.returncode == 4, done
        assert "full" in done.stderr
        assert json.loads(run(config, "status", "--json").stdout)["rows"]["tb_webhook_events"] == 0


def test_memory_does_not_grow_with_the_database(site: Site, postgresql_url: str, tmp_path: Path) -> None:
    """30,000 events are 20 MB as text, and more as objects; a process that held them would show."""

    def peak(config: Path, *words: str) -> int:
        script = "import resource, subprocess, sys; c = subprocess.run(sys.argv[1:]).returncode; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(c)"
        argv = [command(config)[0], "-c", script, *command(config, *words)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
        return int(done.stdout.splitlines()[-1]) // 1024

    new = configured(site, postgresql_url)
    assert peak(site.config, "export", str(tmp_path / "one")) < 70
    assert peak(new, "import", str(tmp_path / "one")) < 70
    assert peak(new, "export", str(tmp_path / "two")) < 70


# --------------------------------------------------------------------------------- a real move

BUILD = (
    'build: ["test ! -e broken", "while test -e {folder}/hold; do sleep 0.05; done", "echo built > built"]'
)


def test_deployments_go_on_after_the_move(tmp_path: Path, postgresql_url: str) -> None:
    """History, quarantine, an earlier release, a push that waits, and a deployment that was cut."""
    site = Site(tmp_path, extra=BUILD.format(folder=tmp_path), head="worker: {lease: 2s}")
    store = site.fraisier.store
    with site.working():
        first = site.deploy(commit=site.push({**service("one"), "VERSION": "one"}))
        bad = site.push({"broken": "yes"})
        assert site.deploy(commit=bad)["cause"] == "build"
        (site.repository.work / "broken").unlink()
        second = site.deploy(commit=site.push(service("two")))
        assert [first["status"], second["status"]] == ["success", "success"]
    (tmp_path / "hold").touch()
    third = site.push(service("three"))
    fourth = site.push(service("four"))
    with serving(site) as serve:
        serve.start()
        cut = serve.webhook(third)[1]["deployments"][0]["id"]
        site.waits_in(cut, "build")
        waits = serve.webhook(fourth)[1]["deployments"][0]["id"]
        warned = run(site.config, "export", str(tmp_path / "too-early"))
        assert warned.returncode == 0
        assert "a worker lives" in warned.stderr
        assert run(site.config, "export", str(tmp_path / "move")).returncode == 0
        serve.kill()
    owner = (site.app / ".fraisier" / "owner").read_text()
    before = [dict(row) for row in store.history(limit=50)]
    done = run(site.config, "export", str(tmp_path / "move"))
    assert (done.returncode, done.stderr) == (0, ""), done
    store.close()

    site.database = postgresql_url
    site.write_config(BUILD.format(folder=tmp_path), "worker: {lease: 2s}")
    done = run(site.config, "import", str(tmp_path / "move"))
    assert done.returncode == 0, done.stderr
    assert run(site.config, "status").returncode == 0
    site.fraisier = wiring.assemble(wiring.load(str(site.config)))
    store = site.fraisier.store
    assert [dict(row) for row in store.history(limit=50)] == before
    with serving(site) as serve:
        serve.start()
        until("the deployment that was cut to be taken over", lambda: store.deployment(cut)["attempts"] == 2)
        (tmp_path / "hold").unlink()
        assert site.ended(cut)["status"] == "success"
        assert site.ended(waits)["status"] == "success"
        assert site.version == "four"
        status, answer = serve.webhook(bad)
        assert (status, answer["status"]) == (200, "ignored"), answer
        back = site.fraisier.roll_back(KEY, to=first["release"], by="ada").deployment
        assert back is not None
        assert site.ended(back.id)["status"] == "success"
        assert site.version == "one"
        assert (site.app / ".fraisier" / "owner").read_text() == owner, "nobody had to adopt"
    store.close()
