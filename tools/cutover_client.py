"""A client that counts every failure and never tries anything again: part of `make bench` and the tests.

It sends requests when they are due, whatever became of earlier ones: GET and POST, over connections that
are kept and over new ones. An answer has to be whole and say 200; it names the version that gave it. One
WebSocket stays open all the while: a close that the server announces ends it well, and a new one is opened.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields

LIMIT = 30.0  # seconds for an answer
BODY = b"x" * 3000


@dataclass
class Counts:
    """What happened. `latencies` are (when, seconds) by the monotonic clock; since it was due, not sent."""

    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    websockets: int = 0
    messages: int = 0
    cut: int = 0  # WebSockets that ended without a close frame

    @property
    def failures(self) -> int:
        """Requests without a whole and good answer."""
        return sum(self.failed.values())

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in found.items()}

    def quantile(self, share: float, begin: float = 0.0, end: float = float("inf")) -> float:
        """Milliseconds that so many of the requests stayed below."""
        found = sorted(took for at, took in self.latencies if begin <= at <= end)
        return found[min(len(found) - 1, int(len(found) * share))] * 1000 if found else 0.0


class Client:
    """Against one address; `host` is a path where it is a unix socket."""

    def __init__(self, host: str, port: int = 0) -> None:
        self._host, self._port = host, port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._running: set[asyncio.Task[None]] = set()
        self.counts = Counts()
        self.stopping = asyncio.Event()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(self._host)
        return await asyncio.open_connection(self._host, self._port)

    async def run(self, rate: float) -> None:
        """Send `rate` requests per second until `stopping` is set, then wait for the last answers."""
        websocket = asyncio.create_task(self._websocket())
        began, number = time.monotonic(), 0
        while not self.stopping.is_set():
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._request(number, due))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            number += 1
        while self._running:
            await asyncio.wait(self._running)
        websocket.cancel()
        await asyncio.gather(websocket, return_exceptions=True)
        for _, writer in self._idle:
            writer.close()

    async def _request(self, number: int, due: float) -> None:
        post, kept = number % 2 == 1, number % 4 < 2
        name = f"{'POST' if post else 'GET'} {'kept' if kept else 'new'}"
        self.counts.requests += 1
        try:
            version = await asyncio.wait_for(self._exchange(post=post, kept=kept), LIMIT)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            self.counts.failed[f"{name}: {type(error).__name__} {str(error)[:80]}"] += 1
            return
        self.counts.versions[version] += 1
        now = time.monotonic()
        self.counts.latencies.append((now, now - due))

    async def _exchange(self, *, post: bool, kept: bool) -> str:
        reader, writer = (kept and self._kept()) or await self._connect()
        try:
            body = BODY if post else b""
            method, connection = ("POST" if post else "GET"), ("keep-alive" if kept else "close")
            head = f"{method} / HTTP/1.1\r\nHost: orders.example.com\r\nConnection: {connection}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            version, reusable = await _read_answer(reader, body)
        except BaseException:
            writer.close()
            raise
        if kept and reusable:
            self._idle.append((reader, writer))
        else:
            writer.close()
        return version

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """One that the server has not closed meanwhile, as any client looks."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None

    async def _websocket(self) -> None:
        while not self.stopping.is_set():
            try:
                reader, writer = await self._connect()
                key = base64.b64encode(os.urandom(16)).decode()
                writer.write(
                    b"GET /ws HTTP/1.1\r\nHost: orders.example.com\r\n"
                    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key.encode() + b"\r\n\r\n"
                )
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LIMIT)
                if b" 101 " not in head.split(b"\r\n")[0]:
                    message = head.split(b"\r\n")[0].decode()
                    raise ConnectionError(message)
            except Exception as error:  # noqa: BLE001
                self.counts.failed[f"WebSocket: {type(error).__name__} {str(error)[:80]}"] += 1
                await asyncio.sleep(0.05)
                continue
            self.counts.websockets += 1
            if not await self._listen(reader):
                self.counts.cut += 1
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> bool:
        """Whether it ended with a close frame."""
        try:
            while True:
                first, length = await reader.readexactly(2)
                await reader.readexactly(length)
                if first == 0x88:
                    return True
                self.counts.messages += 1
        except (OSError, asyncio.IncompleteReadError):
            return False


async def _read_answer(reader: asyncio.StreamReader, body: bytes) -> tuple[str, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = head.split(" ")[1]
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    if fields.get("transfer-encoding") == "chunked":
        text = b""
        while size := int(await reader.readline(), 16):
            text += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        text = await reader.readexactly(int(fields["content-length"]))
    if status != "200":
        message = f"HTTP {status}"
        raise ConnectionError(message)
    version, length, digest = text.decode().split()
    if int(length) != len(body) or (body and digest != hashlib.sha256(body).hexdigest()[:8]):
        raise ConnectionError("the body did not arrive")
    return version, fields.get("connection") != "close"


async def _main(host: str, port: int, rate: float) -> None:
    """Until standard input ends; then print the counts as JSON."""
    client = Client(host, port)

    def stop() -> None:
        if not sys.stdin.buffer.read1(1):
            client.stopping.set()

    asyncio.get_running_loop().add_reader(sys.stdin, stop)
    await client.run(rate)
    print(json.dumps(client.counts.document()))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
