"""What nobody honest sends gets a 4xx in bounded time and memory; honest senders notice nothing of it."""

from __future__ import annotations

import contextlib
import gc
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from fraisier.application.ports import Delivery, ForgeInstance, Received
from fraisier.application.receive_push import Letter
from fraisier.domain.errors import StoreUnavailable
from tests.factories import environment, source
from tests.receiver import (
    Answer,
    RecordingStore,
    Running,
    application,
    configuration,
    read_answer,
    running,
    wait_for,
)
from tests.unit.signing import SECRET, SignedDelivery, sign

PUSH = {
    "ref": "refs/heads/main",
    "before": "a" * 40,
    "after": "b" * 40,
    "repository": {"full_name": "acme/orders"},
    "sender": {"login": "eve"},
    "commits": [],
}
MAX_BODY = 1024 * 1024


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def server(store: RecordingStore) -> Iterator[Running]:
    """With short times and small sizes, so that no test waits for long."""
    app = application(configuration(max_body=MAX_BODY, max_in_flight=4 * MAX_BODY, body_timeout=1.0), store)
    with running(app, request=3.0, idle=2.0, farewell=0.5, connections=60) as served:
        yield served


def raw(delivery: SignedDelivery, *, length: int | None = None, extra: str = "") -> bytes:
    """The head of a POST with the delivery's headers."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in delivery.headers.items())
    announced = len(delivery.body) if length is None else length
    return f"POST /webhook HTTP/1.1\r\nHost: x\r\n{lines}{extra}Content-Length: {announced}\r\n\r\n".encode()


def push_gets_through(server: Running) -> bool:
    delivery = sign("github", PUSH)
    return (
        httpx.post(f"{server.url}/webhook", content=delivery.body, headers=dict(delivery.headers)).status_code
        == 202
    )


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"].startswith("cannot ")
    assert answer.headers["connection"] == "close"


# ------------------------------------------------------------------------------------------------ sizes


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(server: Running) -> None:
    delivery = sign("github", PUSH)
    assert_refused(server.exchange(raw(delivery, length=10 * MAX_BODY * 1000)), 413, "too_large")


def test_a_naive_sender_of_a_slightly_too_large_body_still_sees_why(server: Running) -> None:
    delivery = sign("github", PUSH)
    answer = server.exchange(raw(delivery, length=MAX_BODY + 1), b"x" * (MAX_BODY + 1))
    assert_refused(answer, 413, "too_large")


def test_an_endless_chunked_body_is_read_up_to_the_cap_only(server: Running) -> None:
    client = server.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    client.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    sent = 0
    client.settimeout(5)
    with contextlib.suppress(OSError):
        while sent < 1000 * MAX_BODY:
            client.sendall(chunk)
            sent += 65536
    assert sent < 20 * MAX_BODY  # the cap and what the kernel's buffers hold


def test_a_head_without_end_is_refused(server: Running) -> None:
    answer = server.exchange(b"GET /health HTTP/1.1\r\nX-Bomb: " + b"x" * 500_000)
    assert_refused(answer, 431, "headers_too_large")


def test_too_many_headers_are_refused(server: Running) -> None:
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(1000))
    assert_refused(server.exchange(b"GET /health HTTP/1.1\r\n" + lines + b"\r\n"), 431, "headers_too_large")


def test_a_path_without_end_is_refused(server: Running) -> None:
    answer = server.exchange(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert_refused(answer, 431, "headers_too_large")


def test_a_trailer_without_end_is_refused(server: Running) -> None:
    head = b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Bomb: "
    assert server.exchange(head, b"x" * 400_000, b"x" * 400_000).status in (401, 400, 431)


def test_a_chunk_extension_without_end_is_refused(server: Running) -> None:
    head = b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    answer = server.exchange(head, b"x" * 400_000, b"x" * 400_000)
    assert_refused(answer, 431, "headers_too_large")


def test_pipelined_requests_are_bounded(server: Running) -> None:
    client = server.connect()
    client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 5000)
    answers = b""
    try:
        while chunk := client.recv(65536):
            answers += chunk
    except ConnectionResetError:
        pass
    assert 1 <= answers.count(b"HTTP/1.1 200") < 100


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,  # somebody speaks TLS
        b"GARBAGE\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /webhook HTTP/1.1\r\nHo st: x\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"POST /webh\x00ook HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST * HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /webhook/%ff%00..%2f HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /webhook?provider=%ff%00 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
def test_broken_http_is_refused_with_a_4xx_as_json(server: Running, request_bytes: bytes) -> None:
    answer = server.exchange(request_bytes)
    assert 400 <= answer.status < 500
    assert answer.json()["error"]["message"].startswith("cannot ")


# ------------------------------------------------------------------------------------------------- time


def test_a_silent_sender_of_a_body_is_sent_away(server: Running) -> None:
    delivery = sign("github", PUSH)
    assert_refused(server.exchange(raw(delivery), delivery.body[:10]), 408, "timeout")


def test_a_false_content_length_ends_in_a_timeout(server: Running, store: RecordingStore) -> None:
    delivery = sign("github", PUSH)
    answer = server.exchange(raw(delivery, length=len(delivery.body) + 7), delivery.body)
    assert_refused(answer, 408, "timeout")
    assert not store.deliveries


def test_a_silent_sender_of_a_head_is_sent_away(server: Running) -> None:
    assert_refused(server.exchange(b"POST /webhook HTTP/1.1\r\nHost: "), 408, "timeout")


@pytest.mark.parametrize(
    "start", [b"POST /webhook HTTP/1.1\r\nX-Slow: ", b"POST /webhook HTTP/1.1\r\nContent-Length: 999\r\n\r\n"]
)
def test_a_sender_that_drips_is_sent_away(server: Running, start: bytes) -> None:
    client = server.connect()
    client.sendall(start)
    client.settimeout(0.2)
    deadline = time.monotonic() + 10
    answer = b""
    while not answer and time.monotonic() < deadline:
        try:
            client.sendall(b"x")
            answer = client.recv(4096)
        except TimeoutError:
            continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_is_closed_as_soon_as_any_silent_one(store: RecordingStore) -> None:
    with running(application(configuration(body_timeout=1.0), store), idle=600.0) as served:
        assert served.exchange().status == 0  # it raises if nobody closes the connection


def test_a_connection_may_be_silent_for_longer_between_two_requests(store: RecordingStore) -> None:
    with running(application(configuration(body_timeout=1.0), store), idle=600.0) as served:
        client = served.connect()
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(client).status == 200
        assert served.connect().recv(1) == b""  # one that never spoke: the silent were looked at
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(client).status == 200


def test_many_idle_connections_keep_no_push_out(server: Running, store: RecordingStore) -> None:
    idle = [server.connect() for _ in range(150)]
    for client in idle[::2]:
        client.sendall(b"POST /webhook HTTP/1.1\r\nX-Slow: ")
    assert all(push_gets_through(server) for _ in range(5))
    assert len(store.deliveries) == 5


# ------------------------------------------------------------------------------------------------ bodies


def test_bodies_in_flight_are_bounded_together_and_a_push_still_gets_through(server: Running) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = b"x" * (MAX_BODY - 1)
    head = b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % MAX_BODY

    def send() -> int:
        return server.exchange(head, body).status

    with ThreadPoolExecutor(30) as senders:
        hanging = [senders.submit(send) for _ in range(30)]
        wait_for(lambda: _in_flight(server) > MAX_BODY)
        assert _in_flight(server) <= 4 * MAX_BODY
        assert push_gets_through(server)
        statuses = {each.result() for each in hanging}
    assert statuses <= {408, 503, 0}
    wait_for(lambda: _in_flight(server) == 0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 100 * 1024


def _in_flight(server: Running) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    found = re.search(r"^fraisier_bodies_in_flight_bytes (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def test_large_signed_pushes_all_get_through_though_they_do_not_fit_together(
    server: Running, store: RecordingStore
) -> None:
    delivery = sign("github", PUSH | {"commits": [{"message": "x" * (MAX_BODY - 1000)}]})

    def send(_: int) -> int:
        headers = dict(delivery.headers)
        return httpx.post(
            f"{server.url}/webhook", content=delivery.body, headers=headers, timeout=30
        ).status_code

    with ThreadPoolExecutor(12) as senders:
        assert set(senders.map(send, range(24))) == {202}
    assert len(store.deliveries) == 24


class FullStore(RecordingStore):
    async def record(self, delivery: Delivery) -> Received:
        raise StoreUnavailable("cannot use the database", "Free some space")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Python's collector of what only keeps itself alive comes when many objects were made, however large."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("size", [1_000, MAX_BODY // 2])  # read by the event loop, and by a thread
@pytest.mark.parametrize(
    ("secret", "change", "header", "status"),
    [
        (SECRET, {}, {}, 202),
        (b"of another instance", {}, {}, 202),
        (b"wrong", {}, {}, 401),
        (SECRET, {"ref": "refs/heads/a..b"}, {}, 400),
        (SECRET, {"ref": 7}, {}, 400),
        (SECRET, {}, {"x_gitlab_event": "Push Hook"}, 400),
        (SECRET, {}, {"content_type": "text/plain"}, 415),
        (SECRET, {}, {}, 503),
    ],
)
def test_no_body_outlives_its_answer(
    size: int,
    secret: bytes,
    change: dict[str, object],
    header: dict[str, str],
    status: int,
) -> None:
    kinds = (
        ForgeInstance(name="github", kind="github", secrets=(SECRET,)),
        ForgeInstance(name="ghes", kind="github", secrets=(b"of another instance",)),
    )
    followers = [environment(fraise=each.name, source=source(forge=each.name)) for each in kinds]
    delivery = sign("github", {**PUSH, **change, "x": "x" * size}, secret).with_headers(**header)
    store = FullStore() if status == 503 else RecordingStore()
    with running(application(configuration(*followers, forges=kinds), store)) as served:
        assert served.exchange(raw(delivery), delivery.body).status == status
        wait_for(lambda: not any(isinstance(each, Letter) for each in gc.get_objects()), timeout=2)


def test_a_compressed_body_is_refused_unread(server: Running) -> None:
    answer = server.exchange(raw(sign("github", PUSH), length=500_000, extra="Content-Encoding: gzip\r\n"))
    assert_refused(answer, 415, "unsupported_media_type")


# --------------------------------------------------------------------------------- what stays as it should


def test_expect_continue_and_chunks_are_understood(server: Running) -> None:
    delivery = sign("github", PUSH)
    client = server.connect()
    lines = "".join(f"{name}: {value}\r\n" for name, value in delivery.headers.items())
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\n{lines}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.sendall(head.encode())
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(delivery.body), delivery.body))
    assert read_answer(client).status == 202


def test_a_sender_that_stops_sending_still_gets_its_answer(server: Running) -> None:
    delivery = sign("github", PUSH)
    client = server.connect()
    client.sendall(raw(delivery) + delivery.body)
    client.shutdown(socket.SHUT_WR)
    assert read_answer(client).status == 202


def test_garbage_after_a_push_does_not_cost_it_its_answer(server: Running, store: RecordingStore) -> None:
    delivery = sign("github", PUSH)
    answer = server.exchange(raw(delivery) + delivery.body + b"\x00garbage" * 10)
    assert answer.status == 202
    assert len(store.deliveries) == 1


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.2"])
def test_an_offer_to_upgrade_is_not_taken(server: Running, upgrade: str) -> None:
    delivery = sign("github", PUSH)
    offered = raw(delivery, extra=f"Upgrade: {upgrade}\r\nConnection: Upgrade, HTTP2-Settings\r\n")
    assert server.exchange(offered + delivery.body).status == 202


def test_requests_follow_one_another_on_a_connection(server: Running) -> None:
    delivery = sign("github", PUSH)
    client = server.connect()
    for _ in range(3):
        client.sendall(raw(delivery) + delivery.body)
        assert read_answer(client).status == 202


def test_pipelined_pushes_are_all_answered(server: Running) -> None:
    delivery = sign("github", PUSH)
    client = server.connect()
    client.sendall((raw(delivery) + delivery.body) * 5)
    answers = b""
    while answers.count(b"HTTP/1.1 202") < 5:
        chunk = client.recv(65536)
        assert chunk
        answers += chunk


def test_a_sender_that_hangs_up_leaves_nothing_behind(server: Running, store: RecordingStore) -> None:
    for _ in range(20):
        client = server.connect()
        client.sendall(raw(sign("github", PUSH)) + b"{")
        client.close()
    wait_for(lambda: _in_flight(server) == 0)
    assert not store.deliveries
    assert push_gets_through(server)


def test_a_stop_waits_for_the_answer_to_a_push_that_was_taken(store: RecordingStore) -> None:
    store.may_answer.clear()
    delivery = sign("github", PUSH)
    with ThreadPoolExecutor(1) as sender:
        with running(application(configuration(), store)) as served:
            waiting = sender.submit(served.exchange, raw(delivery) + delivery.body)
            wait_for(lambda: _in_flight(served) > 0)
            served.keep_open()
            threading.Timer(0.3, store.may_answer.set).start()
        assert waiting.result(10).status == 202
