"""Scopes: what holds a long command together, so that all of it can be ended, by us or by a successor.

Each running scope has a record in `.fraisier/scopes/`, written before anything starts. Where systemd runs, a
scope is a transient unit with a cgroup of its own, outside Fraisier's; elsewhere a session with a cookie.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts import files, process_table
from fraisier.hosts.short import run_short

GRACE = 2.0  # seconds between asking and killing
LIMIT = 10.0  # seconds after which a scope that will not go is reported


class Kind(StrEnum):
    """What holds the scope's processes: a unit of the system's or of our own manager, or a session."""

    system = "system"
    user = "user"
    session = "session"


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope as recorded. `cookie` names it; `pid` and `started` are those of a session's first process."""

    cookie: str
    kind: Kind
    pid: int = 0
    started: int = 0
    boot: str = ""

    @property
    def unit(self) -> str:
        """The transient unit that holds it, where a manager does."""
        return f"fraisier-{self.cookie}.service"

    @property
    def marks(self) -> process_table.Marks:
        """What a session's processes are known by."""
        return process_table.Marks(self.cookie, self.pid, self.started)


def new_scope(kind: Kind) -> Scope:
    """A scope that does not run yet."""
    return Scope(secrets.token_hex(8), kind, boot=_boot())


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def record(folder: Path, scope: Scope) -> None:
    """Note that the scope may be running. Needs no sync: what a power loss takes, it also ends."""
    with files.ours(f"{folder}/{scope.cookie}") as path:
        temporary = path.with_name(f".{scope.cookie}")
        temporary.write_text(json.dumps(asdict(scope)))
        temporary.replace(path)


def forget(folder: Path, scope: Scope) -> None:
    """Note that nothing of the scope is left."""
    with files.ours(f"{folder}/{scope.cookie}") as path:
        path.unlink(missing_ok=True)


def recorded(folder: Path) -> list[Scope]:
    """Every scope that may be running."""
    if not folder.is_dir():
        return []
    with files.ours(f"{folder}/*") as path:
        return [_read(entry) for entry in path.parent.iterdir() if not entry.name.startswith(".")]


def _read(entry: Path) -> Scope:
    found: Mapping[str, object] = {}
    with suppress(ValueError, OSError):
        parsed = json.loads(entry.read_text())
        found = parsed if isinstance(parsed, dict) else {}
    kind = str(found.get("kind"))
    boot, pid, started = (found.get(word) for word in ("boot", "pid", "started"))
    return Scope(
        entry.name,
        Kind(kind) if kind in Kind.__members__ else Kind.session,
        # After a reboot the number may be anybody's; the cookie still is the scope's own.
        pid if isinstance(pid, int) and boot == _boot() else 0,
        started if isinstance(started, int) else 0,
        str(boot),
    )


def end_all(folder: Path) -> None:
    """End every recorded scope and forget it; returns when nothing of them is left.

    Raises:
        StepFailed: host, if one will not go.
    """
    for scope in recorded(folder):
        end(scope)
        forget(folder, scope)


def end(scope: Scope, *, grace: float = GRACE) -> None:
    """Ask, then kill; returns when nothing of the scope is left. One that has ended is fine.

    Raises:
        StepFailed: host, if it will not go within 10 s.
    """
    if scope.kind is Kind.session:
        gone = process_table.end(scope.marks, grace=grace, limit=LIMIT)
    else:
        gone = _end_unit(scope)
    if not gone:
        where = f"scope {scope.cookie}" if scope.kind is Kind.session else scope.unit
        message = f"cannot end an earlier command ({where}): it is still there after {LIMIT:g} s"
        raise StepFailed(Cause.host, message, "See what its processes wait for: ps axo pid,stat,wchan,args")


def _end_unit(scope: Scope) -> bool:
    if _is_gone(scope):
        return True
    with suppress(StepFailed):  # it took too long: what counts is whether the unit is there
        # The unit's TimeoutStopSec= is the grace, so that this asks and then kills.
        run_short((*_manager(scope), "stop", "--", scope.unit), timeout=LIMIT)
    return _is_gone(scope)


def _is_gone(scope: Scope) -> bool:
    asked = (*_manager(scope), "show", "--property=ActiveState", "--value", "--", scope.unit)
    shown = run_short(asked, timeout=LIMIT)
    if shown.code != 0:
        said = shown.stderr.decode("utf-8", "replace").strip()
        raise StepFailed(Cause.host, f"cannot ask systemd about {scope.unit}: {said}")
    return shown.stdout.strip() in {b"inactive", b"failed"}


def _manager(scope: Scope) -> tuple[str, ...]:
    return ("systemctl", f"--{scope.kind}", "--no-ask-password")
