"""Several processes on one PostgreSQL: nobody overlaps, nothing is lost, whoever waits is woken."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from fraisier.database.postgresql import PostgresqlStore, open_postgresql
from fraisier.domain.deployment import Trigger
from fraisier.domain.errors import Conflict
from tests import factories
from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.integration.racing_worker import environments
from tests.integration.site import until
from tests.unit.store_contract import KEY, LEASE, PATIENCE, claimed, delivery, sha, wish

ENVIRONMENTS, REQUESTS = 20, 200

# Attempts of one environment of which the later one began before the earlier one had ended.
_OVERLAPS = """
SELECT count(*)
  FROM (SELECT d.environment, a.token, a.started_at,
               lag(a.ended_at) OVER w AS earlier_ended, lag(a.token) OVER w AS earlier_token
          FROM tb_deployment_attempts a JOIN tb_deployments d ON d.id = a.deployment
        WINDOW w AS (PARTITION BY d.environment ORDER BY a.started_at)) a
 WHERE a.earlier_ended > a.started_at OR a.earlier_token >= a.token
"""


def test_two_workers_in_two_processes_never_overlap_and_lose_nothing(
    database: str, store: PostgresqlStore, tmp_path: Path
) -> None:
    fraise = factories.fraise(
        *(factories.environment(name=key.environment) for key in environments(ENVIRONMENTS))
    )
    store.publish([fraise], digest="race", documents={})
    argv = [sys.executable, "-m", "tests.integration.racing_worker", database]
    workers = [subprocess.Popen([*argv, name, str(tmp_path)]) for name in ("w1", "w2")]
    try:
        until("both workers", lambda: len(list(tmp_path.glob("*.ready"))) == len(workers), 30)
        keys = environments(ENVIRONMENTS)
        wishes = [
            wish(sha(n), environment=keys[n % ENVIRONMENTS], trigger=Trigger.manual) for n in range(REQUESTS)
        ]
        with ThreadPoolExecutor(4) as callers:
            requested = [each.deployment for each in callers.map(store.request, wishes)]
        (tmp_path / "all-requested").touch()
        assert [worker.wait(90) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert not (tmp_path / "overlap").exists()
    assert len({each.id for each in requested if each}) == REQUESTS
    with psycopg.connect(database) as connection:
        assert connection.execute(_OVERLAPS).fetchone() == (0,)
        ended = connection.execute("SELECT status, count(*) FROM tb_deployments GROUP BY status").fetchall()
        by_worker = connection.execute(
            "SELECT count(*) FROM tb_deployment_attempts GROUP BY worker"
        ).fetchall()
        tokens = connection.execute("SELECT sum(token) FROM tb_environments").fetchone()
    assert ended == [("success", REQUESTS)]
    assert len(by_worker) == len(workers)
    assert tokens == (REQUESTS,)


def test_the_same_deliveries_at_two_doors_at_once_are_stored_once(
    database: str, store: PostgresqlStore
) -> None:
    other = open_postgresql(database)
    try:
        futures = [
            door.record(delivery(f"d{number}", wish(sha(number + 1))))
            for number in range(300)
            for door in (store, other)
        ]
        answers = [future.result(PATIENCE) for future in futures]
    finally:
        other.close()
    assert sum(each.status == "accepted" for each in answers) == 300
    assert sum(each.status == "duplicate" for each in answers) == 300
    for ours, theirs in zip(answers[::2], answers[1::2], strict=True):
        assert ours.event_id == theirs.event_id
    counts = store.counts()
    assert (counts["events.accepted"], counts["deployments.pending"]) == (300, 1)


def test_a_request_in_another_process_wakes_the_subscriber(database: str, store: PostgresqlStore) -> None:
    woken = threading.Event()
    store.subscribe(woken.set)
    assert woken.wait(PATIENCE)  # once when it listens
    woken.clear()
    other = open_postgresql(database)
    other.request(wish())
    other.close()
    assert woken.wait(PATIENCE)


def test_a_batch_of_deliveries_notifies_once(database: str, store: PostgresqlStore) -> None:
    with psycopg.connect(database, autocommit=True) as listening:
        listening.execute("LISTEN fraisier")
        store.record(delivery("d1", wish(), wish(environment=KEY))).result(PATIENCE)
        listening.execute("NOTIFY fraisier, 'the end'")  # heard after all that was committed before
        heard = [each.payload for each in listening.notifies(timeout=PATIENCE, stop_after=2)]
        assert heard[1:] == ["the end"]


def test_whoever_listens_again_after_a_lost_session_is_woken(database: str, store: PostgresqlStore) -> None:
    woken = threading.Event()
    store.subscribe(woken.set)
    assert woken.wait(PATIENCE)
    woken.clear()
    with psycopg.connect(database, autocommit=True) as admin:
        ended = admin.execute("""
            SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE application_name = 'fraisier' AND query LIKE 'LISTEN%' AND datname = current_database()
        """).fetchall()
    assert ended == [(True,)]
    assert woken.wait(PATIENCE)  # what came meanwhile is looked for
    woken.clear()
    store.request(wish())
    assert woken.wait(PATIENCE)


def test_a_worker_of_a_name_that_lives_elsewhere_is_refused(store: PostgresqlStore, advance) -> None:
    store.register_worker("w1", info={"host": "here", "pid": 7})
    store.register_worker("w1", info={"host": "here", "pid": 7})
    with pytest.raises(Conflict, match="another one of that name"):
        store.register_worker("w1", info={"host": "there", "pid": 7})
    advance(3600)
    store.register_worker("w1", info={"host": "there", "pid": 7})


def test_a_claim_passes_over_an_environment_that_somebody_has_locked(
    database: str, store: PostgresqlStore
) -> None:
    store.request(wish())
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM tb_environments WHERE name = 'production' FOR NO KEY UPDATE")
        assert store.claim("w1", lease=LEASE, environments=(KEY,)) is None  # it would wait in vain, else
    assert claimed(store).environment == KEY
