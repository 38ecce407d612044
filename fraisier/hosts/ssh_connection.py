"""One shared connection to a host (ControlMaster), over which sessions are opened, and its pulse.

The first session is the pulse: we send it a sign every few seconds. Where none arrives for 15 s, because we
were killed or paused or the network is parted, it ends on the host all that belongs to this connection.
"""

from __future__ import annotations

import atexit
import base64
import os
import secrets
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fraisier.application.settings import HostOptions
from fraisier.domain.errors import Cause, HostUnreachable
from fraisier.hosts.ssh_client import CONNECT_TIMEOUT, environment, ssh, unreachable
from fraisier.hosts.ssh_words import session_command

BEAT = 4.0  # seconds between two signs of life
SILENCE = 15  # seconds without one, after which the host ends what belongs to the connection
IDLE = 60.0  # seconds after which a connection that nobody uses is closed
_GREETING = CONNECT_TIMEOUT + 20.0  # seconds until the host has to have answered, login scripts included
_MOST = 1 << 16  # bytes of errors


@dataclass(frozen=True, slots=True)
class Facts:
    """What a host told of itself."""

    uid: int
    user: str
    home: str
    path: str
    lang: str
    has_systemd: bool
    has_user_manager: bool
    boot: str
    nice: str
    lacks: str

    @property
    def is_root(self) -> bool:
        """Whether we are root there."""
        return self.uid == 0


class Session:
    """The client's side of one session: a process of ours whose pipes end on the host."""

    def __init__(self, argv: Sequence[str], *, heard: bool) -> None:
        """`heard`: somebody reads `errors` as they come; else they are kept for `said`."""
        kept = None if heard else os.fdopen(os.memfd_create("ssh-errors"), "w+b", buffering=0)
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=kept or subprocess.PIPE,
            env=environment(),
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )
        errors = kept or self.process.stderr
        assert errors is not None  # noqa: S101 one of the two
        self.errors: IO[bytes] = errors

    @property
    def stdin(self) -> IO[bytes]:
        """Where what we write arrives at the host."""
        assert self.process.stdin is not None  # noqa: S101 given as PIPE
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """What the host's side writes."""
        assert self.process.stdout is not None  # noqa: S101 given as PIPE
        return self.process.stdout

    def said(self) -> str:
        """What was written to stderr so far."""
        return os.pread(self.errors.fileno(), _MOST, 0).decode("utf-8", "replace")

    def send(self, data: bytes) -> bool:
        """Whether the client took it; False: it has ended."""
        view = memoryview(data)
        try:
            while view:
                view = view[self.stdin.write(view) or 0 :]
        except (BrokenPipeError, ValueError):
            return False
        return True

    def close(self) -> None:
        """End the client. The host sees the end of its input, and ends what is there by itself."""
        with suppress(OSError):
            self.stdin.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.stdout.close()
        self.errors.close()


class Connection:
    """A connection that is up. Any number of threads may open sessions on it."""

    def __init__(self, host: str, options: HostOptions) -> None:
        """Connect.

        Raises:
            HostUnreachable: with what the client said, and what to do.
        """
        self.host, self.options = host, options
        self.nonce = secrets.token_hex(8)
        self._control = str(_control_folder() / self.nonce)
        self._users = 0
        self._idle_since = time.monotonic()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        pulse = session_command(self.nonce, ("pulse", str(SILENCE)))
        self._master = _started(host, (*ssh(host, options, self._control, "-M"), pulse))
        try:
            self.facts = _facts(self._greeting())
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)
        threading.Thread(target=self._beat, name=f"ssh {host}", daemon=True).start()

    @property
    def is_up(self) -> bool:
        """Whether sessions can be opened, as far as we know.

        Without its socket ssh would connect anew for each session, and no pulse would watch over them.
        """
        is_alive = not self._closed.is_set() and self._master.process.poll() is None
        return is_alive and Path(self._control).exists()

    def open(self, *function: str, heard: bool = False) -> Session:
        """A session that runs a function of our scripts on the host, fed with what we write."""
        command = session_command(self.nonce, ("fed_to", *function))
        return _started(self.host, (*self.command(), command), heard=heard)

    @contextmanager
    def forwarded(self, path: str) -> Iterator[str]:
        """A unix socket of ours that leads, while this is entered, to the one at `path` on the host.

        Raises:
            HostUnreachable: the connection does not take it.
        """
        near = str(_control_folder() / secrets.token_hex(8))
        where = ("-L", f"{near}:{path}")
        done = self._ask_master("forward", where)
        if done.returncode != 0:
            raise self.lost(done.stderr.decode("utf-8", "replace"))
        try:
            yield near
        finally:
            self._ask_master("cancel", where)
            Path(near).unlink(missing_ok=True)

    def _ask_master(self, what: str, where: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
        argv = self.command("-O", what, *where)
        return subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, env=environment(), check=False, timeout=20
        )

    def command(self, *more: str) -> tuple[str, ...]:
        """The client's command line on this connection, with more options."""
        return ssh(self.host, self.options, self._control, *more)

    def said(self) -> str:
        """What the connection's own client wrote to stderr."""
        return "" if self._closed.is_set() else self._master.said()

    def lost(self, said: str = "") -> HostUnreachable:
        """The failure of a session that ended before its time."""
        return unreachable(self.host, self.options, said or self.said(), "the connection was lost")

    def use(self, users: int) -> None:
        """Count somebody in (1) or out (-1), or (0) as about to come: who is idle for long is closed."""
        with self._lock:
            self._users += users
            self._idle_since = time.monotonic()

    def close(self) -> None:
        """End the connection. What is still open on it is ended by the host."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        atexit.unregister(self.close)
        self._master.close()
        Path(self._control).unlink(missing_ok=True)

    def _greeting(self) -> bytes:
        wanted, until, said = f"{self.nonce} ".encode(), time.monotonic() + _GREETING, bytearray()
        while True:
            # A login script may print whatever it likes before.
            lines = bytes(said).split(b"\n")
            found = next((line for line in lines[:-1] if line.startswith(wanted)), None)
            if found is not None:
                return found.removeprefix(wanted)
            rest = until - time.monotonic()
            data = b""
            if rest > 0 and select.select([self._master.stdout], [], [], rest)[0]:
                data = self._master.stdout.read(1 << 16) or b""
            if not data:
                self._master.process.poll()
                why = "it closed the connection" if rest > 0 else f"no answer within {_GREETING:g} s"
                raise unreachable(self.host, self.options, self._settled(), why)
            said += data

    def _settled(self) -> str:
        """What the client said by the time that it has ended, which is about now."""
        with suppress(subprocess.TimeoutExpired):
            self._master.process.wait(1)
        return self._master.said()

    def _beat(self) -> None:
        while not self._closed.wait(BEAT) and self._master.send(b"."):
            with self._lock:
                idle = not self._users and time.monotonic() - self._idle_since > IDLE
            if idle:
                break
        self.close()


def _started(host: str, argv: Sequence[str], *, heard: bool = False) -> Session:
    try:
        return Session(argv, heard=heard)
    except FileNotFoundError as error:
        message = f"cannot reach host {host}: there is no OpenSSH client here"
        raise HostUnreachable(Cause.host, message, "sudo apt-get install openssh-client") from error


def _facts(encoded: bytes) -> Facts:
    fields = base64.b64decode(encoded).decode("utf-8", "surrogateescape").split("\n")
    uid, user, home, path, lang, systemd, manager, boot, nice, lacks = fields[:10]
    return Facts(int(uid), user, home, path, lang, bool(systemd), bool(manager), boot, nice, lacks.strip())


def _control_folder() -> Path:
    """Where control sockets lie: a folder of ours alone, with a short name: a socket's has 108 bytes.

    Not below /run/user, which goes when the user's last login ends, while a service of theirs goes on.
    """
    uid = os.geteuid()
    folder = Path(tempfile.gettempdir()) / f"fraisier-ssh-{uid}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != uid or found.st_mode & 0o077:
        message = f"cannot use {folder} for connections: it is not ours alone"
        raise HostUnreachable(Cause.host, message, f"Remove it: sudo rm -r {folder}")
    return folder
