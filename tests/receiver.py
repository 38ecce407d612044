"""The receiver as tests use it: the real application over plain ASGI, or behind a real uvicorn on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvloop

from fraisier.application.ports import (
    Configuration,
    Delivery,
    ForgeInstance,
    Received,
    Settings,
)
from fraisier.application.ports.store import Row
from fraisier.application.receive_push import ReceivePush
from fraisier.cli.serving import recorder
from fraisier.database.sqlite import SqliteStore, open_sqlite
from fraisier.domain.deployment import Deployment, Status
from fraisier.domain.fraise import Environment, EnvironmentKey, Fraise
from fraisier.domain.push import EventKind
from fraisier.git.detect import find_forge
from fraisier.web.app import App, Parts
from fraisier.web.server import addresses, bounds_of, build_server, listen
from tests import factories
from tests.unit.signing import KINDS, SECRET, SignedDelivery, forges

INSTANCES = tuple(ForgeInstance(name=kind, kind=kind, secrets=(SECRET,)) for kind in KINDS)


class SystemClock:
    """The real time."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class RecordingStore:
    """As much of a store as the receiver uses; remembers what it was given."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.workers: list[dict[str, Any]] = [{"id": "worker", "info": {}}]
        self.waiting: list[dict[str, Any]] = []
        self.environments: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    async def record(self, delivery: Delivery) -> Received:
        while not self.may_answer.is_set():
            await asyncio.sleep(0.005)
        if self.failure is not None:
            raise self.failure
        self.deliveries.append(delivery)
        deployments = tuple(_deployment(wish.environment, wish.ref, wish.commit) for wish in delivery.wishes)
        status = "accepted" if deployments else "ignored"
        if delivery.push.kind is EventKind.ping:
            status = "pong"
        return Received(
            event_id=str(uuid.uuid4()), status=status, reason=delivery.reason, deployments=deployments
        )

    def ping(self) -> None:
        if self.failure is not None:
            raise self.failure

    def live_workers(self) -> list[dict[str, Any]]:
        return self.workers

    def unfinished(self) -> list[dict[str, Any]]:
        return self.waiting

    def fraise_status(self) -> list[dict[str, Any]]:
        return self.environments

    def counts(self) -> Mapping[str, int]:
        of_runs = {"runs.failed": 3, "alerts.raised": 4}
        return {"deployments.pending": 2, "deployments.success": 5, "events.accepted": 7, **of_runs}

    def alerts(self) -> Sequence[Row]:
        return [{"fraise_id": "orders", "environment": "production", "job": "load", "kind": "missed"}]


def _deployment(key: EnvironmentKey, ref: str, commit: str) -> Deployment:
    wish = factories.wish(commit, environment=key, ref=ref)
    return Deployment(
        id=str(uuid.uuid4()),
        environment=key,
        ref=ref,
        commit=commit,
        status=Status.pending,
        trigger=wish.trigger,
        requested_by="",
        requested_at=0.0,
    )


def configuration(*environments: Environment, **settings: Any) -> Configuration:
    """A configuration with these environments and, unless told otherwise, all five forges."""
    found = environments or tuple(
        factories.environment(fraise=kind, source=factories.source(forge=kind)) for kind in KINDS
    )
    routes = settings.pop("routes", {})
    by_fraise: dict[str, list[Environment]] = {}
    for each in found:
        by_fraise.setdefault(each.fraise, []).append(each)
    fraises: dict[str, Fraise] = {name: factories.fraise(*own) for name, own in by_fraise.items()}
    wanted = {"database_url": "sqlite:///unused", "state_folder": "/unused", "forges": INSTANCES} | settings
    return Configuration(
        path="fraises.yaml",
        digest="1",
        settings=Settings(**wanted),
        fraises=fraises,
        environments={each.key: each for each in found},
        routes=routes,
    )


def receive_push(config: Configuration, store: Any = None) -> ReceivePush:
    """The verb with the real forges."""
    record: Any = (store or RecordingStore()).record
    return ReceivePush(config, forges=forges(), find_forge=find_forge, record=record, clock=SystemClock())


def application(config: Configuration | None = None, store: Any = None) -> App:
    """The whole application."""
    found = store or RecordingStore()
    verb = receive_push(config or configuration(), found)
    return App(Parts(receive_push=verb, forges=forges(), store=found))


def call(app: App, method: str, path: str, *, client: str = "127.0.0.1", **request: Any) -> httpx.Response:
    """One request over plain ASGI, from an event loop of its own."""

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(client, 1234), raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as caller:
            return await caller.request(method, path, **request)

    return asyncio.run(go())


def deliver(app: App, delivery: SignedDelivery, path: str = "/webhook", **request: Any) -> httpx.Response:
    """Post a signed delivery over plain ASGI."""
    return call(app, "POST", path, content=delivery.body, headers=dict(delivery.headers), **request)


@dataclass
class Running:
    """A server on a free port of the loopback."""

    url: str
    port: int
    app: App
    _clients: list[socket.socket] = field(default_factory=list)

    def connect(self, timeout: float = 10.0) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout)
        self._clients.append(client)
        return client

    def exchange(self, *parts: bytes) -> Answer:
        """Send raw bytes on a new connection; read until the server closes or the answer is whole."""
        client = self.connect()
        for part in parts:
            client.sendall(part)
        return read_answer(client)

    def keep_open(self) -> None:
        """Leave the clients connected when the server stops."""
        self._clients.clear()

    def close(self) -> None:
        for client in self._clients:
            client.close()


@dataclass(frozen=True)
class Answer:
    """What came back; status 0: the connection was closed without an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(client: socket.socket) -> Answer:
    """One answer from a socket."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            if not (chunk := client.recv(65536)):
                return Answer(0, {}, data)
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        while len(body) < int(headers.get("content-length", 0)) and (chunk := client.recv(65536)):
            body += chunk
    except ConnectionResetError:
        return Answer(0, {}, data)
    return Answer(int(lines[0].split()[1]), headers, body)


@contextmanager
def running(app: App, **bounds: Any) -> Iterator[Running]:
    """Serve in a thread. `bounds` replace what the settings say, for tests that would wait too long."""
    sockets = listen("127.0.0.1", 0)
    started = threading.Event()
    server = build_server(app, replace(bounds_of(app.settings), **bounds), started.set)
    thread = threading.Thread(target=uvloop.run, args=(server.serve(sockets),), daemon=True)
    thread.start()
    assert started.wait(10), "the server did not start"
    url = addresses(sockets)[0]
    served = Running(url, int(url.rpartition(":")[2]), app)
    try:
        yield served
    finally:
        served.close()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def wait_for(condition: Any, timeout: float = 10.0) -> None:
    """Return when `condition()` holds; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@dataclass
class Station:
    """A served receiver with a real database, for one forge's deliveries."""

    served: Running
    store: SqliteStore

    def post(self, delivery: SignedDelivery, path: str = "/webhook") -> httpx.Response:
        """Deliver over a real connection."""
        url = f"{self.served.url}{path}"
        return httpx.post(url, content=delivery.body, headers=dict(delivery.headers), timeout=30)

    def verdicts(self) -> list[str]:
        """What became of every stored event, newest first."""
        return [row["verdict"] for row in self.store.events(limit=1000)]

    def deployments(self) -> list[tuple[str, str, str]]:
        """Environment, commit and status of every deployment, newest first."""
        rows = self.store.history(limit=1000)
        return [(row["environment"], row["commit"], row["status"]) for row in rows]


@contextmanager
def station(folder: Path, config: Configuration) -> Iterator[Station]:
    """Serve the receiver on a database in `folder`, with `config` published."""
    store = open_sqlite(f"sqlite://{folder}/fraisier.db", state_folder=str(folder / "state"))
    store.publish(list(config.fraises.values()), digest=config.digest, documents=config.documents)

    class Recording:
        record = staticmethod(recorder(store))

    verb = receive_push(config, Recording())
    app = App(Parts(receive_push=verb, forges=forges(), store=store))
    try:
        with running(app) as served:
            yield Station(served, store)
    finally:
        store.close()
