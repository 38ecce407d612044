"""The store under load: nothing is lost, nothing is doubled, nobody starves, memory stays."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.ports import Received
from fraisier.database.sqlite import SqliteStore, open_sqlite
from tests.unit.store_contract import delivery, publish, sha, wish

PATIENCE = 60.0  # seconds


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_sqlite(f"sqlite://{tmp_path}/state/fraisier.db", state_folder=str(tmp_path / "state"))
    publish(opened)
    yield opened
    opened.close()


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def record_all(
    store: SqliteStore, numbers: range, callers: int, payload: bytes = b"{}"
) -> list[Received]:
    """Record deliveries, that many at a time."""
    loop, waiting = asyncio.get_running_loop(), iter(numbers)
    answers: list[Received] = []

    async def call() -> None:
        for number in waiting:
            asked = replace(delivery(f"d{number}", wish(sha(number))), payload=payload)
            answers.append(await store.record_async(asked, loop))

    await asyncio.gather(*(call() for _ in range(callers)))
    return answers


def test_a_hundred_callers_lose_and_double_nothing(store: SqliteStore) -> None:
    answers = asyncio.run(record_all(store, range(1, 3001), 100))
    again = asyncio.run(record_all(store, range(1, 3001), 100))
    assert Counter(each.status for each in answers + again) == {"accepted": 3000, "duplicate": 3000}
    assert {each.event_id for each in again} == {each.event_id for each in answers}
    counts = store.counts()
    assert (counts["deployments.pending"], counts["deployments.superseded"]) == (1, 2999)


def test_threads_and_loops_record_side_by_side(store: SqliteStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        threads = [pool.submit(store.record, delivery(f"t{n}", wish(sha(n)))) for n in range(10_000, 10_500)]
        loops = asyncio.run(record_all(store, range(1, 501), 20))
        futures = [each.result(PATIENCE) for each in threads]
    answers = loops + [each.result(PATIENCE) for each in futures]
    assert Counter(each.status for each in answers) == {"accepted": 1000}
    assert store.counts()["events.accepted"] == 1000


def test_large_payloads_do_not_hold_up_small_ones_for_long(store: SqliteStore) -> None:
    large = os.urandom(4 * 1024 * 1024)
    futures = [store.record(replace(delivery(f"l{n}", wish(sha(n))), payload=large)) for n in range(1, 9)]
    began = time.monotonic()
    store.record(delivery("small", wish(sha(100)))).result(PATIENCE)
    assert time.monotonic() - began < 10
    assert {each.result(PATIENCE).status for each in futures} == {"accepted"}


def test_reading_and_journal_keep_pace_with_the_receiver(store: SqliteStore) -> None:
    stop, times = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            began = time.monotonic()
            store.history(limit=20)
            store.fraise_status()
            store.audit(actor="bob", action="look", subject="orders", detail={})
            times.append(time.monotonic() - began)

    watcher = threading.Thread(target=look)
    watcher.start()
    answers = asyncio.run(record_all(store, range(1, 3001), 100))
    stop.set()
    watcher.join(PATIENCE)
    assert {each.status for each in answers} == {"accepted"}
    assert len(times) > 10
    assert sorted(times)[len(times) // 2] < 0.5


def test_memory_does_not_grow_with_the_number_of_events(store: SqliteStore) -> None:
    payload = os.urandom(5000) + b"x" * 5000
    asyncio.run(record_all(store, range(1, 4001), 50, payload))
    before = resident()
    asyncio.run(record_all(store, range(4001, 12_001), 50, payload))
    assert resident() - before < 10
