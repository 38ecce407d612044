"""Waking other processes: each that listens has a datagram socket in a folder beside the database."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fraisier.application.ports.news import News
from fraisier.database.private_folder import private_folder
from fraisier.database.subscribers import PAUSE, Subscribers

# What a datagram says. Another version's word that we do not know is work.
_WORDS = {News.step: b".", News.claim: b":", News.request: b"+", News.work: b"!"}
_NEWS = {word: news for news, word in _WORDS.items()}
_GONE = frozenset({errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK})


class Wake:
    """Tells all subscribers, here and in other processes, that something happened.

    A datagram says little more than "look": what happened stands in the database. One that is lost (a full
    socket) has been preceded by others that are still unread. Sockets are named through the folder's
    descriptor, because a socket's path may have at most 107 bytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._subscribers = Subscribers()
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._descriptor: int | None = None
        self._sender: socket.socket | None = None
        self._receiver: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def subscribe(self, wake: Callable[[], None], *, least: News = News.step) -> Callable[[], None]:
        """Call `wake`, from any thread, until the returned function is called."""
        unsubscribe = self._subscribers.add(wake, least=least)
        with self._lock:
            if self._receiver is None and not self._closed:
                self._listen()
        return unsubscribe

    def ring(self, news: News = News.work) -> None:
        """Wake all that it concerns. Never blocks; a socket whose process is gone is removed.

        Subscribers of this process are woken over their socket too: what they do must not hold up
        the writer.
        """
        with self._lock:
            if self._closed or not self._open():
                return
            for name in os.listdir(self._descriptor):  # noqa: PTH208 - by descriptor
                if name.endswith(".sock"):
                    is_ours = news is News.claim and name == self._name
                    self._send(name, _WORDS[News.step if is_ours else news])

    def close(self) -> None:
        """Stop listening and remove our socket."""
        with self._lock:
            self._closed = True
            receiver, thread, sender = self._receiver, self._thread, self._sender
            self._subscribers.clear()
        if receiver is not None and thread is not None:
            (self._folder / self._name).unlink(missing_ok=True)
            receiver.shutdown(socket.SHUT_RDWR)
            if thread is not threading.current_thread():
                thread.join()
            receiver.close()
        if sender is not None:
            sender.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> bool:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False  # nobody ever listened
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.settimeout(0)
        return True

    def _listen(self) -> None:
        private_folder(self._folder)
        self._open()
        self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.bind(self._address(self._name))
        self._thread = threading.Thread(
            target=self._receive, args=(self._receiver,), name="store-wake", daemon=True
        )
        self._thread.start()

    def _address(self, name: str) -> str:
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def _send(self, name: str, word: bytes) -> None:
        assert self._sender is not None  # noqa: S101 - `_open` made it
        try:
            self._sender.sendto(word, self._address(name))
        except BlockingIOError:
            pass  # it has unread ones
        except OSError as error:
            if error.errno in _GONE:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._descriptor)

    def _receive(self, receiver: socket.socket) -> None:
        while True:
            try:
                data = receiver.recv(16)
            except OSError:
                return
            if self._closed or not data:
                return
            # A stream of pushes must not become a stream of wakes: the first is passed on at once, all
            # that come within the pause as one.
            words = {data, *_drained(receiver)}
            if self._subscribers.tell(max(_NEWS.get(word, News.work) for word in words)):
                time.sleep(PAUSE)


def _drained(receiver: socket.socket) -> set[bytes]:
    found = set()
    with contextlib.suppress(BlockingIOError):
        while data := receiver.recv(16, socket.MSG_DONTWAIT):
            found.add(data)
    return found
