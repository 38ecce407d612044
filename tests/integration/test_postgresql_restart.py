"""A PostgreSQL server that goes away under load, and a whole Fraisier on it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from fraisier import worker
from fraisier.database.postgresql import open_postgresql
from fraisier.database.postgresql_connection import PATIENCE
from fraisier.domain.errors import StoreUnavailable
from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.integration.site import Site, until
from tests.integration.test_webhook_server import SECRET, Serving
from tests.servers.postgresql import PostgresqlServer
from tests.unit.signing import sign
from tests.unit.test_receive_push import push

SENDERS = 6


@dataclass
class Forge:
    """Sends distinct deliveries one after the other from several threads, and keeps what was answered."""

    url: str
    answers: list[tuple[float, str, httpx.Response]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def send(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self.stopping.is_set():
                number = next(self.numbers)
                name = f"d-{number}"
                signed = sign("github", push(after=f"{number:040x}"), SECRET, delivery_id=name)
                sent = time.monotonic()
                answer = client.post(self.url, content=signed.body, headers=dict(signed.headers))
                self.answers.append((sent, name, answer))

    @contextmanager
    def sending(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.send) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            for thread in threads:
                thread.join(60)

    def answered(self, number: int) -> None:
        """Return when `number` more deliveries were answered."""
        wanted = len(self.answers) + number
        until(f"{number} answers", lambda: len(self.answers) >= wanted, 60)

    def accepted(self) -> dict[str, str]:
        """Delivery id -> event id of what was answered 2xx."""
        return {name: answer.json()["event_id"] for _, name, answer in self.answers if answer.is_success}


@pytest.fixture
def serving(tmp_path: Path, database: str) -> Iterator[Serving]:
    served = Serving(tmp_path, "--port", "0", database=database)
    yield served
    served.close()


def stored(database: str) -> dict[str, str]:
    with psycopg.connect(database) as connection:
        return dict(connection.execute("SELECT delivery_id, id::text FROM tb_webhook_events").fetchall())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restarted", "crashed"])
def test_a_restart_of_the_server_is_not_noticed_by_a_forge(
    serving: Serving, postgresql_server: PostgresqlServer, database: str, how: signal.Signals
) -> None:
    forge = Forge(f"{serving.url}/webhook")
    with forge.sending():
        forge.answered(100)
        for _ in range(3):
            postgresql_server.restart(how=how)
            forge.answered(100)
    refused = [answer.text for _, _, answer in forge.answers if not answer.is_success]
    assert refused == []
    assert forge.accepted().items() <= stored(database).items()
    statuses = {answer.json()["status"] for _, _, answer in forge.answers}
    assert "duplicate" not in statuses  # a batch whose COMMIT was not answered is not its own duplicate


def test_webhooks_are_refused_only_while_nothing_can_be_committed(
    serving: Serving, postgresql_server: PostgresqlServer, database: str
) -> None:
    forge = Forge(f"{serving.url}/webhook")
    with forge.sending():
        forge.answered(50)
        postgresql_server.stop()
        until("a refusal", lambda: any(answer.status_code == 503 for _, _, answer in forge.answers), 30)
        assert httpx.get(f"{serving.url}/health", timeout=10).status_code == 200
        postgresql_server.start()
        back = time.monotonic()
        forge.answered(100)
    assert {answer.status_code for _, _, answer in forge.answers} <= {200, 202, 503}
    late = [sent - back for sent, _, answer in forge.answers if answer.status_code == 503 and sent > back]
    assert late == []
    assert forge.accepted().items() <= stored(database).items()


def test_whoever_asks_a_server_that_is_away_is_told_within_the_patience(
    postgresql_server: PostgresqlServer, database: str
) -> None:
    store = open_postgresql(database)
    postgresql_server.stop()
    try:
        for verb in (store.ping, store.history, lambda: store.claim("w1", lease=1, environments=())):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="cannot use the database test_"):
                verb()
            assert time.monotonic() - began < PATIENCE + 2
    finally:
        postgresql_server.start()
    store.ping()
    assert store.history() == []
    store.close()


def test_a_deployment_outlives_a_restart_of_the_server(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    url = postgresql_server.database()
    site = Site(tmp_path, extra='build: ["sleep 2"]', database=url)
    commit = site.push({"VERSION": "1"})
    with site.working():
        requested = site.request(commit=commit, ref="main").deployment
        site.waits_in(requested.id, "build")
        postgresql_server.restart()
        assert site.ended(requested.id)["status"] == "success"
    assert site.fraisier.store.deployment(requested.id)["attempts"] == 1
    site.fraisier.store.close()
    postgresql_server.drop(url)


def test_what_nobody_was_woken_for_is_found_by_the_slow_poll(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    url = postgresql_server.database()
    site = Site(tmp_path, database=url)
    first, second = site.push({"VERSION": "1"}), site.push({"VERSION": "2"})
    with site.working():
        site.deploy(commit=first, ref="main")
        with psycopg.connect(url, autocommit=True) as connection:  # no NOTIFY
            row = connection.execute(
                """
                INSERT INTO tb_deployments (id, fraise, environment, ref, "commit", status, trigger, requested_by,
                                            requested_at)
                VALUES (gen_random_uuid(), 'shop', 'production', 'refs/heads/main', %s, 'pending', 'manual', 'bob',
                        clock_timestamp()) RETURNING id::text
                """,
                (second,),
            ).fetchone()
        assert row is not None
        assert site.ended(row[0], worker.SLOW_POLL + 20)["status"] == "success"
    site.fraisier.store.close()
    postgresql_server.drop(url)


def fraisier(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fraisier", "--config", str(config), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_works_on_it_and_says_what_is_wrong(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    url = postgresql_server.database().replace("postgres@", "postgres:hunter2@")
    site = Site(tmp_path, database=url)
    site.fraisier.store.close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    findings = json.loads(fraisier(site.config, "doctor", "--json", "--offline").stdout)
    (found,) = [each for each in findings if each["check"] == "database"]
    assert found["verdict"] == "ok"
    assert found["message"].endswith("can be written")
    requested = fraisier(site.config, "deploy", "shop", "production", "--ref", "main", "--no-wait")
    assert requested.returncode == 4  # no worker lives
    history = json.loads(fraisier(site.config, "history", "--json").stdout)
    assert [row["status"] for row in history] == ["pending"]
    if os.geteuid() == 0:
        os.chown(tmp_path / "state", 65534, 65534)  # nobody's
        stranger = fraisier(site.config, "history")
        assert stranger.returncode == 2
        assert "sudo -u nobody" in stranger.stderr
        os.chown(tmp_path / "state", 0, 0)
    postgresql_server.drop(url.replace(":hunter2", ""))
    gone = fraisier(site.config, "history")
    assert gone.returncode == 4
    assert "cannot use the database" in gone.stderr
    for said in (str(findings), requested.stdout, requested.stderr, gone.stderr):
        assert "hunter2" not in said
        assert "Traceback" not in said
