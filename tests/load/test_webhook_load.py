"""Many webhooks at once, large ones, and for long: nothing is lost, nothing grows. No test asserts a speed."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import uvloop

from tests.factories import environment
from tests.receiver import Running, Station, configuration, station
from tests.unit.signing import SignedDelivery, fixture, sign
from tools.loadgen import Result, run

MB = 1024 * 1024


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Station]:
    environments = [environment(name=f"env-{number}", branch=f"branch-{number}") for number in range(10)]
    with station(tmp_path, configuration(*environments)) as served:
        yield served


def push(number: int, *, padding: int = 0) -> SignedDelivery:
    """A push that is unlike every other, to one of the ten branches."""
    payload = fixture("github") | {"ref": f"refs/heads/branch-{number % 10}", "after": f"{number + 1:040x}"}
    return sign("github", payload | {"padding": "x" * padding}, delivery_id=f"delivery-{number}")


def wire(delivery: SignedDelivery) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in delivery.headers.items())
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(delivery.body)}\r\n\r\n"
    return head.encode() + delivery.body


def send_all(
    served: Running, connections: int, deliveries: list[SignedDelivery], *, at_once: bool = False
) -> Result:
    requests = [wire(each) for each in deliveries]
    return uvloop.run(run(served.port, connections, requests, at_once=at_once))


def resident() -> float:
    """Resident memory of this process, which serves, in MB."""
    gc.collect()
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def test_a_hundred_pushes_at_once_are_all_accepted_and_stored(receiver: Station) -> None:
    deliveries = [each.with_headers(connection="close") for each in (push(number) for number in range(100))]
    result = send_all(receiver.served, 100, deliveries, at_once=True)
    assert result.statuses == {"202": 100}
    assert receiver.verdicts() == ["accepted"] * 100
    waiting = [commit for _, commit, status in receiver.deployments() if status == "pending"]
    assert len(waiting) == 10  # the newest of each environment


def test_the_same_delivery_at_once_from_everywhere_is_accepted_once(receiver: Station) -> None:
    same = push(1).with_headers(connection="close")
    result = send_all(receiver.served, 50, [same] * 50, at_once=True)
    assert result.statuses == {"202": 1, "200": 49}
    assert len(receiver.deployments()) == 1


def test_thousands_of_pushes_over_a_few_connections_lose_nothing(receiver: Station) -> None:
    result = send_all(receiver.served, 20, [push(number) for number in range(3000)])
    assert result.statuses == {"202": 3000}
    counts = receiver.store.counts()
    assert counts["events.accepted"] == 3000
    assert counts["deployments.pending"] == 10
    assert counts["deployments.superseded"] == 2990


def test_large_payloads_are_taken_whole(receiver: Station) -> None:
    large = [push(number, padding=5 * MB) for number in range(8)]
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(receiver.post, large))
    assert [each.status_code for each in answers] == [202] * 8
    sizes = {row["event_id"]: row for row in [json.loads(each.content) for each in answers]}
    assert len(sizes) == 8


def test_small_pushes_are_answered_while_large_ones_come_in(receiver: Station) -> None:
    with ThreadPoolExecutor(6) as senders:
        large = [senders.submit(receiver.post, push(number, padding=20 * MB)) for number in range(6)]
        small = [receiver.post(push(100 + number)).status_code for number in range(50)]
        assert small == [202] * 50
        assert [each.result().status_code for each in large] == [202] * 6


def test_a_flood_of_forgeries_stores_nothing_and_keeps_nobody_out(receiver: Station) -> None:
    forged = [sign("github", fixture("github"), b"wrong") for _ in range(1000)]
    with ThreadPoolExecutor(1) as flood:
        flooding = flood.submit(_send_forged, receiver.served, forged)
        honest = [receiver.post(push(number)).status_code for number in range(30)]
        statuses = flooding.result()
    assert honest == [202] * 30
    assert set(statuses) == {401, 429}
    assert len(receiver.verdicts()) == 30


def _send_forged(served: Running, forged: list[SignedDelivery]) -> list[int]:
    with httpx.Client() as client:
        url = f"{served.url}/webhook"
        return [client.post(url, content=e.body, headers=dict(e.headers)).status_code for e in forged]


def test_memory_does_not_grow_with_the_number_of_webhooks(receiver: Station) -> None:
    marks = []
    for batch in range(5):
        deliveries = [push(batch * 2000 + number) for number in range(2000)]
        assert send_all(receiver.served, 50, deliveries).statuses == {"202": 2000}
        del deliveries
        marks.append(resident())
    grown = marks[-1] - marks[1]  # the first batches fill caches and the allocator's arenas
    sys.stdout.write(f"resident MB after each batch: {[round(each, 1) for each in marks]}\n")
    assert grown < 15


def test_response_times_under_stress_are_shown(receiver: Station) -> None:
    quiet = send_all(receiver.served, 1, [push(number) for number in range(200)])
    busy = send_all(receiver.served, 100, [push(1000 + number) for number in range(2000)])
    sys.stdout.write(
        f"p50/p99 s at 1: {quiet.p50:.4f}/{quiet.p99:.4f}; at 100: {busy.p50:.4f}/{busy.p99:.4f}\n"
    )
    assert (quiet.statuses, busy.statuses) == ({"202": 200}, {"202": 2000})
    assert busy.worst < 10  # a forge gives up after that


def test_health_answers_while_the_receiver_is_saturated(receiver: Station) -> None:
    times = []
    with ThreadPoolExecutor(1) as stress:
        busy = stress.submit(send_all, receiver.served, 50, [push(number) for number in range(3000)])
        with httpx.Client() as client:
            while not busy.done():
                began = time.perf_counter()
                assert client.get(f"{receiver.served.url}/health").status_code == 200
                times.append(time.perf_counter() - began)
        assert busy.result().statuses == {"202": 3000}
    sys.stdout.write(f"/health median {statistics.median(times) * 1000:.1f} ms of {len(times)}\n")
