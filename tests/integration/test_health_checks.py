"""Probes against real servers on loopback, well-behaved and otherwise."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fraisier.application.ports import Health
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import HealthCheck
from fraisier.domain.secret import Secret
from fraisier.health.command import CommandProber
from fraisier.health.http import MOST_READ, HttpProber
from fraisier.health.tcp import TcpProber
from fraisier.hosts.local import LocalHost
from tests.factories import environment

Behaviour = Callable[[socket.socket], None]
FOLDER = "/var/www/orders/releases/1-aaaaaaa"
DIAL = LocalHost().connect


def _no_command(command: Command) -> int:
    raise AssertionError(command)


@contextmanager
def serving(behave: Behaviour) -> Iterator[int]:
    """A server on loopback that does to each connection what it is told; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection = listener.accept()[0]
                except TimeoutError:
                    continue
                with connection:
                    try:
                        behave(connection)
                    except OSError:
                        continue  # the probe had enough

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


def answer(text: bytes, heard: list[bytes] | None = None) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        request = connection.recv(65536)
        if heard is not None:
            heard.append(request)
        connection.sendall(text)

    return behave


def http(text: bytes, **check: object) -> Health:
    with serving(answer(text)) as port:
        return probe_http(port, **check)


def probe_http(port: int, **check: object) -> Health:
    wanted = HealthCheck(url=f"http://127.0.0.1:{port}/health?full=1", **check)  # type: ignore[arg-type]
    return HttpProber().probe(wanted, environment(), FOLDER, _no_command, DIAL)


OK = b"HTTP/1.1 200 OK\r\nX-Version: 2\r\nContent-Length: 9\r\n\r\nall is ok"


@pytest.mark.parametrize(
    ("text", "check", "passed", "detail"),
    [
        (OK, {}, True, "HTTP 200"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", {}, True, "HTTP 204"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", {}, False, "HTTP 503, expected 2xx"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", {"expect_status": (200, 204)}, False, "HTTP 503, expected 200 or 204"),
        (b"HTTP/1.1 401 No\r\n\r\n", {"expect_status": (401,)}, True, "HTTP 401"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", {}, False, "HTTP 302, expected 2xx"),
        (OK, {"expect_body": "is ok"}, True, "HTTP 200"),
        (OK, {"expect_body": "fine"}, False, "HTTP 200, but the body lacks 'fine'"),
        (OK, {"expect_headers": {"x-version": "2"}}, True, "HTTP 200"),
        (
            OK,
            {"expect_headers": {"X-Version": "3"}},
            False,
            "HTTP 200, but header X-Version should be '3' and it is '2'",
        ),
        (
            OK,
            {"expect_headers": {"X-Other": "3"}},
            False,
            "HTTP 200, but header X-Other should be '3' and it is missing",
        ),
    ],
)
def test_an_answer_is_judged_by_status_body_and_headers(
    text: bytes, check: dict[str, object], passed: bool, detail: str
) -> None:
    assert http(text, **check) == Health(passed=passed, detail=detail)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\xff\xfe\x00" * 50,
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=nonsense\r\nContent-Length: 2\r\n\r\n\xff\xff",
    ],
)
def test_a_bad_answer_is_a_failed_probe_and_never_an_exception(text: bytes) -> None:
    found = http(text, expect_body="ok")
    assert not found.passed
    assert found.detail
    assert len(found.detail) < 400


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_drips_is_cut_off_in_time(head: bytes) -> None:
    """It goes on for a minute, unless the probe hangs up."""
    hung_up = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(head)
        try:
            for _ in range(1200):
                connection.sendall(b"a")
                time.sleep(0.05)
        except OSError:
            hung_up.set()

    with serving(drip) as port:
        found = probe_http(port, request_timeout=0.4, expect_body="never")
    assert hung_up.is_set()
    assert found == Health(passed=False, detail=f"no answer from 127.0.0.1:{port} within 0.4 s")


def test_no_more_of_a_body_is_read_than_is_searched() -> None:
    late = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 * MOST_READ) + b"needle"
    assert not http(late, expect_body="needle").passed


def test_headers_are_sent_and_secrets_do_not_show() -> None:
    heard: list[bytes] = []
    with serving(answer(OK, heard)) as port:
        found = probe_http(port, headers={"Authorization": Secret("Bearer hush"), "Host": "orders.test"})
    assert found.passed
    assert b"GET /health?full=1 HTTP/1.1" in heard[0]
    assert b"Authorization: Bearer hush" in heard[0]
    assert b"Host: orders.test" in heard[0]
    unsendable = probe_http(port, headers={"Authorization": Secret("Bearer\nhush")})
    assert (unsendable.passed, "hush" in unsendable.detail) == (False, False)


def test_a_closed_port_is_told_in_words() -> None:
    with serving(answer(b"")) as port:
        pass
    refused = f"connection refused on 127.0.0.1:{port}"
    assert probe_http(port) == Health(passed=False, detail=refused)
    tcp = TcpProber().probe(HealthCheck(tcp=f"127.0.0.1:{port}"), environment(), FOLDER, _no_command, DIAL)
    assert tcp == Health(passed=False, detail=refused)


def test_plain_http_where_tls_is_expected_is_a_failed_probe() -> None:
    with serving(answer(OK)) as port:
        check = HealthCheck(url=f"https://127.0.0.1:{port}/")
        found = HttpProber().probe(check, environment(), FOLDER, _no_command, DIAL)
    assert not found.passed
    assert "TLS" in found.detail


def test_a_name_that_does_not_exist_is_a_failed_probe() -> None:
    check = HealthCheck(tcp="no-such-host.invalid:80", request_timeout=2)
    assert not TcpProber().probe(check, environment(), FOLDER, _no_command, DIAL).passed


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", ":{}"])
def test_an_open_port_passes(form: str) -> None:
    with serving(answer(b"")) as port:
        check = HealthCheck(tcp=form.format(port))
        assert TcpProber().probe(check, environment(), FOLDER, _no_command, DIAL).passed


@pytest.mark.parametrize("bad", ["127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", ""])
def test_a_place_that_is_none_fails(bad: str) -> None:
    assert not TcpProber().probe(HealthCheck(tcp=bad), environment(), FOLDER, _no_command, DIAL).passed


def test_a_command_is_run_in_the_release_as_the_user_and_passes_with_zero() -> None:
    asked: list[Command] = []

    def run(command: Command) -> int:
        asked.append(command)
        return (0, 3, -9)[len(asked) - 1]

    check = HealthCheck(command="./healthy", request_timeout=7)
    place = environment(user="orders", env={"A": "1"}, env_file="/etc/orders.env")
    found = [CommandProber().probe(check, place, FOLDER, run, DIAL) for _ in range(3)]
    assert [each.passed for each in found] == [True, False, False]
    assert "exit code 3" in found[1].detail
    assert "signal 9" in found[2].detail
    first = asked[0]
    assert (first.cwd, first.user, first.timeout, first.env_file) == (FOLDER, "orders", 7, "/etc/orders.env")


def test_a_command_that_takes_too_long_fails_and_a_cancel_goes_through() -> None:
    check = HealthCheck(command="./healthy")

    def fails(cause: Cause) -> Callable[[Command], int]:
        def run(command: Command) -> int:
            raise StepFailed(cause, "cannot")

        return run

    assert not CommandProber().probe(check, environment(), FOLDER, fails(Cause.timeout), DIAL).passed
    with pytest.raises(StepFailed):
        CommandProber().probe(check, environment(), FOLDER, fails(Cause.cancelled), DIAL)
