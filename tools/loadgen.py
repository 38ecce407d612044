"""A cheap HTTP load generator: one process, raw sockets on uvloop, one request at a time per connection.

It shares the machine's processors with what it measures, so it does as little as possible: requests are
bytes made before the clock starts, and of an answer it reads the status and waits for its end.

    python -m tools.loadgen PORT CONNECTIONS < requests      (each preceded by its length, 4 bytes)
"""

from __future__ import annotations

import asyncio
import gc
import json
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import cast

import uvloop


@dataclass(frozen=True)
class Result:
    """What one round measured. Times in seconds; `statuses` counts answers."""

    seconds: float
    requests: int
    p50: float
    p99: float
    worst: float
    statuses: dict[str, int]

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


class _Client(asyncio.Protocol):
    """One connection that sends the next request when the last is answered."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], statuses: dict[str, int]) -> None:
        self._requests = requests
        self._latencies = latencies
        self._statuses = statuses
        self._began = 0.0
        self._answer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def start(self) -> None:
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._answer:
            data = self._answer + data
        if not _is_whole(data):
            self._answer = data
            return
        self._latencies.append(time.perf_counter() - self._began)
        self._answer = b""
        status = data[9:12].decode()
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._next()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _is_whole(data: bytes) -> bool:
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = data.find(b"content-length: ")
    length = int(data[at + 16 : data.index(b"\r\n", at)])
    return len(data) >= head + 4 + length


async def run(port: int, connections: int, requests: Iterable[bytes], *, at_once: bool = False) -> Result:
    """Send all requests. `at_once`: connecting counts, too (one request on each new connection)."""
    loop = asyncio.get_running_loop()
    pending = iter(requests)
    latencies: list[float] = []
    statuses: dict[str, int] = {}

    async def connect() -> _Client:
        _, client = await loop.create_connection(
            lambda: _Client(pending, latencies, statuses), "127.0.0.1", port
        )
        if at_once:
            client.start()
        return client

    began = time.perf_counter()
    clients = await asyncio.gather(*(connect() for _ in range(connections)))
    if not at_once:
        began = time.perf_counter()
        for client in clients:
            client.start()
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - began
    latencies.sort()
    return Result(
        seconds=seconds,
        requests=len(latencies),
        p50=_quantile(latencies, 0.5),
        p99=_quantile(latencies, 0.99),
        worst=latencies[-1] if latencies else 0.0,
        statuses=statuses,
    )


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def packed(requests: Iterable[bytes]) -> bytes:
    """Requests as `main` reads them."""
    return b"".join(struct.pack("!I", len(request)) + request for request in requests)


def _unpacked(data: bytes) -> list[bytes]:
    requests, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("!I", data, at)
        requests.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return requests


def main() -> None:
    """Read requests from standard input, send them, print the result as JSON."""
    port, connections, at_once = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["--at-once"]
    requests = _unpacked(sys.stdin.buffer.read())
    gc.disable()
    print(json.dumps(asdict(uvloop.run(run(port, connections, requests, at_once=at_once)))))


if __name__ == "__main__":
    main()
