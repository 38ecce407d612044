"""Opening the SQLite file: where it may lie, who may read it, and how a connection is set up."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from fraisier.database.private_folder import private_folder
from fraisier.domain.errors import StoreUnavailable, UsageError

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
READ_PATIENCE = 3.0  # seconds that a reader waits for a lock (recovery after a crash)
_IDLE_READERS = 4
_ESCAPED = re.compile(r"\\([0-7]{3})")  # in /proc/mounts a space is \040
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "9p", "fuse.sshfs"})
# Errors of the file or the disk, not of a statement: the connection is opened anew after them.
_OF_THE_FILE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
    }
)


def path_of(url: str) -> Path:
    """The file that `sqlite:///absolute/path` or `sqlite://relative/path` names.

    Four slashes, as other programs write an absolute path, mean the same; SQLite itself takes no `//path`.

    Raises:
        UsageError: the URL is none of SQLite's.
    """
    scheme, separator, rest = url.partition("://")
    if scheme != "sqlite" or not separator or not rest.strip("/"):
        hint = "Write database: {url: sqlite:///var/lib/fraisier/fraisier.db}"
        message = f"cannot use {url!r} as a SQLite database"
        raise UsageError(message, hint)
    path = unquote(rest)
    return Path(f"/{path.lstrip('/')}" if path.startswith("/") else path).absolute()


def error_class(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the error comes from Python's module itself."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def is_of_the_file(error: BaseException) -> bool:
    """Whether it is the file or the disk that failed, and not a statement or a value."""
    return isinstance(error, sqlite3.Error) and error_class(error) in _OF_THE_FILE


def is_locked(error: BaseException) -> bool:
    """Whether another connection holds the lock that was wanted."""
    return isinstance(error, sqlite3.Error) and error_class(error) in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def unavailable(path: Path, error: BaseException) -> StoreUnavailable:
    """What went wrong with the file, for people."""
    code = error_class(error) if isinstance(error, sqlite3.Error) else 0
    hint = {
        sqlite3.SQLITE_FULL: f"The disk of {path.parent} is full: free some space",
        sqlite3.SQLITE_BUSY: "Another process holds its lock: see `fuser` on the file",
        sqlite3.SQLITE_READONLY: f"Make {path} and its folder writable for this user",
        sqlite3.SQLITE_CANTOPEN: f"Check that {path.parent} exists and belongs to this user",
        sqlite3.SQLITE_CORRUPT: "Restore the file from a backup; keep the damaged one for diagnosis",
        sqlite3.SQLITE_NOTADB: "The file is no SQLite database: check database.url",
        sqlite3.SQLITE_IOERR: f"Check the disk of {path.parent} (df -h, dmesg)",
    }.get(code, "Check the file, its folder and the disk")
    return StoreUnavailable(f"cannot use the database {path}: {error}", hint)


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`, from the text of /proc/mounts."""
    best, found = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[1])
        inside = point == "/" or str(path) == point or str(path).startswith(point + "/")
        if inside and len(point) >= len(best):
            best, found = point, fields[2]
    return found


def refuse_network_disk(path: Path) -> None:
    """WAL needs shared memory and working locks; network file systems have neither.

    https://sqlite.org/wal.html, "All processes using a database must be on the same host computer".

    Raises:
        StoreUnavailable: the file would lie on a network file system.
    """
    kind = file_system_of(
        path.parent.resolve(), Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    )
    if kind in _NETWORK_FILE_SYSTEMS:
        message = f"cannot keep the database {path} on a network file system ({kind})"
        raise StoreUnavailable(message, "Move it to a local disk, or use postgresql:// for several machines")


def prepare_file(path: Path, *, create: bool) -> None:
    """Make sure that the file exists on a local disk. What is made here, folder included, is ours alone.

    Raises:
        StoreUnavailable: they cannot be, or the file is missing and `create` is False.
    """
    if path.exists():
        refuse_network_disk(path)
        return
    if not create:
        hint = "Start `fraisier serve` once, or check database.url"
        message = f"cannot find the database {path}"
        raise StoreUnavailable(message, hint)
    try:
        private_folder(path.parent)
        refuse_network_disk(path)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        message = f"cannot create the database {path}: {error.strerror}"
        raise StoreUnavailable(
            message, f"Create {path.parent} for this user, or change database.url"
        ) from error


def connect(path: Path, *, patience: float, write: bool) -> sqlite3.Connection:
    """A connection that commits durably. `patience` is SQLite's busy timeout in seconds.

    Raises:
        StoreUnavailable: the file cannot be opened, or is no database.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        message = f"cannot use SQLite {sqlite3.sqlite_version}"
        raise StoreUnavailable(message, "Use a Python whose SQLite is 3.37 or newer")
    try:
        connection = sqlite3.connect(
            f"file:{_escaped(path)}?mode=rw",
            uri=True,
            timeout=patience,
            isolation_level=None,
            check_same_thread=False,
        )
        _configure(connection, write=write)
    except sqlite3.Error as error:
        raise unavailable(path, error) from error
    connection.row_factory = sqlite3.Row
    return connection


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _configure(connection: sqlite3.Connection, *, write: bool) -> None:
    if write:
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            message = f"the file system does not allow WAL (journal mode stays {mode})"
            raise sqlite3.OperationalError(message)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-8000")  # KiB
        # A statement of many rows keeps what it may have to undo. Beyond 64 KiB that went to a file in
        # /var/tmp: slower, outside the state folder, and a full /var/tmp would have refused pushes.
        connection.execute("PRAGMA temp_store=MEMORY")
    else:
        connection.execute("PRAGMA query_only=ON")


class Readers:
    """A few read-only connections, lent to whichever thread reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """A connection for the duration of one reading verb.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        connection = self._take()
        try:
            yield connection
        except sqlite3.Error as error:
            connection.close()
            if is_of_the_file(error):
                raise unavailable(self._path, error) from error
            raise
        except BaseException:
            self._give_back(connection)
            raise
        self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return connect(self._path, patience=READ_PATIENCE, write=False)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
