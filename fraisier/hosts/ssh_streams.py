"""Files in and out of a host as tar streams, and connections from a host to a port."""

from __future__ import annotations

import base64
import errno
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from fraisier.application.ports import Job
from fraisier.domain.errors import Cause, HostUnreachable, StepFailed
from fraisier.hosts.archives import EMPTY
from fraisier.hosts.failures import cause_of
from fraisier.hosts.ssh_client import environment
from fraisier.hosts.ssh_connection import Connection, Session

_LOOK = 0.1  # seconds between two looks at `job.stop`
_CHUNK = 1 << 18
_CONFIRMED = b"master session id"  # ssh -v: the shared connection has opened the channel
_REFUSED = "Connection refused"


@dataclass(slots=True)
class Stream:
    """tar on a host, as a user, at one end of a session."""

    connection: Connection
    session: Session
    doing: str
    job: Job

    @classmethod
    def open(
        cls, connection: Connection, who: tuple[str, str], tar: Sequence[str], doing: str, job: Job
    ) -> Stream:
        """Start tar there."""
        session = connection.open("stream", *who, "tar", *tar)
        os.set_blocking(session.stdin.fileno(), False)
        return cls(connection, session, doing, job)

    def close(self) -> None:
        """End it."""
        self.session.close()

    def feed(self, archive: Iterator[bytes]) -> None:
        """Hand everything over, to its end even where tar has seen enough: git's exit code is last."""
        open_ = True
        for chunk in archive:
            self._check()
            open_ = open_ and self._sent(chunk)
            if not open_ and self._code() not in (None, 0):
                break
        with suppress(OSError):
            self.session.stdin.close()

    def _sent(self, chunk: bytes) -> bool:
        rest = memoryview(chunk)
        pipe = self.session.stdin.fileno()
        while rest:
            self._check()
            if self._code() is not None:
                return False
            if not select.select([], [pipe], [], _LOOK)[1]:
                continue
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def read(self) -> Iterator[bytes]:
        """What tar writes, to its end."""
        with suppress(OSError):
            self.session.stdin.close()
        pipe = self.session.stdout.fileno()
        while True:
            self._check()
            if not select.select([pipe], [], [], _LOOK)[0]:
                continue
            data = os.read(pipe, _CHUNK)
            if not data:
                return
            yield data

    def finish(self) -> None:
        """Return when tar has done everything.

        Raises:
            StepFailed: disk or host with what it said; cancelled.
            HostUnreachable: the connection was lost.
        """
        while self._code() is None and self.session.process.poll() is None:
            self._check()
            time.sleep(0.02)
        code = self._code()
        if code is None:
            raise self.connection.lost(self.session.said())
        if code != 0:
            said = self._told().partition(" ")[2].strip() or f"tar exited with {code}"
            raise StepFailed(cause_of(said), f"cannot {self.doing} on {self.connection.host}: {said[:2000]}")

    def _code(self) -> int | None:
        told = self._told()
        return int(told.partition(" ")[0]) if told else None

    def _told(self) -> str:
        start = f"{self.connection.nonce} ended "
        lines = [line for line in self.session.said().split("\n")[:-1] if line.startswith(start)]
        return base64.b64decode(lines[0].removeprefix(start)).decode("utf-8", "replace") if lines else ""

    def _check(self) -> None:
        if self.job.stop.is_set():
            raise StepFailed(Cause.cancelled, f"cannot {self.doing}: it was cancelled")


def unpack(
    connection: Connection, who: tuple[str, str], folder: str, archive: Iterator[bytes], job: Job
) -> None:
    """Write a tar stream into a folder of the host as a user; see `Host.unpack`."""
    words = ("--extract", "--file=-", "--no-same-owner", f"--directory={folder}")
    with closing(Stream.open(connection, who, words, f"unpack the commit into {folder}", job)) as stream:
        stream.feed(archive)
        stream.finish()


def pack(
    connection: Connection, who: tuple[str, str], folder: str, words: Sequence[str], job: Job
) -> Iterator[bytes]:
    """What a folder of the host holds as a tar stream; `words` are those of `pack_words`."""
    if not words:
        yield EMPTY
        return
    with closing(Stream.open(connection, who, words, f"pack {folder}", job)) as stream:
        yield from stream.read()
        stream.finish()


def connect_unix(connection: Connection, path: str, timeout: float) -> socket.socket:
    """A connection to a unix socket on the connection's host, through one of ours that is forwarded there.

    Raises:
        OSError: nobody listens there, or not for us.
        StepFailed: host, where its sshd forbids forwarding.
        HostUnreachable: the connection to the host itself was lost.
    """
    before = len(connection.said())
    with connection.forwarded(path) as near:
        found = socket.socket(socket.AF_UNIX)
        try:
            found.settimeout(timeout)
            found.connect(near)
            _see_whether_it_lasts(found, connection, before, timeout, path)
        except BaseException:
            found.close()
            raise
    return found


def _see_whether_it_lasts(
    found: socket.socket, connection: Connection, before: int, timeout: float, path: str
) -> None:
    """ssh accepts first and asks the host then: what cannot be opened there is closed at once here.

    The host has answered by the time that it has answered another question after this one: whether we may
    write to the socket, which who connects has to (unix(7)). sshd does not say.
    """
    asked = connection.open("test", "!", "-e", path, "-o", "-w", path)
    try:
        asked.stdin.close()
        answered = asked.process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        asked.close()
    if select.select([found], [], [], 0)[0] and found.recv(1, socket.MSG_PEEK) == b"":
        if answered == 1:
            raise PermissionError(errno.EACCES, "the user there may not write to it")
        raise _refused(connection, "", before)


def connect(connection: Connection, host: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection from the connection's host to `host` and `port`, as they are named there.

    Raises:
        OSError: refused, unreachable, or TimeoutError, as a connection from here would raise.
        StepFailed: host, where its sshd forbids forwarding.
        HostUnreachable: the connection to the host itself was lost.
    """
    before = len(connection.said())
    ours, theirs = socket.socketpair()
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        process = subprocess.Popen(
            connection.command("-v", "-W", shown),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            env=environment(),
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise StepFailed(Cause.host, f"cannot start ssh: {error}") from error
    finally:
        theirs.close()
    found = _Forwarded(ours, process)
    try:
        _confirm(found, connection, time.monotonic() + timeout, before)
    except BaseException:
        found.close()
        raise
    return found


class _Forwarded(socket.socket):
    """Our end of the forwarded connection; closing it ends the process at the other end."""

    def __init__(self, ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
        super().__init__(ours.family, ours.type, ours.proto, fileno=ours.detach())
        self.process = process

    def detach(self) -> int:
        """Give the descriptor away, as TLS does with what it wraps: the process ends with that."""
        threading.Thread(target=self._reap, daemon=True).start()
        return super().detach()

    def _reap(self) -> None:
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _real_close(self) -> None:  # what close() comes to, once no file of it is open any more
        super()._real_close()  # type: ignore[misc]
        if self.process.poll() is None:
            self.process.kill()
        self._reap()


def _confirm(found: _Forwarded, connection: Connection, until: float, before: int) -> None:
    errors, said = found.process.stderr, b""
    assert errors is not None  # noqa: S101 given as PIPE
    while _CONFIRMED not in said:
        rest = until - time.monotonic()
        if rest <= 0 or not select.select([errors], [], [], rest)[0]:
            raise TimeoutError
        data = os.read(errors.fileno(), _CHUNK)
        if not data:
            raise _refused(connection, said.decode("utf-8", "replace"), before)
        said += data


def _refused(connection: Connection, said: str, before: int) -> Exception:
    """Why there is no connection: the shared connection's own client says it, not the one that we started."""
    if not connection.is_up:
        lost: HostUnreachable = connection.lost()
        return lost
    why = connection.said()[before:] + said
    if "administratively prohibited" in why:
        message = f"cannot look at a port of {connection.host}: its sshd forbids forwarding"
        hint = "Set `AllowTcpForwarding local` there, or use `health_check: {command: …}`"
        return StepFailed(Cause.host, message, hint)
    if "Name or service not known" in why or "resolution" in why:
        return socket.gaierror(socket.EAI_NONAME, "the name cannot be resolved")
    if "timed out" in why:
        return TimeoutError()
    return ConnectionRefusedError(111, _REFUSED)
