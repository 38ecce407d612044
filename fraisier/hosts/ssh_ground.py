"""What one environment owns on a host, as `ground.py` has it here: lock, token, owner and recorded scopes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fraisier.application.ports import Finished, Ground
from fraisier.domain.errors import Cause, FraisierError, StepFailed
from fraisier.domain.release import OURS, Layout
from fraisier.hosts import ground as grounds
from fraisier.hosts.failures import cause_of
from fraisier.hosts.scopes import GRACE, LIMIT, Kind
from fraisier.hosts.ssh_channel import Channels
from fraisier.hosts.ssh_connection import Facts

OWNER, OUTDATED, NEVER, BUSY, STAYS = 73, 74, 75, 77, 78  # as in ssh_scripts/common.sh
_FORBIDDEN = ("Permission denied", "Operation not permitted", "Read-only file system")
_ENDING = GRACE + LIMIT + 5.0  # seconds


@dataclass(frozen=True, slots=True)
class RecordedScope:
    """A scope that may be running on a host. `how` and `user`: as whom its processes can be ended."""

    cookie: str
    kind: Kind
    pid: int = 0
    started: int = 0
    how: str = ""
    user: str = ""

    def words(self) -> tuple[str, ...]:
        """For `end_scope`."""
        return (self.kind.value, self.cookie, str(self.pid), str(self.started), self.how, self.user)


class SSHGround:
    """Locks and takes over environments on one host."""

    def __init__(self, host: str, channels: Channels) -> None:
        self._host = host
        self._channels = channels

    def adopt(self, ground: Ground, facts: Facts, *, force: bool) -> None:
        """Take the environment over and end every older scope; see `Host.adopt`."""
        own = Layout(ground.app_path).own
        self._prepare(ground, facts)
        with self.locked(ground, ("enter", own, f"{grounds.LOCK_PATIENCE:g}")):
            token, owner, scopes = self._state(own, facts)
            grounds.refuse_others(ground, token, owner, force=force)
            # The token first: should we die in between, nobody who was outdated has become valid again.
            self._write(f"{own}/token", f"{ground.token}\n".encode())
            if owner != dict(ground.owner):
                self._write(f"{own}/owner", grounds.owner_text(ground) + b"\n")
            self._require(self._channels.ask("remove_halves", own), f"cannot tidy up {own}")
            for scope in scopes:
                self.end(scope)
                self._channels.ask("forget", own, scope.cookie)

    def entry(self, ground: Ground) -> tuple[str, ...]:
        """The words that lock, and check the token and the owner."""
        own, owner = Layout(ground.app_path).own, grounds.owner_text(ground).decode()
        return ("enter", own, f"{grounds.LOCK_PATIENCE:g}", str(ground.token), owner)

    @contextmanager
    def locked(self, ground: Ground, words: tuple[str, ...]) -> Iterator[None]:
        """Hold the environment's lock; this thread's acts happen where it is held."""
        patience = grounds.LOCK_PATIENCE
        with self._channels.held(words, patience=patience, halt=ground.halt) as answer:
            if answer.code != 0:
                raise self.refusal(ground, answer.code, answer.stdout.decode("utf-8", "replace"))
            yield

    def refusal(self, ground: Ground, code: int, said: str) -> FraisierError:
        """Why `enter` did not let us in."""
        own = Layout(ground.app_path).own
        if code == OUTDATED:
            return grounds.outdated(ground, said)
        if code == NEVER:
            return grounds.never_adopted(Path(own))
        if code == OWNER:
            return StepFailed(Cause.owner, said, "If nobody needs it, remove it; Fraisier makes its own")
        if code == BUSY:
            message = f"cannot lock {own}/lock: another process held it for {grounds.LOCK_PATIENCE:g} s"
            return StepFailed(Cause.host, message, f"See on {self._host} which one: fuser -v {own}/lock")
        return failure(f"cannot lock {own}/lock", said, self._host)

    def end(self, scope: RecordedScope) -> None:
        """Return when nothing of the scope is left.

        Raises:
            StepFailed: host, if it will not go.
        """
        ended = self._channels.ask("end_scope", *scope.words(), patience=_ENDING)
        if ended.code == STAYS:
            raise self.stays(scope.cookie)
        self._require(ended, f"cannot end an earlier command (scope {scope.cookie})")

    def stays(self, cookie: str) -> StepFailed:
        """A command that cannot be ended."""
        message = f"cannot end an earlier command on {self._host} (scope {cookie}): it is still there"
        return StepFailed(Cause.host, message, "See what its processes wait for: ps axo pid,stat,wchan,args")

    def _prepare(self, ground: Ground, facts: Facts) -> None:
        names = "".join(f"{name}/" for name in sorted(OURS))
        done = self._channels.ask("prepare", ground.app_path, names)
        if done.code == OWNER:
            uid = done.stdout.decode("utf-8", "replace")
            own = Layout(ground.app_path).own
            message = f"cannot use {own}: it is no folder of {facts.user} on {self._host} (uid {uid} owns it)"
            hint = f"Log in as the user that owns it, or, if nobody needs it: sudo rm -rf {own}"
            raise StepFailed(Cause.owner, message, hint)
        self._require(done, f"cannot prepare {ground.app_path}")

    def _state(self, own: str, facts: Facts) -> tuple[int | None, dict[str, str] | None, list[RecordedScope]]:
        shown = self._require(self._channels.ask("ground_state", own), f"cannot read {own}")
        token, owner, *records = shown.stdout.decode("ascii", "replace").split(".")
        pairs = zip(records[::2], records[1::2], strict=False)
        return (
            grounds.parsed_token(base64.b64decode(token) or None),
            grounds.parsed_owner(base64.b64decode(owner) or None),
            [_scope(cookie, base64.b64decode(content), facts.boot) for cookie, content in pairs],
        )

    def _write(self, path: str, data: bytes) -> None:
        words = ("write_file", path, "600", base64.b64encode(data).decode())
        self._require(self._channels.ask(*words, again=False), f"cannot write {path}")

    def _require(self, finished: Finished, doing: str) -> Finished:
        if finished.code != 0:
            raise failure(doing, finished.stderr.decode("utf-8", "replace"), self._host)
        return finished


def failure(doing: str, said: str, host: str) -> StepFailed:
    """The step's failure for what a tool on a host said. A full disk or a fault is tried again."""
    line = next((line.strip() for line in said.splitlines() if line.strip()), "it failed")
    text = f"{doing} on {host}: {line}"
    cause = cause_of(said)
    if cause is Cause.disk:
        return StepFailed(cause, text, "Free some space there; Fraisier tries again")
    if any(each in said for each in _FORBIDDEN):
        return StepFailed(
            Cause.preflight, text, f"Let the user that Fraisier logs in as to {host} write there"
        )
    return StepFailed(cause, text)


def _scope(cookie: str, content: bytes, boot: str) -> RecordedScope:
    found: dict[str, object] = {}
    with suppress(ValueError):
        parsed = json.loads(content)
        found = parsed if isinstance(parsed, dict) else {}
    kind, how, user = (str(found.get(word, "")) for word in ("kind", "how", "user"))
    pid, started = found.get("pid"), found.get("started")
    known = isinstance(pid, int) and isinstance(started, int) and found.get("boot") == boot
    return RecordedScope(
        cookie,
        Kind(kind) if kind in Kind.__members__ else Kind.session,
        # After a reboot the number may be anybody's; the cookie still is the scope's own.
        int(str(pid)) if known else 0,
        int(str(started)) if known else 0,
        how,
        user,
    )
