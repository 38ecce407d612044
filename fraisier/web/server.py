"""`fraisier serve`: listen, answer, reload, stop."""

from __future__ import annotations

import asyncio
import errno
import gc
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import uvicorn
import uvloop

from fraisier.application.ports import Configuration, Settings
from fraisier.domain.errors import FraisierError, Unreachable
from fraisier.web.app import App
from fraisier.web.protocol import Bounds, Connection, Doorkeeper

_FILES_KEPT = 200  # file descriptors for the store, git, and what deployments open
_GRACE = 10  # seconds for requests in flight when the server stops

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What happens around serving.

    `started` gets the addresses once they are listened on. `reload` reads the configuration again and raises
    FraisierError if it cannot be used; it may block. `stopping` is called when no request is left.
    """

    reload: Callable[[], Configuration]
    started: Callable[[Sequence[str]], None] = lambda _: None
    stopping: Callable[[], None] = lambda: None


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host`.

    Raises:
        Unreachable: the port is in use, or not ours to use, or there is no such host.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            bound.append(_bind(socket.socket(family, kind, protocol), address))
    except OSError as error:
        for each in bound:
            each.close()
        hint = (
            "Is another Fraisier running? Choose another port with --port, or server.port"
            if error.errno in (errno.EADDRINUSE, errno.EACCES)
            else "Name an address of this machine with --host, or server.host"
        )
        raise Unreachable(f"cannot listen on {host}:{port}: {error.strerror or error}", hint) from error
    return bound


def _bind(listening: socket.socket, address: Any) -> socket.socket:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening


def addresses(sockets: Sequence[socket.socket]) -> list[str]:
    """`http://host:port` of each socket."""
    names = [each.getsockname() for each in sockets]
    return [f"http://[{n[0]}]:{n[1]}" if ":" in n[0] else f"http://{n[0]}:{n[1]}" for n in names]


def serve(app: App, sockets: Sequence[socket.socket], hooks: Hooks) -> None:
    """Answer requests until SIGTERM or SIGINT; SIGHUP reloads. Call it in the main thread.

    Requests that are being answered are finished first, for at most 10 seconds.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, sockets, hooks))


async def _serve(app: App, sockets: Sequence[socket.socket], hooks: Hooks) -> None:
    server = build_server(app, bounds_of(app.settings), lambda: hooks.started(addresses(sockets)))
    reloading = _Reloading(app, hooks.reload)
    with _signals(server, reloading):
        try:
            await server.serve(list(sockets))
        finally:
            await asyncio.to_thread(hooks.stopping)


def bounds_of(settings: Settings) -> Bounds:
    """What a connection may cost with these settings and the file descriptors that we may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = Bounds().connections
    if soft != resource.RLIM_INFINITY:
        most = max(16, min(most, soft - _FILES_KEPT))
    return Bounds(connections=most, silence=settings.body_timeout, discarded=2 * settings.max_body)


def build_server(app: Any, bounds: Bounds, started: Callable[[], None]) -> uvicorn.Server:
    """uvicorn with our bounds and without what the hot path does not need."""
    doorkeeper = Doorkeeper(bounds)
    config = uvicorn.Config(
        app,
        http=partial(Connection, doorkeeper),  # type: ignore[arg-type] # any callable that makes protocols
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
    )
    return _Server(config, started)


class _Server(uvicorn.Server):
    """uvicorn's server; signals are ours, and its start is told."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What was made so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        self._tell_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Reloading:
    """Reads the configuration again, one time after another, and swaps it in whole or not at all."""

    def __init__(self, app: App, load: Callable[[], Configuration]) -> None:
        self._app = app
        self._load = load
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        async with self._lock:
            try:
                configuration = await asyncio.to_thread(self._load)
            except FraisierError as error:
                _log.error("configuration not reloaded", error=str(error))
                self._app.keep_configuration(str(error))
            else:
                self._app.reconfigure(configuration)
                _log.info("configuration reloaded", digest=configuration.digest)


@contextmanager
def _signals(server: uvicorn.Server, reload: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.force_exit = server.should_exit  # asked twice: do not wait for anyone
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
