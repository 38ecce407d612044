"""Proxies that are told which release serves: the same contract for each brand, on the real ones."""

from __future__ import annotations

import http.client
import http.server
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fraisier import wiring
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Cutover, Environment, ProxySpec
from tests.factories import environment
from tests.ports import free_port

HAPROXY = """
global
    stats socket {folder}/admin.sock mode 600 level admin
    server-state-file {folder}/state
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    option http-server-close
frontend shop
    bind 127.0.0.1:{port}
    default_backend shop
backend shop
    load-server-state-from-file global
    server one {one} disabled
    server two {two} disabled
"""


@dataclass
class Stand:
    """A proxy that runs, two releases behind it, and the environment that it belongs to."""

    kind: str
    folder: Path
    port: int
    places: tuple[str, str]
    environment: Environment
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def proxy(self) -> Any:
        return wiring.make({self.kind: wiring.PROXIES[self.kind]})[self.kind]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, cwd=self.folder, stderr=subprocess.DEVNULL)
        until(lambda: not self.proxy.problems(self.environment))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def answer(self) -> str:
        """What the proxy answers: the place of the release, or the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/")
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        return said if answer.status == 200 else str(answer.status)


def until(look: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return when it is so; fails after that time."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def release() -> Iterator[str]:
    """A service that answers where it listens."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = place.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield place
    server.shutdown()
    server.server_close()


def haproxy(folder: Path, port: int, places: tuple[str, str]) -> tuple[list[str], dict[str, str]]:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("haproxy is not installed")
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(folder=folder, port=port, one=places[0], two=places[1]))
    options = {"socket": f"{folder}/admin.sock", "backend": "shop", "state_file": f"{folder}/state"}
    return [program, "-db", "-f", str(file)], options


def caddy(folder: Path, port: int, _: tuple[str, str]) -> tuple[list[str], dict[str, str]]:
    program = Path(sys.executable).with_name("caddy")
    if not program.exists():
        pytest.skip("caddy is not installed: there is no wheel for this machine")
    admin = free_port()
    handler = {"@id": "shop", "handler": "reverse_proxy", "upstreams": []}
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"handle": [handler]}],
        "automatic_https": {"disable": True},
    }
    config = {"admin": {"listen": f"127.0.0.1:{admin}"}, "apps": {"http": {"servers": {"shop": server}}}}
    file = folder / "caddy.json"
    file.write_text(json.dumps(config))
    where = ("env", f"XDG_CONFIG_HOME={folder}/config", f"XDG_DATA_HOME={folder}/data", f"HOME={folder}")
    command = [*where, str(program), "run", "--resume", "--config", str(file)]
    return command, {"admin": f"http://127.0.0.1:{admin}", "id": "shop"}


@pytest.fixture(params=["haproxy", "caddy"])
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    folder = Path(tempfile.mkdtemp(prefix="proxy-"))  # short enough for a socket
    with release() as one, release() as two:
        port, places = free_port(), (one, two)
        command, options = {"haproxy": haproxy, "caddy": caddy}[request.param](folder, port, places)
        found = environment(
            cutover=Cutover.blue_green, listen=places, proxy=ProxySpec(kind=request.param, options=options)
        )
        made = Stand(request.param, folder, port, places, found, command)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            with suppress(OSError):
                shutil.rmtree(folder)


def test_traffic_goes_to_the_release_that_was_named_and_to_no_other(stand):
    assert stand.answer() in ("503", "502")  # nothing serves yet
    for place in (*stand.places, *stand.places):
        stand.proxy.point(stand.environment, place)
        assert {stand.answer() for _ in range(6)} == {place}
        assert list(stand.proxy.points_to(stand.environment)) == [place]
        stand.proxy.point(stand.environment, place)  # once more changes nothing
        assert stand.answer() == place


def test_a_restart_of_the_proxy_forgets_nothing(stand):
    stand.proxy.point(stand.environment, stand.places[1])
    stand.stop()
    stand.start()
    assert {stand.answer() for _ in range(6)} == {stand.places[1]}


def test_what_cannot_work_is_told_before_anything_is_deployed(stand):
    assert not stand.proxy.problems(stand.environment)
    stand.stop()
    (problem, *_) = stand.proxy.problems(stand.environment)
    assert problem.message.startswith("cannot reach")
    with pytest.raises(StepFailed) as failed:
        stand.proxy.point(stand.environment, stand.places[0])
    assert failed.value.cause is Cause.host, "it is tried again"


def test_haproxy_has_to_know_every_port(stand):
    if stand.kind != "haproxy":
        pytest.skip("Caddy is told any address")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{other.getsockname()[1]}"
    known = environment(
        cutover=Cutover.blue_green, listen=(*stand.places, place), proxy=stand.environment.proxy
    )
    assert place in stand.proxy.problems(known)[0].message
    with pytest.raises(StepFailed, match="has no such server"):
        stand.proxy.point(known, place)


def test_haproxy_closes_what_a_new_release_is_about_to_listen_on(stand):
    """Somebody has opened all servers by hand, or the state file was lost."""
    if stand.kind != "haproxy":
        pytest.skip("Caddy has no other upstream")
    stand.proxy.point(stand.environment, stand.places[0])
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(stand.environment.proxy.options["socket"])
        admin.sendall(b"set server shop/two state ready\n")
        admin.recv(100)
    assert {stand.answer() for _ in range(8)} == set(stand.places)
    stand.proxy.point(stand.environment, stand.places[0])
    assert {stand.answer() for _ in range(8)} == {stand.places[0]}
    stand.proxy.point(stand.environment, "")
    assert stand.answer() == "503"
