"""A small web service, of the standard library alone, that the end-to-end tests and `make bench` deploy.

It listens where it is told: on descriptor 3 (socket activation), $FRAISIER_SOCKET or $PORT. It answers GET
and POST with its version over keep-alive connections, `/slow/SECONDS` late, and `/ws` as a WebSocket that
tells its version again and again. SIGTERM: it accepts nobody any more, answers everybody whom it accepted,
then exits. A connection that was answered before is closed only when it has been idle for a moment, because
whoever sends just when it is closed is reset.
The file VERSION says who it is: one that begins with `sick` is not healthy, `late` until it has served some
requests only, `dead` exits at once, `mute` never listens, `stubborn` hears no SIGTERM.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

VERSION = Path("VERSION").read_text().strip()
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
FIRST = 5.0  # seconds that a new connection has to ask something, once the service is to stop
LINGER = 0.15  # seconds that one which was answered before has
_OPEN: set[asyncio.StreamWriter] = set()
_IDLE: dict[asyncio.StreamWriter, float] = {}  # how long each may be idle once the service is to stop
_ENDING = asyncio.Event()
_served = 0  # requests of customers


def _is_healthy() -> bool:
    if VERSION.startswith("late"):
        return _served < 50
    return not VERSION.startswith("sick")


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    _OPEN.add(writer)
    _IDLE[writer] = FIRST
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            _IDLE.pop(writer, None)
            lines = head.decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            path = lines[0].split(" ")[1]
            if fields.get("upgrade") == "websocket":
                key = next(
                    line.split(": ", 1)[1] for line in lines if line.lower().startswith("sec-websocket-key")
                )
                await _websocket(writer, key.strip())
                return
            close = fields.get("connection") == "close" or _ENDING.is_set()
            writer.write(await _answer(path, body, close=close))
            await writer.drain()
            if close:
                return
            _IDLE[writer] = LINGER
    except (OSError, asyncio.IncompleteReadError):
        return
    finally:
        _OPEN.discard(writer)
        _IDLE.pop(writer, None)
        writer.close()


async def _answer(path: str, body: bytes, *, close: bool) -> bytes:
    global _served  # noqa: PLW0603 - one process is one service
    _served += path != "/health"
    if path.startswith("/slow/"):
        await asyncio.sleep(float(path.rpartition("/")[2]))
    status = "200 OK" if path != "/health" or _is_healthy() else "503 Service Unavailable"
    text = f"{VERSION} {len(body)} {hashlib.sha256(body).hexdigest()[:8] if body else '-'}\n".encode()
    connection = "close" if close or _ENDING.is_set() else "keep-alive"
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: {connection}\r\n\r\n"
    return head.encode() + text


async def _websocket(writer: asyncio.StreamWriter, key: str) -> None:
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    while not _ENDING.is_set():
        text = VERSION.encode()
        writer.write(bytes((0x81, len(text))) + text)
        await writer.drain()
        try:
            await asyncio.wait_for(_ENDING.wait(), 0.1)
        except TimeoutError:
            continue
    writer.write(bytes((0x88, 2)) + (1001).to_bytes(2, "big"))  # going away
    await writer.drain()


def _listening() -> socket.socket:
    if os.environ.get("LISTEN_FDS"):
        return socket.socket(fileno=3)
    path = os.environ.get("FRAISIER_SOCKET")
    if path:
        Path(path).unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX)
        made.bind(path)
        Path(path).chmod(0o666)
    else:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", int(os.environ["PORT"])))
    made.listen(4096)
    return made


async def _main() -> None:
    if VERSION.startswith("dead"):
        sys.exit(3)
    loop = asyncio.get_running_loop()
    if not VERSION.startswith("stubborn"):
        loop.add_signal_handler(signal.SIGTERM, _ENDING.set)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if VERSION.startswith("mute"):
        await _ENDING.wait()
        return
    while os.path.exists("/srv/hold/start"):  # noqa: PTH110 - a test keeps it waiting
        await asyncio.sleep(0.02)
    listening = _listening()
    start = asyncio.start_unix_server if listening.family == socket.AF_UNIX else asyncio.start_server
    server = await start(_serve, sock=listening, backlog=4096)
    await _ENDING.wait()
    server.close()
    began = time.monotonic()
    late: list[asyncio.StreamWriter] = []
    while True:
        # In between everything that has arrived is read: whoever has asked by now is idle no more.
        for _ in range(3):
            await asyncio.sleep(0)
        for writer in late:
            if writer in _IDLE:
                writer.close()
        await asyncio.sleep(0.01)
        if not _OPEN:
            return
        passed = time.monotonic() - began
        late = [writer for writer, most in _IDLE.items() if passed > most]


if __name__ == "__main__":
    asyncio.run(_main())
