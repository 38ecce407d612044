"""Exports of SQLite databases: whole, exact, of one moment; damaged ones leave nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import sqlite3
import tempfile
import uuid
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fraisier.application.ports import Ending, MigrationState, SchemaState
from fraisier.database.sqlite import SqliteStore, open_sqlite
from fraisier.database.sqlite_database import SqliteDatabase
from fraisier.database.tables import STAYS, TABLES
from fraisier.domain.backup import CopyNote, CopyState
from fraisier.domain.deployment import Status
from fraisier.domain.errors import (
    Cause,
    Conflict,
    StepFailed,
    StoreTooNew,
    StoreUnavailable,
    UnusableExport,
)
from fraisier.domain.migration import DatabaseChange, Kind
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.rollout import HostState, Standing
from fraisier.domain.run import Alert, AlertKind, RunEnding, RunStatus, RunWish
from tests.exports import Rows, contents, dump, lines, without_import, write
from tests.migrated import lay_migrated
from tests.unit.store_contract import PATIENCE, STAGING, claimed, delivery, finished, publish, sha, wish


def database(folder: Path) -> SqliteDatabase:
    return SqliteDatabase(f"sqlite://{folder}/fraisier.db", folder)


def untold(_table: str, _rows: int) -> None:
    """Progress that nobody watches."""


def exported(folder: Path, file: Path) -> Path:
    with file.open("wb") as output:
        database(folder).export_to(output, told=untold)
    return file


def imported(folder: Path, file: Path) -> None:
    with file.open("rb") as given_file:
        database(folder).import_from(given_file, by="ada", told=untold)


def fill(store: SqliteStore) -> None:
    """A bit of everything: a success, a failure in quarantine, one that waits for a retry, one that runs."""
    publish(store)
    store.register_worker("w1", info={"host": "here", "pid": os.getpid()})
    store.record(delivery("d1", wish(sha(1)))).result(PATIENCE)
    finished(store, claimed(store))
    store.request(wish(sha(2)))
    finished(store, claimed(store), Status.failed, cause=Cause.build, error="no", quarantine=True)
    store.request(wish(sha(3)))
    claim = claimed(store)
    attempt = store.begin_attempt(claim, resolved="{}")
    step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.fetch, release="1-a")
    failure = StepFailed(Cause.disk, "full", "Make room")
    store.end_step(claim, step, state=StepState.failed, tail="", failure=failure)
    store.retry_later(claim, attempt, delay=900, cause=Cause.disk, error="full")
    store.record(delivery("d2", wish(sha(4), environment=STAGING))).result(PATIENCE)
    claim = claimed(store)
    attempt = store.begin_attempt(claim, resolved="{}")
    step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-a")
    store.write_output(claim, step, "line\nand\tmore ✓\n")
    note = DatabaseChange(kind=Kind.planned, revision="41_orders", attempt=attempt, detail={"pending": []})
    store.note_database(claim, note)
    assert store.lock_database(claim, "orders") is None
    gone = Standing(
        host="web2", state=HostState.unreachable, release="1-a", cause=Cause.network, detail="no route"
    )
    store.note_hosts(
        claim, [Standing(host="web1", state=HostState.current, deployment=claim.deployment.id), gone]
    )
    store.request_run(RunWish(environment=STAGING, job="nightly", parameters={"day": "1"}))
    run = store.claim_run("w1", environments=[STAGING])
    assert run is not None
    store.write_run_output(run, "rows\t3 ✓\n")
    again = RunWish(environment=STAGING, job="nightly", attempt=2, retry_of=run.id, not_before=4e9)
    store.finish_run(run, RunEnding(status=RunStatus.failed, exit_code=3, peak_memory=7, again=again))
    store.raise_alert(
        Alert(environment=STAGING, job="nightly", kind=AlertKind.failed, message="no", run=run.id)
    )
    copy = CopyNote(destination="disk", name="20261120T010000Z-00000001", bytes=7, verified_run=run.id)
    store.note_copies(
        STAGING, [replace(copy, state=CopyState.whole, verified_at=1.8e9), replace(copy, name="x")]
    )
    store.note_planned({("orders", "production", "nightly"): 1.8e9})
    store.hold_runs(claim)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a database with a bit of everything, whose process has ended."""
    folder = tmp_path / "old"
    folder.mkdir(mode=0o700)
    lay_migrated(folder / "fraisier.db")
    store = open_sqlite(f"sqlite://{folder}/fraisier.db", state_folder=str(folder))
    fill(store)
    store.close()
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """The folder of a database that is yet to be made."""
    folder = tmp_path / "new"
    folder.mkdir(mode=0o700)
    return folder


# --------------------------------------------------------------------------------------- what comes over


def live_columns(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c"
            " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'"
        )
        return {name for (name,) in found}


def test_every_table_and_column_of_the_schema_is_exported_or_stays_for_a_reason(old: Path) -> None:
    listed = {f"{table.name}.{column}" for table in TABLES for column in table.columns}
    there = live_columns(old / "fraisier.db")
    assert listed <= there, "an export names a column that no migration makes"
    left = {name for name in there - listed if name not in STAYS and name.partition(".")[0] not in STAYS}
    assert left == set(), "add what a migration adds to fraisier/database/tables.py"


def carried(rows: Rows) -> Rows:
    """What an export promises to carry."""
    kept = {table: listed for table, listed in rows.items() if table not in STAYS}
    return {
        table: [{name: v for name, v in row.items() if f"{table}.{name}" not in STAYS} for row in listed]
        for table, listed in kept.items()
    }


def test_everything_comes_over_as_it_was(old: Path, new: Path, tmp_path: Path) -> None:
    imported(new, exported(old, tmp_path / "export"))
    before, after = dump(old / "fraisier.db"), dump(new / "fraisier.db")
    assert all(before[table] for table in before), "the test has something in every table"
    assert without_import(carried(after)) == carried(before)
    assert [row["actor"] for row in after["tb_audit_log"] if row["action"] == "import"] == ["ada"]


def test_leases_workers_and_waiting_times_of_the_old_machine_stay_behind(
    old: Path, new: Path, tmp_path: Path
) -> None:
    imported(new, exported(old, tmp_path / "export"))
    after = dump(new / "fraisier.db")
    assert after["tb_workers"] == []
    assert {(row["lease_worker"], row["lease_until"]) for row in after["tb_environments"]} == {("", 0.0)}
    assert {row["retry_at"] for row in after["tb_deployments"]} == {None}


def test_the_schema_and_its_rules_are_the_same_afterwards(old: Path, new: Path, tmp_path: Path) -> None:
    def schema(path: Path) -> list[Any]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()

    imported(new, exported(old, tmp_path / "export"))
    assert schema(new / "fraisier.db") == schema(old / "fraisier.db")
    with (
        closing(sqlite3.connect(new / "fraisier.db")) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute("DELETE FROM tb_webhook_events")


def test_work_goes_on_where_it_was_with_higher_tokens_and_no_number_twice(
    old: Path, new: Path, tmp_path: Path
) -> None:
    before = dump(old / "fraisier.db")
    imported(new, exported(old, tmp_path / "export"))
    store = open_sqlite(f"sqlite://{new}/fraisier.db", state_folder=str(new))
    (running,) = (row for row in before["tb_deployments"] if row["status"] == "running")
    claim = claimed(store, "w2")
    assert claim.deployment.id == running["id"], "what was cut comes first"
    assert claim.token == 1 + max(
        row["token"] for row in before["tb_environments"] if row["name"] == claim.environment.environment
    )
    assert [each.state for each in claim.journal] == [StepState.running]
    attempt = store.begin_attempt(claim, resolved="{}")
    step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.fetch, release="1-a")
    store.write_output(claim, step, "more\n")
    store.finish(claim, attempt, Ending(status=Status.success))
    retried = claimed(store, "w2")
    assert retried.deployment.commit == sha(3), "and what waited is due"
    requested = store.request(wish(sha(9)))
    assert requested.deployment is not None
    assert store.request(wish(sha(2))).reason == "quarantined"
    assert store.record(delivery("d1", wish(sha(1)))).result(PATIENCE).status == "duplicate"
    counted = {name: n for name, n in store.counts().items() if name.startswith("deployments.") and n}
    store.close()
    after = dump(new / "fraisier.db")
    assert sum(counted.values()) == len(after["tb_deployments"])
    assert max(r["seq"] for r in after["tb_step_output"]) > max(r["seq"] for r in before["tb_step_output"])


def test_what_a_first_start_has_published_gives_way(old: Path, new: Path, tmp_path: Path) -> None:
    store = open_sqlite(f"sqlite://{new}/fraisier.db", state_folder=str(new))
    publish(store)
    store.close()
    imported(new, exported(old, tmp_path / "export"))
    assert without_import(carried(dump(new / "fraisier.db"))) == carried(dump(old / "fraisier.db"))


def test_an_export_is_the_state_of_one_moment_though_others_write(old: Path, tmp_path: Path) -> None:
    store = open_sqlite(f"sqlite://{old}/fraisier.db", state_folder=str(old))
    numbers = iter(range(100, 200))
    before = dump(old / "fraisier.db")

    def push(_table: str, _rows: int) -> None:
        store.record(delivery(f"later-{next(numbers)}", wish(sha(next(numbers))))).result(PATIENCE)

    with (tmp_path / "export").open("wb") as file:
        database(old).export_to(file, told=push)
    store.close()
    assert len(dump(old / "fraisier.db")["tb_deployments"]) > len(before["tb_deployments"])
    rows = contents(tmp_path / "export")
    assert {table: len(listed) for table, listed in rows.items()} == {
        table: len(listed) for table, listed in before.items() if table in rows
    }


def test_to_look_and_to_export_change_nothing(old: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in old.iterdir() if path.is_file()}
    database(old).status()
    exported(old, tmp_path / "export")
    assert {path: path.read_bytes() for path in old.iterdir() if path.is_file()} == before


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=40)
_ROW = st.fixed_dictionaries(
    {
        "sender": _TEXT,
        "reason": st.sampled_from(
            ["", "\n", "\r\n", '"', "\\", "\\u0000", "\x00", "\u2028", "𝔘", "NULL", "\\N", "\t"]
        ),
        "changes": st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | _TEXT,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
            max_leaves=6,
        ).filter(lambda value: value is not None),
        "payload": st.none() | st.binary(max_size=200),
        "payload_bytes": st.integers(0, 2**31 - 1),
    }
)


EVENTS = st.lists(_ROW, min_size=1, max_size=4)
LARGE = {
    "sender": "",
    "reason": "",
    "changes": [],
    "payload": random.Random(1).randbytes(2**21),
    "payload_bytes": 1,
}


def store_events(path: Path, rows: list[dict[str, Any]]) -> None:
    """Events with these values, by plain SQL."""
    with closing(sqlite3.connect(path)) as connection:
        for number, row in enumerate(rows):
            connection.execute(
                "INSERT INTO tb_webhook_events (id, forge, delivery_id, type, repository, ref, before, after,"
                " changes, sender, remote, received_at, verdict, reason, deployments, payload_digest,"
                " payload_bytes, payload) VALUES (?, 'github', ?, 'push', '', '', '', '', ?, ?, '',"
                " '2026-11-22T21:00:00.000001Z', 'accepted', ?, 0, '', ?, ?)",
                (
                    str(uuid.uuid4()),
                    f"values-{number}",
                    json.dumps(row["changes"]),
                    row["sender"],
                    row["reason"],
                    row["payload_bytes"],
                    row["payload"],
                ),
            )
        connection.commit()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([LARGE, LARGE])
@given(EVENTS)
def test_any_value_comes_over(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        old, new = Path(name, "old"), Path(name, "new")
        lay_migrated(old / "fraisier.db"), lay_migrated(new / "fraisier.db")
        store_events(old / "fraisier.db", rows)
        imported(new, exported(old, Path(name, "export")))
        before, after = dump(old / "fraisier.db"), dump(new / "fraisier.db")
        for one, other in zip(before["tb_webhook_events"], after["tb_webhook_events"], strict=True):
            assert json.loads(other.pop("changes")) == json.loads(one.pop("changes"))
            assert other == one


# --------------------------------------------------------------------------------------------- refusals


def nothing_came(folder: Path) -> None:
    rows = dump(folder / "fraisier.db")
    assert not any(rows[table] for table in rows if table not in ("tb_installation", "tb_migrations"))


def test_an_export_that_was_cut_short_anywhere_leaves_nothing(old: Path, new: Path, tmp_path: Path) -> None:
    whole = exported(old, tmp_path / "export").read_bytes()
    cut = tmp_path / "cut"
    for size in [*range(0, len(whole), len(whole) // 23), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(UnusableExport, match="cannot import"):
            imported(new, cut)
    nothing_came(new)


def same_text(one: bytes, other: bytes) -> bool:
    """Whether both are unpacked to the same: deflate has bits that mean nothing."""
    try:
        return gzip.decompress(one) == gzip.decompress(other)
    except (EOFError, OSError, zlib.error):
        return False


def test_an_export_with_a_wrong_byte_anywhere_leaves_nothing(old: Path, new: Path, tmp_path: Path) -> None:
    whole = exported(old, tmp_path / "export").read_bytes()
    wrong = tmp_path / "wrong"
    for place in range(12, len(whole), len(whole) // 23):
        spoiled = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        if same_text(spoiled, whole):
            continue
        wrong.write_bytes(spoiled)
        with pytest.raises(UnusableExport, match="cannot import"):
            imported(new, wrong)
    nothing_came(new)


def tampered(documents: list[Any]) -> list[Any]:
    """The same with another sender, as somebody with an editor would do it."""
    return [
        ["mallory" if each == "alice" else each for each in d] if isinstance(d, list) else d
        for d in documents
    ]


def test_an_export_that_somebody_edited_is_refused(old: Path, new: Path, tmp_path: Path) -> None:
    documents = lines(exported(old, tmp_path / "export"))
    changed = tampered(documents)
    assert changed != documents
    text = b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in changed)
    (tmp_path / "edited").write_bytes(gzip.compress(text))
    with pytest.raises(UnusableExport, match="checksum"):
        imported(new, tmp_path / "edited")
    nothing_came(new)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d[0].update(format="other"), "no export of Fraisier"),
        (lambda d: d[0].update(version=99), "format 99"),
        (lambda d: d[0].update(schema=99), "schema 99"),
        (lambda d: d[0].update(schema=0), "schema 0"),
        (lambda d: d[1].update(table="tb_unheard_of"), "unknown here"),
        (lambda d: d[1]["columns"].__setitem__(0, "unheard_of"), "unknown here"),
        (lambda d: d[1].pop("columns"), "has no columns"),
        (lambda d: d[1].update(columns=7), "has no columns"),
        (lambda d: d[2].pop(), "values instead of"),
        (lambda d: (d.pop(2), d[-1]["end"].update(tb_installation=0)), "no row of tb_installation"),
        (lambda d: d[2].__setitem__(0, "one"), "no integer"),
        (lambda d: d[2].__setitem__(0, 2), "CHECK constraint"),
        (lambda d: d[-1]["end"].update(tb_deployments=99), "checksum"),
        (lambda d: d[-1].pop("end"), "neither rows nor the end"),
    ],
)
def test_an_export_that_is_not_ours_is_refused(
    old: Path, new: Path, tmp_path: Path, change: Any, words: str
) -> None:
    documents = lines(exported(old, tmp_path / "export"))
    change(documents)
    write(tmp_path / "other", documents)
    with pytest.raises(UnusableExport, match=words):
        imported(new, tmp_path / "other")
    if (new / "fraisier.db").exists():
        nothing_came(new)


@pytest.mark.parametrize(
    "text", [b"", b"SQLite format 3\0", b"{}\n", gzip.compress(b"{}\n", mtime=0), gzip.compress(b"", mtime=0)]
)
def test_a_file_that_is_no_export_makes_no_database(new: Path, text: bytes) -> None:
    with pytest.raises(UnusableExport, match="no export of Fraisier"):
        database(new).import_from(io.BytesIO(text), by="ada", told=untold)
    assert not (new / "fraisier.db").exists()


def test_a_database_with_a_history_is_refused_and_keeps_it(old: Path, new: Path, tmp_path: Path) -> None:
    exported(old, tmp_path / "export")
    before = dump(old / "fraisier.db")
    with pytest.raises(Conflict, match="in use"):
        imported(old, tmp_path / "export")
    assert dump(old / "fraisier.db") == before


def test_a_database_that_a_worker_lives_on_is_refused(old: Path, new: Path, tmp_path: Path) -> None:
    exported(old, tmp_path / "export")
    store = open_sqlite(f"sqlite://{new}/fraisier.db", state_folder=str(new))
    store.register_worker("w9", info={"host": "here", "pid": os.getpid()})
    with pytest.raises(Conflict, match="a worker lives"):
        imported(new, tmp_path / "export")
    store.retire_worker("w9")
    store.close()
    imported(new, tmp_path / "export")


def test_an_environment_that_was_adopted_is_not_given_a_lower_token(
    old: Path, new: Path, tmp_path: Path
) -> None:
    exported(old, tmp_path / "export")
    store = open_sqlite(f"sqlite://{new}/fraisier.db", state_folder=str(new))
    publish(store)
    store.raise_token(STAGING, above=7, by="ada")
    store.close()
    with pytest.raises(Conflict, match="in use"):
        imported(new, tmp_path / "export")


# ------------------------------------------------------------------------------------ other migrations


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_database_with_fewer_migrations_is_exported_as_it_is(old: Path, new: Path, tmp_path: Path) -> None:
    """The backup before an upgrade: what it lacks takes its default when it is imported."""
    run(
        old / "fraisier.db",
        "DELETE FROM tb_migrations WHERE number > 1",
        "PRAGMA user_version = 1",
        "DROP VIEW v_deployment_stats",
        "DROP VIEW v_fraise_status",
        "DROP VIEW v_environment",
        "DROP VIEW v_environment_hosts",
        "ALTER TABLE tb_environments DROP COLUMN last_deployed_at",
    )
    assert database(old).status().state is SchemaState.older
    exported(old, tmp_path / "export")
    assert lines(tmp_path / "export")[0]["schema"] == 1
    imported(new, tmp_path / "export")
    assert {row["last_deployed_at"] for row in dump(new / "fraisier.db")["tb_environments"]} == {None}
    assert database(new).status().state is SchemaState.current


def test_a_database_of_a_newer_fraisier_is_shown_and_not_touched(old: Path, tmp_path: Path) -> None:
    run(
        old / "fraisier.db", "INSERT INTO tb_migrations VALUES (99, 'x', 'y', '')", "PRAGMA user_version = 99"
    )
    status = database(old).status()
    assert (status.state, status.schema) == (SchemaState.newer, 99)
    assert status.rows["tb_deployments"] == 4
    for refused in (
        lambda: exported(old, tmp_path / "x"),
        lambda: database(old).migrate(dry_run=True),
        database(old).migrate,
    ):
        with pytest.raises(StoreTooNew, match="newer Fraisier"):
            refused()


def test_a_migration_with_another_checksum_shows(old: Path) -> None:
    run(old / "fraisier.db", "UPDATE tb_migrations SET checksum = 'other' WHERE number = 1")
    status = database(old).status()
    assert status.state is SchemaState.changed
    assert status.migrations[0].state is MigrationState.changed
    with pytest.raises(StoreUnavailable, match="not the one we have"):
        database(old).migrate()


def test_a_database_that_is_not_there_is_not_made_by_looking(new: Path) -> None:
    assert database(new).status().state is SchemaState.missing
    assert database(new).migrate(dry_run=True)
    with pytest.raises(StoreUnavailable, match="cannot find the database"):
        database(new).export_to(io.BytesIO(), told=untold)
    assert list(new.iterdir()) == []


def test_an_empty_file_is_an_empty_database(new: Path) -> None:
    (new / "fraisier.db").touch()
    assert database(new).status().state is SchemaState.empty
    with pytest.raises(Conflict, match="it is empty"):
        database(new).export_to(io.BytesIO(), told=untold)


def test_live_workers_show(old: Path, new: Path) -> None:
    assert [each["id"] for each in database(old).status().workers] == [], "its process has ended"
    store = open_sqlite(f"sqlite://{new}/fraisier.db", state_folder=str(new))
    store.register_worker("w9", info={"host": "here", "pid": 7})
    assert [(each["id"], each["pid"]) for each in database(new).status().workers] == [("w9", 7)]
    store.close()
