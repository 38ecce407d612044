"""`fraisier serve` as a process: it says where it listens, reloads on SIGHUP, stops on SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fraisier.domain.errors import Unreachable
from fraisier.web.server import addresses, listen
from tests.receiver import wait_for
from tests.unit.signing import SignedDelivery, sign
from tests.unit.test_receive_push import push

SECRET = b"s3cret-of-the-forge"
CONFIG = """\
git: {{github: {{webhook_secret: {secret}}}}}
database: {{url: "{database}"}}
state_folder: {folder}/state
fraises:
  orders:
    repository: acme/orders
    clone_url: {folder}/nowhere.git
    environments:
      production: {{branch: {branch}, app_path: {folder}/app}}
"""


class Serving:
    """A `fraisier serve` of its own process; on SQLite where `database` names no other URL."""

    def __init__(self, folder: Path, *arguments: str, database: str = "") -> None:
        self.file = folder / "fraises.yaml"
        self._folder = folder
        self._database = database or f"sqlite://{folder}/fraisier.db"
        self.write()
        command = [sys.executable, "-m", "fraisier", "--config", str(self.file), "serve", *arguments]
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def write(self, branch: str = "main") -> None:
        text = CONFIG.format(
            folder=self._folder, database=self._database, branch=branch, secret=SECRET.decode()
        )
        self.file.write_text(text)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    @property
    def url(self) -> str:
        wait_for(lambda: "listens on" in self.log or self.process.poll() is not None, 30)
        found = re.search(r"listens on (http://\S+)", self.log)
        assert found, self.log
        return found[1]

    def post(self, delivery: SignedDelivery) -> httpx.Response:
        return httpx.post(f"{self.url}/webhook", content=delivery.body, headers=dict(delivery.headers))

    def config_word(self) -> str:
        return str(httpx.get(f"{self.url}/ready").json()["config"])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._log.close()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    served = Serving(tmp_path, "--port", "0")
    yield served
    served.close()


def test_a_server_is_ready_takes_a_push_and_stops_when_told(serving: Serving) -> None:
    assert httpx.get(f"{serving.url}/ready").json()["status"] == "ok"
    assert serving.post(sign("github", push(), SECRET)).status_code == 202
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(30) == 0


def test_a_push_that_was_answered_outlives_a_kill(serving: Serving, tmp_path: Path) -> None:
    first = serving.post(sign("github", push(), SECRET, delivery_id="same")).json()
    os.kill(serving.process.pid, signal.SIGKILL)
    serving.process.wait(10)
    again = Serving(tmp_path, "--port", "0")
    try:
        second = again.post(sign("github", push(), SECRET, delivery_id="same")).json()
    finally:
        again.close()
    assert (second["status"], second["event_id"]) == ("duplicate", first["event_id"])


def test_a_changed_file_counts_after_sighup_and_a_broken_one_never(serving: Serving) -> None:
    assert serving.post(sign("github", push(ref="refs/heads/next"), SECRET)).json()["status"] == "ignored"
    serving.file.write_text("fraises: [broken")
    serving.process.send_signal(signal.SIGHUP)
    wait_for(lambda: serving.config_word() != "ok")
    assert "fraises.yaml:" in serving.config_word()
    assert serving.post(sign("github", push(), SECRET)).status_code == 202
    serving.write(branch="next")
    serving.process.send_signal(signal.SIGHUP)
    wait_for(lambda: serving.config_word() == "ok")
    moved = push(ref="refs/heads/next", after="c" * 40)
    assert serving.post(sign("github", moved, SECRET)).status_code == 202


def test_a_port_in_use_is_said_clearly(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        served = Serving(tmp_path, "--port", str(other.getsockname()[1]))
        try:
            assert served.process.wait(30) == 4
        finally:
            served.close()
    assert "cannot listen on 127.0.0.1:" in served.log
    assert "--port" in served.log
    assert "Traceback" not in served.log


def test_a_host_that_is_not_here_cannot_be_listened_on() -> None:
    with pytest.raises(Unreachable):
        listen("192.0.2.1", 0)


def test_an_ipv6_address_is_told_in_brackets() -> None:
    try:
        sockets = listen("::1", 0)
    except Unreachable:
        pytest.skip("this machine has no IPv6")
    assert addresses(sockets)[0].startswith("http://[::1]:")
    for each in sockets:
        each.close()
