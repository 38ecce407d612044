"""Fraisier in processes of their own: a server with its worker, and a client that asks for something.

They are forked, not started: what they need has been imported, so that one is there in milliseconds.
"""

from __future__ import annotations

import ctypes
import http.client
import importlib
import json
import multiprocessing
import os
import pkgutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import fraisier
from fraisier import wiring
from fraisier.application.receive_push import ReceivePush
from fraisier.application.tools import Retries
from fraisier.cli.serving import recorder as delivery_recorder
from fraisier.domain.errors import FraisierError
from fraisier.web.app import App, Parts
from fraisier.web.server import Hooks, listen, serve
from fraisier.wiring import Fraisier
from fraisier.worker import Worker
from tests.chaos.points import Passed, Watch
from tests.chaos.points import listen as listen_to_acts

_FORK = multiprocessing.get_context("fork")
_PR_SET_PDEATHSIG = 1
REFUSED = 4  # the exit code of a process whose store could not be had
SOON = Retries(first=0.1, longest=0.5)
_BEGUN = ("deployment_claimed", "run_started", "run_left_by_dead_worker")
_LET_GO = [f"{what}_{how}" for what in ("deployment", "run") for how in ("ended", "lost", "left", "crashed")]


def import_everything() -> None:
    """Import all of Fraisier, so that whoever is forked need not."""
    for module in pkgutil.walk_packages(fraisier.__path__, "fraisier."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    tempfile.gettempdir()  # which tries it out once with a file of a name of chance


class Process:
    """A process that may be struck by a fault, looked at from its parent."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = _FORK.Process(target=_child, args=(target, *arguments))
        self._process.start()

    @property
    def pid(self) -> int:
        """The process's."""
        return int(self._process.pid or 0)

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, by itself or not."""
        return not self._process.is_alive()

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self._process.exitcode == -signal.SIGKILL

    @property
    def was_refused(self) -> bool:
        """Whether it ended because Fraisier could not do what it was to do."""
        return self.is_gone and self._process.exitcode == REFUSED

    @property
    def is_stopped(self) -> bool:
        """Whether it sleeps until SIGCONT, as proc(5) tells."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
        return False

    holds_something = False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def waits(self, seconds: float) -> bool:
        """Wait for its end; whether that came."""
        self._process.join(seconds)
        return self.is_gone

    def end(self) -> None:
        """Make sure that it is gone."""
        if not self.is_gone:
            self._process.kill()
        self._process.join()


class Server(Process):
    """What `fraisier serve` is made of: the receiver and its worker. `passed` is told its points."""

    def __init__(self, config: Path, log: Path, *, passed: Passed | None = None):
        sockets = listen("127.0.0.1", 0)
        self.port = sockets[0].getsockname()[1]
        self.log = log
        super().__init__(_serve, config, log, sockets, passed)
        for each in sockets:
            each.close()

    def is_ready(self, seconds: float = 0.0) -> bool:
        """Whether it answers, at the latest after so many seconds."""
        until = time.monotonic() + seconds
        while (
            not (answers := self._answers())
            and not (self.is_gone or self.is_stopped)
            and time.monotonic() < until
        ):
            time.sleep(0.02)
        return answers

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def said(self) -> list[dict[str, Any]]:
        """The events of its log, as far as they are written."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    @property
    def holds_something(self) -> bool:
        """Whether it has begun a deployment, or a run, that it has not let go of."""
        said = [each["event"] for each in self.said()]
        return sum(map(said.count, _BEGUN)) > sum(map(said.count, _LET_GO))


class Client(Process):
    """A person's command: calls one verb of Fraisier and notes what came of it in a file."""

    def __init__(
        self,
        config: Path,
        answer: Path,
        verb: Callable[[Fraisier], str],
        *,
        passed: Passed | None = None,
    ) -> None:
        self._answer = answer
        answer.unlink(missing_ok=True)
        super().__init__(_ask, config, answer, verb, passed)

    @property
    def is_answered(self) -> bool:
        """Whether the verb has returned, and the command ended."""
        return self.is_gone and self._answer.exists()

    @property
    def answer(self) -> str:
        """What the verb returned; '' as long as it has not."""
        return self._answer.read_text() if self.is_answered else ""


# ------------------------------------------------------------------------------------ in the child


def die_with_parent() -> None:
    """Let the kernel end this process with the one that started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _child(target: Callable[..., None], *arguments: Any) -> None:
    die_with_parent()
    code = 1
    try:
        target(*arguments)
        code = 0
    except FraisierError as error:
        os.write(2, f"{error}\n".encode())
        code = REFUSED
    except BaseException:  # noqa: BLE001 - nobody else will say it
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _assemble(config: Path, listener: Any, watch: Watch | None) -> Fraisier:
    configuration = wiring.load(str(config))
    store = wiring.open_store(configuration)
    fraisier = wiring.assemble(configuration, store=watch.store(store) if watch else store, listener=listener)
    fraisier.tools = replace(fraisier.tools, retries=SOON)
    return fraisier


def _watch(passed: Passed | None, idle: str) -> Watch | None:
    if passed is None:
        return None
    watch = Watch(passed, idle=idle)
    listen_to_acts(watch)
    return watch


def _serve(config: Path, log: Path, sockets: list[socket.socket], passed: Passed | None) -> None:
    """As `fraisier.cli.serving.run_server` puts it together, with the store and the log of a test."""
    _write_to(log)
    fraisier = _assemble(config, _listener(log), _watch(passed, "idle"))
    fraisier.publish()
    forges = wiring.forges()
    receive = ReceivePush(
        fraisier.configuration,
        forges=forges,
        find_forge=wiring.find_forge(),
        record=delivery_recorder(fraisier.store),
        clock=fraisier.clock,
    )
    worker = Worker(fraisier)
    app = App(Parts(receive_push=receive, forges=forges, store=fraisier.store, checks={}))
    hooks = Hooks(
        reload=lambda: fraisier.configuration,
        started=lambda _: worker.start(),
        stopping=lambda: worker.stop(fraisier.configuration.settings.shutdown_grace),
    )
    serve(app, sockets, hooks)
    fraisier.store.close()


def _ask(config: Path, answer: Path, verb: Callable[[Fraisier], str], passed: Passed | None) -> None:
    _write_to(answer.with_suffix(".log"))
    fraisier = _assemble(config, lambda *_: None, _watch(passed, "client"))
    said = verb(fraisier)
    answer.write_text(said)
    fraisier.store.close()


def _write_to(log: Path) -> None:
    """stdout and stderr of this process, and of what it starts, go to the log."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _listener(log: Path) -> Callable[[str, Mapping[str, Any]], None]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def heard(event: str, fields: Mapping[str, Any]) -> None:
        shown = {name: str(value) for name, value in fields.items()}
        line = {
            "event": event,
            "at": round(time.time(), 3),
            "thread": threading.current_thread().name,
            **shown,
        }
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    return heard
