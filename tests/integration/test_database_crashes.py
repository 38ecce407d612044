"""Guarantee 1 with real processes: what was acknowledged survives kill -9; nobody claims what another holds."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fraisier.database import migration_files
from fraisier.database.sqlite import SqliteStore, open_sqlite
from fraisier.domain.deployment import Trigger
from tests.migrated import lay_migrated
from tests.unit.store_contract import KEY, LEASE, delivery, publish, sha, wish

ROOT = Path(__file__).parent.parent.parent

# Records without end from eight threads; prints each event's id only after its future was resolved.
RECORDER = """
import itertools, sys, threading
from tests.integration.test_database_crashes import open_in
from tests.unit.store_contract import delivery, sha, wish
from pathlib import Path
store, lock, numbers = open_in(Path(sys.argv[1])), threading.Lock(), itertools.count(1)
def record():
    while True:
        number = next(numbers)
        received = store.record(delivery(f"d{number}", wish(sha(number)))).result(30)
        with lock:
            print(received.event_id, received.deployments[0].id, flush=True)
for _ in range(8):
    threading.Thread(target=record).start()
"""

# Claims one environment after the other and finishes each; prints the token of each claim.
CLAIMER = """
import sys
from tests.integration.test_database_crashes import open_in
from tests.unit.store_contract import KEY, finished
from pathlib import Path
store, worker = open_in(Path(sys.argv[1])), sys.argv[2]
store.register_worker(worker, info={})
print("ready", flush=True)
sys.stdin.readline()
while True:
    claim = store.claim(worker, lease=10, environments=[KEY])
    if claim is None and not store.history(status="pending", limit=1) and not store.history(status="running"):
        break
    if claim is not None:
        print(claim.token, claim.deployment.id, flush=True)
        finished(store, claim)
store.retire_worker(worker)
store.close()
"""

# Registers, claims, says so, and stays.
HOLDER = """
import sys, threading
from tests.integration.test_database_crashes import open_in
from tests.unit.store_contract import claimed
from pathlib import Path
store = open_in(Path(sys.argv[1]))
store.register_worker("holder", info={})
print(claimed(store, "holder").token, flush=True)
threading.Event().wait()
"""


def open_in(folder: Path) -> SqliteStore:
    lay_migrated(folder / "fraisier.db")
    return open_sqlite(f"sqlite://{folder}/fraisier.db", state_folder=str(folder))


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = open_in(tmp_path / "state")
    publish(store)
    store.close()
    return tmp_path / "state"


def test_all_that_was_acknowledged_is_there_after_kill_9(folder: Path) -> None:
    for enough in (50, 200, 333):
        process = start(RECORDER, str(folder))
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(enough)]
        process.kill()
        lines += process.stdout.readlines()
        process.wait(30)
        # The last line may have been cut short by the kill.
        acknowledged = [line.split() for line in lines if line.endswith("\n")]
        assert len(acknowledged) >= enough
        store = open_in(folder)  # the next one must be able to go on at once
        with sqlite3.connect(store.path) as connection:
            events = {row[0] for row in connection.execute("SELECT id FROM tb_webhook_events")}
            deployments = {row[0] for row in connection.execute("SELECT id FROM tb_deployments")}
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            pending = connection.execute("SELECT count(*) FROM tb_deployments WHERE status = 'pending'")
            assert pending.fetchone() == (1,)
            forget = "UPDATE tb_webhook_events SET payload = NULL"
            assert connection.execute(forget).rowcount == len(events)
        assert {event for event, _ in acknowledged} <= events
        assert {deployment for _, deployment in acknowledged} <= deployments
        assert store.counts()["events.accepted"] == len(events)
        store.close()
        _forget_delivery_ids(folder)


def _forget_delivery_ids(folder: Path) -> None:
    """So that the next round's deliveries are new."""
    with sqlite3.connect(folder / "fraisier.db") as connection:
        connection.execute("DROP TRIGGER tr_webhook_events_fixed")
        connection.execute("UPDATE tb_webhook_events SET delivery_id = ''")
        connection.execute(
            "CREATE TRIGGER tr_webhook_events_fixed BEFORE DELETE ON tb_webhook_events BEGIN SELECT 1; END"
        )


def test_processes_that_race_for_claims_never_get_the_same_token(folder: Path) -> None:
    store = open_in(folder)
    for number in range(1, 41):
        store.request(wish(sha(number), trigger=Trigger.manual))
    racers = [start(CLAIMER, str(folder), f"w{n}") for n in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    claims = [line.split() for racer in racers for line in racer.communicate(timeout=60)[0].splitlines()]
    tokens = sorted(int(token) for token, _ in claims)
    assert tokens == list(range(1, 41))
    assert max(Counter(deployment for _, deployment in claims).values()) == 1
    assert len(store.history("orders", "production", status="success", limit=100)) == 40
    store.close()


def test_a_killed_worker_is_followed_at_once_and_a_stopped_one_is_not(folder: Path) -> None:
    store = open_in(folder)
    store.request(wish())
    holder = start(HOLDER, str(folder))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    holder.send_signal(signal.SIGSTOP)
    assert store.claim("w2", lease=LEASE, environments=[KEY]) is None
    assert [row["id"] for row in store.live_workers()] == ["holder"]
    holder.kill()
    holder.wait(30)
    began = time.monotonic()
    claim = store.claim("w2", lease=LEASE, environments=[KEY])
    assert claim is not None
    assert claim.token == 2
    assert time.monotonic() - began < LEASE / 2
    assert store.live_workers() == []
    store.close()


def test_another_process_can_write_while_the_receiver_is_saturated(folder: Path) -> None:
    recorder = start(RECORDER, str(folder))
    assert recorder.stdout is not None
    recorder.stdout.readline()
    store = open_in(folder)
    for number in range(20):
        store.audit(actor="bob", action="look", subject=str(number), detail={})
    assert recorder.poll() is None
    recorder.kill()
    recorder.wait(30)
    with sqlite3.connect(store.path) as connection:
        count = connection.execute("SELECT count(*) FROM tb_audit_log WHERE action = 'look'").fetchone()
    assert count == (20,)
    assert store.record(delivery("after", wish(sha(10**9)))).result(10).status == "accepted"
    store.close()


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    program = f"from fraisier.database.sqlite import open_sqlite; open_sqlite({f'sqlite://{tmp_path}/fraisier.db'!r}, state_folder='/')"
    started = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    errors = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    newest = migration_files.newest_number(migration_files.migrations_folder("sqlite"))
    with sqlite3.connect(tmp_path / "fraisier.db") as connection:
        assert connection.execute("SELECT count(*) FROM tb_migrations").fetchone() == (newest,)
