"""The demo's folder: where it lies, that it is ours alone, and the files that are laid out in it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import fraisier
from fraisier.domain.errors import Conflict, UsageError
from fraisier.domain.release import Layout
from fraisier.hosts import process_table

REPOSITORY = "acme/hello"
_PLAIN = re.compile(r"/[A-Za-z0-9_.+@/-]{1,80}\Z")  # a unix socket's path may have 107 bytes
_MARK = "of-the-demo"  # a file that says: this folder is the demo's, and how its processes are known


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The paths in it. `cookie` marks every process of this run; `kept` tells whether it stays afterwards."""

    path: Path
    cookie: str
    kept: bool

    @property
    def config(self) -> Path:
        """The generated fraises.yaml."""
        return self.path / "fraises.yaml"

    @property
    def forge(self) -> Path:
        """The bare repository that is pushed to."""
        return self.path / "forge" / f"{REPOSITORY}.git"

    @property
    def work(self) -> Path:
        """The developer's clone."""
        return self.path / "work"

    @property
    def layout(self) -> Layout:
        """Where the service is deployed."""
        return Layout(str(self.path / "site"))

    @property
    def supervisord_conf(self) -> Path:
        """supervisord's configuration."""
        return self.path / "supervisord.conf"

    @property
    def supervisord_socket(self) -> Path:
        """Where supervisord listens."""
        return self.path / "supervisor.sock"

    def log(self, name: str) -> Path:
        """What a process of the demo prints."""
        return self.path / "log" / f"{name}.log"

    @property
    def environment(self) -> Mapping[str, str]:
        """The whole environment of every process: nothing of the person's own git, proxies or locale."""
        kept = {name: os.environ[name] for name in ("PYTHONPATH", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.path),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            process_table.COOKIE: self.cookie,
        }


@dataclass(frozen=True, slots=True)
class Ports:
    """Where Fraisier and the service listen, on the loopback address."""

    fraisier: int
    service: int


def free_ports() -> Ports:
    """Two ports that nobody listens on now."""
    with ExitStack() as held:
        found = []
        for _ in range(2):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
    return Ports(*found)


@contextmanager
def demo_folder(wanted: str | None) -> Iterator[DemoFolder]:
    """An empty folder that is this run's alone: `wanted`, else `.demo` in the checkout, else a temporary one.

    Whatever an earlier run left in it, processes too, is ended and removed; that run may have been killed.
    A temporary folder goes when the demo ends well.

    Raises:
        UsageError: `wanted` cannot be used.
        Conflict: another demo is being played there.
    """
    path = Path(wanted).absolute() if wanted else _in_checkout()
    if path is None:
        path = Path(tempfile.mkdtemp(prefix="fraisier-demo-"))
        if not _PLAIN.match(str(path)):
            path.rmdir()
            path = Path(tempfile.mkdtemp(prefix="fraisier-demo-", dir="/tmp"))
        with _locked(path):
            yield _emptied(path, kept=False)
        shutil.rmtree(path)
        return
    _check(path)
    with _locked(path):
        yield _emptied(path, kept=True)


def _in_checkout() -> Path | None:
    """`.demo` beside the package, where that is a checkout in which we may keep such a folder."""
    checkout = Path(fraisier.__file__).resolve().parent.parent
    found = checkout / ".demo"
    if not (checkout / "Makefile").is_file() or not _PLAIN.match(str(found)):
        return None
    try:
        found.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    return found if found.stat().st_uid == os.geteuid() else None


def _check(path: Path) -> None:
    hint = "Name another one with --folder, or leave it out"
    if not _PLAIN.match(str(path)):
        message = f"cannot play the demo in {path}: its path is longer than 80 bytes, or holds odd characters"
        raise UsageError(message, hint)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        foreign = any(path.iterdir()) and not (path / _MARK).is_file()
    except OSError as error:
        raise UsageError(f"cannot play the demo in {path}: {error.strerror}", hint) from error
    if foreign or path.stat().st_uid != os.geteuid():
        raise UsageError(
            f"cannot play the demo in {path}: it holds something else, or is somebody else's", hint
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"cannot play the demo in {path}: it is being played there right now"
        raise Conflict(message, "Wait until it has ended, or name another folder with --folder") from None
    else:
        yield
    finally:
        os.close(descriptor)


def _emptied(path: Path, *, kept: bool) -> DemoFolder:
    mark = path / _MARK
    if mark.is_file() and not end_processes(mark.read_text(encoding="ascii").strip()):
        message = f"cannot play the demo in {path}: processes of an earlier one do not end"
        raise Conflict(
            message, "See what they wait for (ps axo pid,stat,wchan,args), or name another --folder"
        )
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != mark:
            entry.unlink()
    folder = DemoFolder(path, f"demo-{secrets.token_hex(8)}", kept)
    mark.write_text(folder.cookie, encoding="ascii")
    return folder


def end_processes(cookie: str) -> bool:
    """End every process of a run: asked first, killed after 5 s. False if one is there after 10 s."""
    return not cookie or process_table.end(process_table.Marks(cookie), grace=5.0, limit=10.0)


def template(name: str) -> str:
    """One of the files in demo_files/."""
    return files("fraisier.cli").joinpath("demo_files", name).read_text(encoding="utf-8")


def lay_out(folder: DemoFolder, ports: Ports, secret: str) -> None:
    """Write the configurations of Fraisier and supervisord, and make the folders that they name."""
    for name in ("log", "state", "work", "site"):
        (folder.path / name).mkdir(mode=0o700)
    values = {
        "folder": str(folder.path),
        "repository": REPOSITORY,
        "port": str(ports.fraisier),
        "service_port": str(ports.service),
        "secret": secret,
        "build": json.dumps(f"{shlex.quote(sys.executable)} -m py_compile app.py"),  # its strings are YAML's
    }
    _write(folder.config, Template(template("fraises.yaml")).substitute(values))
    _write(folder.supervisord_conf, _supervisord_conf(folder, ports))


def _supervisord_conf(folder: DemoFolder, ports: Ports) -> str:
    # Where setpriv is installed the kernel ends the service with supervisord, even with one that was killed.
    setpriv = shutil.which("setpriv")
    prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    command = shlex.join([*prefix, sys.executable, "app.py"]).replace("%", "%%")
    user = "user = root" if os.geteuid() == 0 else ""  # without it supervisord warns
    values = {"folder": str(folder.path), "port": str(ports.service), "command": command, "user": user}
    return Template(template("supervisord.conf")).substitute(values)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
