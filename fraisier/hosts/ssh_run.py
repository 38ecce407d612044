"""A long command on a host, followed from here. What steers and ends it there is `runner` in ssh_scripts/."""

from __future__ import annotations

import base64
import os
import select
import time
from dataclasses import dataclass, field
from threading import Event

from fraisier.application.ports import Job
from fraisier.domain.errors import Cause, FraisierError, HostUnreachable, StepFailed
from fraisier.hosts.launch import START_LIMIT, Outcome
from fraisier.hosts.scopes import GRACE, LIMIT
from fraisier.hosts.ssh_connection import Connection, Session
from fraisier.hosts.ssh_words import request

_LOOK = 0.1  # seconds between two looks at `job.stop`
_CHUNK = 1 << 16  # bytes
_DRAIN = 5.0  # seconds for output that is still on its way when the command has ended
_ENDING = GRACE + LIMIT + 8.0  # seconds
_MOST_SAID = 1 << 16


class NotStarted(Exception):
    """The host's side refused: `code` as in ssh_scripts/common.sh, and what it said."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code, self.said = code, said


@dataclass(slots=True)
class _Heard:
    """What came on the errors' side: words for us, and whatever ssh and the host's tools said."""

    nonce: bytes
    rest: bytes = b""
    said: bytes = b""
    word: str = ""
    value: str = ""
    open: set[int] = field(default_factory=set)

    def take(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.startswith(self.nonce + b" ") and self.word != "lost":
                word, _, value = line.removeprefix(self.nonce + b" ").partition(b" ")
                self.word, self.value = word.decode(), base64.b64decode(value).decode("utf-8", "replace")
            elif len(self.said) < _MOST_SAID:
                self.said += line + b"\n"


class Running:
    """One command on its way. Close it, whatever happens: the host's side ends with us."""

    def __init__(self, connection: Connection, words: tuple[str, ...], cookie: str) -> None:
        self._connection = connection
        self._cookie = cookie
        self._session: Session = connection.open("runner", heard=True)
        self._heard = _Heard(connection.nonce.encode())
        self._out, self._err = self._session.stdout.fileno(), self._session.errors.fileno()
        self._heard.open = {self._out, self._err}
        connection.use(1)
        self._session.send(request(words))

    def wait_until_ready(self, job: Job, halt: Event, patience: float) -> None:
        """Return when the command's shell has greeted from inside its scope, and was told what to run.

        `patience` is how long the lock may be waited for, in seconds.

        Raises:
            NotStarted: the host's side refused.
            StepFailed: cancelled; host with what was said instead of a greeting.
        """
        greeting, said = f"ready {self._cookie} ".encode(), bytearray()
        until = time.monotonic() + START_LIMIT + patience
        while True:
            line, end, _ = bytes(said).partition(b"\n")
            if end and line.startswith(greeting):
                self._session.send(b"go " + line.removeprefix(greeting).strip() + b"\n")
                return
            if end:  # a login script, or systemd, said something
                del said[: len(line) + 1]
                self._heard.said += line + b"\n"
                continue
            if job.stop.is_set() or halt.is_set():
                raise StepFailed(Cause.cancelled, "cannot start the command: it was cancelled")
            if self._heard.word or not self._heard.open or time.monotonic() > until:
                raise self._not_started(bytes(said))
            # Byte by byte, so that nothing after the greeting is taken for a part of it.
            said += self._more(1)

    def _not_started(self, said: bytes) -> Exception:
        text = (self._heard.said + said).decode("utf-8", "replace").strip()
        if self._heard.word == "refused":
            code, _, rest = self._heard.value.partition(" ")
            return NotStarted(int(code), rest)
        if self._heard.word:
            text = text or self._heard.value
            hint = "See that its user may start commands there: fraisier doctor"
            where = self._connection.host
            return StepFailed(Cause.host, f"cannot start a command on {where}: {text or 'it ended'}", hint)
        return self._connection.lost(text)

    def follow(self, job: Job, timeout: float | None) -> Outcome:
        """Hand output over as it comes, until nothing of the command is left: it exited, or was ended.

        Raises:
            HostUnreachable: the connection was lost; the host ends the command by itself.
            StepFailed: host, where it cannot be ended.
        """
        until = float("inf") if timeout is None else time.monotonic() + timeout
        outcome, limit = Outcome.exited, float("inf")
        while not self._heard.word:
            now = time.monotonic()
            if outcome is Outcome.exited and (job.stop.is_set() or now >= until):
                outcome = Outcome.cancelled if job.stop.is_set() else Outcome.timeout
                limit = now + _ENDING
                self._session.send(b"stop\n")
            if now > limit or not self._heard.open:
                if outcome is Outcome.exited:
                    raise self._lost()
                return outcome  # told to end; the host does so by itself once it misses us
            if data := self._more(_CHUNK):
                job.output(data)
        if self._heard.word == "lost":
            raise self._connection.lost("it had not heard from here for too long, and ended the command")
        if self._heard.word == "stays":
            message = f"cannot end a command on {self._connection.host} (scope {self._cookie})"
            hint = "See what its processes wait for: ps axo pid,stat,wchan,args"
            raise StepFailed(Cause.host, message, hint)
        self._finish(job)
        return outcome

    def _lost(self) -> FraisierError:
        said = self._heard.said.decode("utf-8", "replace")
        lost: HostUnreachable = self._connection.lost(said)
        return lost

    def _finish(self, job: Job) -> None:
        self._session.send(b"done\n")
        self._session.stdin.close()
        until = time.monotonic() + _DRAIN
        while self._out in self._heard.open and time.monotonic() < until:
            if data := self._more(_CHUNK):
                job.output(data)

    def _more(self, most: int) -> bytes:
        """Output that has come within a moment; what comes on the errors' side is noted."""
        ready, _, _ = select.select(list(self._heard.open), [], [], _LOOK)
        if self._err in ready:
            data = os.read(self._err, _CHUNK)
            self._heard.take(data)
            if not data:
                self._heard.open.discard(self._err)
        if self._out not in ready:
            return b""
        data = os.read(self._out, most)
        if not data:
            self._heard.open.discard(self._out)
        return data

    def exit_code(self) -> int:
        """The command's exit code; negative: the signal that ended it."""
        code = int(self._heard.value or 1)
        return 128 - code if code - 128 in range(1, 65) else code

    def close(self) -> None:
        """Let go. What still runs sees the end of its input, and is ended there."""
        self._connection.use(-1)
        self._session.close()
