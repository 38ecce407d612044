"""A session that answers: looks and short acts on a host, one after the other, by a shell that stays.

The shell also is what holds an environment's lock: it lets go when it ends, and it ends with its input.
"""

from __future__ import annotations

import secrets
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event

from fraisier.application.ports import Finished
from fraisier.domain.errors import Cause, HostUnreachable, StepFailed
from fraisier.hosts.ssh_connection import Connection, Session
from fraisier.hosts.ssh_words import marked_request

_LOOK = 0.1  # seconds between two looks at what may stop the wait
_SLACK = 20.0  # seconds beyond a command's own time, for the way there and back
_KEPT = 3  # idle channels


class NoAnswer(HostUnreachable):
    """The connection is up, but the host has not answered in time."""


class Channel:
    """One answering session. Used by one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        """Open it.

        Raises:
            HostUnreachable: the connection is gone.
        """
        self.connection = connection
        self._session: Session = connection.open("agent")
        self._rest = bytearray()
        self.is_dead = False
        connection.use(1)
        try:
            greeting, until = connection.nonce.encode(), time.monotonic() + _SLACK
            while self._line(until, None) != greeting:  # a login script may print before
                pass
        except BaseException:
            connection.use(-1)
            self.close()
            raise

    @property
    def is_up(self) -> bool:
        """Whether it may be asked, as far as we know."""
        return not self.is_dead and self.connection.is_up and self._session.process.poll() is None

    def ask(self, *words: str, patience: float = 10.0, halt: Event | None = None) -> Finished:
        """What a function of our scripts answers.

        Raises:
            HostUnreachable: the connection was lost; whether the function was performed is not known.
            StepFailed: cancelled, once `halt` is set; this channel is gone then.
        """
        if self.is_dead:
            raise self.connection.lost("")
        until, mark = time.monotonic() + patience + _SLACK, secrets.token_hex(16)
        try:
            if not self._session.send(marked_request(mark, words)):
                raise self.connection.lost(self._session.said())
            out = self._up_to(f"\n{mark} ".encode(), until, halt)
            code = int(self._line(until, halt))
            err = self._up_to(f"\n{mark}\n".encode(), until, halt)
        except BaseException:
            self.close()
            raise
        return Finished(code=code, stdout=out, stderr=err)

    def _line(self, until: float, halt: Event | None) -> bytes:
        return self._up_to(b"\n", until, halt)

    def _up_to(self, end: bytes, until: float, halt: Event | None) -> bytes:
        """What comes before `end`, which is taken away with it."""
        looked = 0
        while (at := self._rest.find(end, looked)) < 0:
            looked = max(0, len(self._rest) - len(end))
            if halt is not None and halt.is_set():
                raise StepFailed(
                    Cause.cancelled, f"cannot wait for host {self.connection.host}: told to stop"
                )
            if time.monotonic() > until:
                message = f"cannot wait for host {self.connection.host} any longer: no answer in time"
                raise NoAnswer(Cause.host, message, "See on the host what it waits for: ps axo pid,stat,args")
            if not select.select([self._session.stdout], [], [], _LOOK)[0]:
                continue
            data = self._session.stdout.read(1 << 18)
            if not data:
                self._session.process.wait()
                raise self.connection.lost(self._session.said())
            self._rest += data
        found = bytes(self._rest[:at])
        del self._rest[: at + len(end)]
        return found

    def close(self) -> None:
        """Let go of it, and of the lock that it holds."""
        if not self.is_dead:
            self.is_dead = True
            self._session.close()


class Channels:
    """The channels of one host: opened when they are needed, kept for the next who needs one.

    A thread that holds a lock (`held`) asks through the channel that holds it, and through no other.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._idle: list[Channel] = []
        self._lock = threading.Lock()
        self._here = threading.local()

    def ask(self, *words: str, patience: float = 10.0, again: bool = True) -> Finished:
        """Ask by the channel that holds this thread's lock, else by any.

        `again`: asking twice does no harm, so a channel that turns out to be gone is replaced once.

        Raises:
            HostUnreachable: see `Channel.ask`.
        """
        held: Channel | None = getattr(self._here, "channel", None)
        if held is not None:
            return held.ask(*words, patience=patience)
        channel, answer = self._asked(words, patience, None, again=again)
        self._keep(channel)
        return answer

    @contextmanager
    def held(self, words: Sequence[str], *, patience: float, halt: Event) -> Iterator[Finished]:
        """Ask for a lock, and while this is entered have this thread's questions asked where it is held."""
        channel, answer = self._asked(words, patience, halt, again=True)
        self._here.channel = channel
        try:
            yield answer
        finally:
            self._here.channel = None
            with suppress(HostUnreachable, StepFailed):  # then it has ended, and let go by that
                channel.ask("leave")
            self._keep(channel)

    def _asked(
        self, words: Sequence[str], patience: float, halt: Event | None, *, again: bool
    ) -> tuple[Channel, Finished]:
        channel, was_idle = self._taken()
        try:
            return channel, channel.ask(*words, patience=patience, halt=halt)
        except HostUnreachable:
            self._keep(channel)
            if not (again and was_idle):
                raise
        except BaseException:
            self._keep(channel)
            raise
        self.forget()
        channel, _ = self._taken()
        try:
            return channel, channel.ask(*words, patience=patience, halt=halt)
        except BaseException:
            self._keep(channel)
            raise

    def _taken(self) -> tuple[Channel, bool]:
        with self._lock:
            while self._idle:
                channel = self._idle.pop()
                if channel.is_up:
                    channel.connection.use(1)
                    return channel, True
                channel.close()
        return Channel(self._connect()), False

    def _keep(self, channel: Channel) -> None:
        """For the next one; a channel that ended, or one too many, is closed."""
        channel.connection.use(-1)
        with self._lock:
            if channel.is_up and len(self._idle) < _KEPT:
                self._idle.append(channel)
                return
        channel.close()

    def forget(self) -> None:
        """Close what nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()
