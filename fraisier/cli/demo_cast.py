"""Who plays in the demo: git, supervisord and a real `fraisier serve`, each a process that ends with it."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from fraisier.application.ports import Finished, Job, Program
from fraisier.cli.demo_folder import REPOSITORY, DemoFolder, Ports, end_processes, template
from fraisier.cli.text import output_text
from fraisier.domain.errors import FraisierError, UsageError
from fraisier.domain.extras import how_to_install
from fraisier.hosts.processes import LocalProcesses

START_LIMIT = 30.0  # seconds for a process to answer
_LOOK = 0.02
_LONG = 3600.0  # seconds; the demo takes less
TAIL = 15  # lines of a log that are shown when its process fails


class DemoFailed(FraisierError):
    """Something was not as the demo tells it."""

    code = "demo_failed"


def check_installed() -> None:
    """Return if everything is there that the demo plays with.

    Raises:
        UsageError: supervisord or git is missing; the hint says how to install it.
    """
    if find_spec("supervisor") is None:
        message = "cannot play the demo: supervisord is not installed beside Fraisier"
        raise UsageError(message, how_to_install("supervisord"))
    if which("git") is None:
        raise UsageError("cannot play the demo: git is not installed", "Install git, e.g. apt install git")


class Cast:
    """Starts the players and, in `dismiss`, ends every one of them."""

    def __init__(self, folder: DemoFolder, ports: Ports) -> None:
        self._folder = folder
        self._ports = ports
        self._processes = LocalProcesses()
        self._stop = threading.Event()
        self._players: list[threading.Thread] = []

    # ------------------------------------------------------------------------------------- players
    def start_supervisord(self) -> None:
        """Returns when it can be talked to."""
        argv = (sys.executable, "-m", "supervisor.supervisord", "-c", str(self._folder.supervisord_conf))
        self._start("supervisord", argv, self._supervisord_listens)

    def start_fraisier(self) -> None:
        """Start `fraisier serve`; returns when it says that it is ready."""
        argv = (sys.executable, "-m", "fraisier", "--config", str(self._folder.config), "serve")
        self._start("fraisier serve", argv, self._fraisier_is_ready)

    def dismiss(self) -> bool:
        """End every process of the demo; whether none is left."""
        gone = end_processes(self._folder.cookie)
        self._stop.set()
        for player in self._players:
            player.join()
        return gone

    def _start(self, name: str, argv: tuple[str, ...], answers: Callable[[], bool]) -> None:
        log = self._folder.log(name.partition(" ")[0])
        program = Program(argv=argv, env=self._folder.environment, cwd=str(self._folder.path), timeout=_LONG)
        player = threading.Thread(target=self._play, args=(program, log), name=name, daemon=True)
        self._players.append(player)
        player.start()
        until = time.monotonic() + START_LIMIT
        while not answers():
            if not player.is_alive() or time.monotonic() > until:
                raise DemoFailed(f"cannot start {name}; it said:\n{tail(log)}", f"All it said is in {log}")
            time.sleep(_LOOK)

    def _play(self, program: Program, log: Path) -> None:
        with log.open("ab", buffering=0) as file:

            def keep(said: bytes) -> None:
                file.write(said)

            try:
                self._processes.run(program, Job(stop=self._stop, output=keep))
            except FraisierError as error:
                keep(f"{error}\n".encode())

    def _supervisord_listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._folder.supervisord_socket)) == 0

    def _fraisier_is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports.fraisier, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # ------------------------------------------------------------------------------------- git
    def make_repository(self, secret: str) -> None:
        """A bare repository whose hook tells Fraisier of each push, and a clone to work in."""
        self.git("init", "--quiet", "--bare", str(self._folder.forge), cwd=self._folder.path)
        webhook = {
            "url": f"http://127.0.0.1:{self._ports.fraisier}/webhook",
            "secret": secret,
            "repository": REPOSITORY,
        }
        (self._folder.forge / "webhook.json").write_text(json.dumps(webhook), encoding="utf-8")
        script = self._folder.forge / "hooks" / "post_receive.py"
        script.write_text(template("post_receive.py"), encoding="utf-8")
        hook = script.with_name("post-receive")
        # A shebang line may neither be long nor hold spaces; a virtual environment's path may do both.
        line = shlex.join(["exec", sys.executable, str(script)])
        hook.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        hook.chmod(0o700)
        self.git("init", "--quiet", str(self._folder.work), cwd=self._folder.path)
        self.git("remote", "add", "origin", str(self._folder.forge))

    def commit(self, message: str, **content: str) -> str:
        """Commit files (underscores in their names stand for dots) and return the commit's name."""
        for name, text in content.items():
            (self._folder.work / name.replace("_", ".")).write_text(text, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def push(self) -> list[str]:
        """`git push`; returns what the forge's hook said."""
        finished = self._run_git("push", "--quiet", "origin", "main", cwd=self._folder.work)
        said = output_text(finished.stderr.decode("utf-8", "replace"), colour=False).splitlines()
        return [line.strip() for line in said if line.strip()]

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run git in the clone, or in `cwd`; returns what it printed.

        Raises:
            DemoFailed: it ended with an error.
        """
        return self._run_git(*arguments, cwd=cwd or self._folder.work).stdout.decode()

    def _run_git(self, *arguments: str, cwd: Path) -> Finished:
        own = ("-c", "init.defaultBranch=main", "-c", "user.name=You", "-c", "user.email=you@example.com")
        program = Program(argv=("git", *own, *arguments), env=self._folder.environment, cwd=str(cwd))
        finished = self._processes.capture(program)
        if finished.code != 0:
            said = (finished.stderr + finished.stdout).decode("utf-8", "replace").strip()
            raise DemoFailed(f"cannot run git {shlex.join(arguments)}: {said}", f"It ran in {cwd}")
        return finished


def tail(log: Path) -> str:
    """The end of a log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "nothing"
    return os.linesep.join(lines[-TAIL:]) or "nothing"
