"""A real MariaDB server for tests: a data folder of its own on a unix socket, gone when the session ends.

Debian's package mariadb-server; as user mysql where we are root. Where it cannot be had, tests that need it are
skipped and say why; with FRAISIER_SERVERS=required in the environment they fail instead.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_PATIENCE = 120.0  # seconds for a start, on a machine that does much else
_ACCOUNT = "mysql"  # of the operating system, where we are root


class MariadbServer:
    """One server. Its only way in is the socket; root needs no password there."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.socket = folder, folder / "socket"
        self._process = process
        self._numbers = itertools.count(1)

    def sql(self, statements: str, *, database: str = "", user: str = "root", password: str = "") -> str:
        """Run statements; returns rows, columns separated by tabs."""
        argv = ("mariadb", "--no-defaults", f"--socket={self.socket}", f"-u{user}", "-NBr", database)
        done = subprocess.run(
            [word for word in argv if word],
            input=statements.encode(),
            capture_output=True,
            check=False,
            env={**os.environ, "MYSQL_PWD": password},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def database(self, user: str, password: str) -> str:
        """A new database of a user who may do all there and in what verifications make; returns its name."""
        name = f"test_{next(self._numbers)}"
        quoted = password.replace("\\", "\\\\").replace("'", "''")
        self.sql(
            f"CREATE DATABASE {name}; CREATE OR REPLACE USER {user}@localhost IDENTIFIED BY '{quoted}';"
            f"GRANT ALL ON {name}.* TO {user}@localhost;"
            rf"GRANT ALL ON `fraisier\_verify\_%`.* TO {user}@localhost"
        )
        return name

    def dump(self, database: str) -> str:
        """All of a database as text."""
        argv = (
            "mariadb-dump",
            "--no-defaults",
            f"--socket={self.socket}",
            "-uroot",
            "--routines",
            "--events",
        )
        done = subprocess.run((*argv, "--skip-dump-date", database), capture_output=True, check=True)
        return done.stdout.decode("utf-8", "replace")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    """A running server; each process of a parallel run has its own."""
    program = shutil.which("mariadbd") or shutil.which("/usr/sbin/mariadbd")
    if not program or not shutil.which("mariadb-install-db"):
        reason = "there is no MariaDB here (Debian: mariadb-server; see tests/servers/packages)"
        if os.environ.get("FRAISIER_SERVERS") == "required":
            pytest.fail(reason)
        pytest.skip(f"SKIPPED WITHOUT MARIADB: {reason}")
    # A socket's path may have 107 bytes, so pytest's own folders will not do.
    folder = Path(tempfile.mkdtemp(prefix="fraisier-my-", dir="/var/tmp"))
    folder.chmod(0o755)
    who: dict[str, object] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, _ACCOUNT)
        who = {"user": _ACCOUNT, "group": pwd.getpwnam(_ACCOUNT).pw_gid, "extra_groups": []}
    data = folder / "data"
    install = ("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db")
    install += ("--auth-root-authentication-method=normal", "--innodb-fast-shutdown=0")
    subprocess.run(install, check=True, capture_output=True, cwd=folder, **who)  # type: ignore[call-overload]
    settings = ("--skip-networking", "--skip-grant-tables=0", "--innodb-flush-log-at-trx-commit=0")
    settings += ("--innodb-buffer-pool-size=32M", "--event-scheduler=ON", f"--pid-file={folder}/pid")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            (program, "--no-defaults", f"--datadir={data}", f"--socket={folder}/socket", *settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            **who,
        )
    try:
        _wait(folder, process)
        yield MariadbServer(folder, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(folder: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE
    asking = ("mariadb", "--no-defaults", f"--socket={folder}/socket", "-uroot", "-e", "SELECT 1")
    while subprocess.run(asking, capture_output=True, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > until:
            pytest.fail(f"MariaDB did not start:\n{(folder / 'log').read_text(errors='replace')}")
        time.sleep(0.05)
