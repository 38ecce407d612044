"""What one environment owns on this machine: `<app_path>/.fraisier/` with its lock, token, owner and scopes.

Whoever changes the environment holds the lock and has the token that was written last. A worker that was
paused and replaced finds a higher token when it wakes, and is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from fraisier.application.ports import Ground
from fraisier.domain.errors import Cause, ForeignOwner, StepFailed, TokenOutdated
from fraisier.domain.release import OURS, Layout
from fraisier.hosts import files
from fraisier.hosts.failures import os_failure

LOCK_PATIENCE = 100.0  # seconds; the longest short act, a unit's restart, holds the lock for 90
_POLL = 0.01


def prepare(ground: Ground) -> None:
    """Create `app_path` and the folders in it, where they are missing.

    Raises:
        StepFailed: preflight, if we may not, or if somebody else put a `.fraisier` there.
    """
    layout = Layout(ground.app_path)
    own = Path(layout.own)
    foreign = set(files.names(layout.app_path)) - OURS  # a person's files: preflight will have a word
    for folder in (layout.app_path, *(() if foreign else (layout.releases, layout.shared))):
        if not Path(folder).is_dir():
            files.make_folder(folder, "", 0o755)
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        _check_ours(own)
        for inner in (scopes_folder(ground), own / "releases"):
            with files.ours(str(inner)) as found:
                found.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise os_failure(f"cannot create {own}", error) from error


def _check_ours(own: Path) -> None:
    found = own.lstat()
    if own.is_symlink() or not own.is_dir() or found.st_uid != os.geteuid():
        message = f"cannot use {own}: it is no folder of Fraisier's own user (uid {found.st_uid} owns it)"
        hint = f"Run as the user that owns it, or, if nobody needs it: sudo rm -rf {own}"
        raise StepFailed(Cause.owner, message, hint)


def scopes_folder(ground: Ground) -> Path:
    """Where the environment's running scopes are recorded, a file each."""
    return Path(Layout(ground.app_path).own, "scopes")


@contextmanager
def locked(ground: Ground, patience: float = LOCK_PATIENCE) -> Iterator[None]:
    """Hold the environment's lock.

    Raises:
        TokenOutdated: there is no lock; the environment was removed, or never taken over.
        StepFailed: host, if somebody else holds it for longer than `patience` seconds; cancelled, if
            `ground.halt` is set meanwhile.
    """
    descriptor = _lock(Path(Layout(ground.app_path).own, "lock"), patience, ground.halt)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, patience: float, halt: Event) -> int:
    until = time.monotonic() + patience
    while True:
        descriptor = _open_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            if _is_still(path, descriptor):
                return descriptor
            os.close(descriptor)
        if time.monotonic() > until:
            message = f"cannot lock {path}: another process has held it for {patience:g} s"
            raise StepFailed(
                Cause.host, message, f"See which one, and whether it is stopped: fuser -v {path}"
            )
        if halt.wait(_POLL):
            raise StepFailed(Cause.cancelled, f"cannot lock {path}: stopped while another process holds it")


def _open_lock(path: Path) -> int:
    try:
        with files.ours(str(path)) as found:
            return os.open(found, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError as error:
        raise never_adopted(path.parent) from error
    except OSError as error:
        raise os_failure(f"cannot open {path}", error) from error


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the locked file is the one that others would lock: the folder may have been replaced."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def check(ground: Ground) -> None:
    """Return if the environment is still ours; call only while holding the lock.

    Raises:
        TokenOutdated: another worker, or another installation, has taken over.
    """
    newest, owner = token(ground), owner_of(ground)
    if newest is None:
        raise never_adopted(Path(Layout(ground.app_path).own))
    if newest != ground.token or owner != dict(ground.owner):
        raise outdated(ground, newest)


def outdated(ground: Ground, newest: object) -> TokenOutdated:
    """The refusal of one who was replaced."""
    message = f"cannot change {ground.app_path}: it was taken over (token {ground.token}, now {newest})"
    return TokenOutdated(message, "Another worker goes on with it; nothing is to do here")


def never_adopted(own: Path) -> TokenOutdated:
    """The refusal where there is no lock."""
    return TokenOutdated(f"cannot change {own.parent}: it was not taken over", "The next attempt does that")


def take(ground: Ground, *, force: bool) -> None:
    """Write our owner and token; call only while holding the lock.

    Raises:
        ForeignOwner: see `refuse_others`.
    """
    newest, owner = token(ground), owner_of(ground)
    refuse_others(ground, newest, owner, force=force)
    own = Layout(ground.app_path).own
    # The token first: should we die in between, nobody who was outdated before has become valid again.
    files.write(f"{own}/token", f"{ground.token}\n".encode(), 0o600, sync=not ground.fleeting)
    if owner != dict(ground.owner):
        files.write(f"{own}/owner", owner_text(ground) + b"\n", 0o600)


def owner_text(ground: Ground) -> bytes:
    """Our owner as it is written: one spelling, which is compared as it is where there is no JSON."""
    return json.dumps(dict(ground.owner), sort_keys=True).encode()


def refuse_others(
    ground: Ground, newest: int | None, owner: Mapping[str, str] | None, *, force: bool
) -> None:
    """Return if we may take over where this token and owner were written last.

    Raises:
        ForeignOwner: another owner's, and not `force`; or the token there is above ours, unless `force` takes
            it from another owner. An adoption that was overtaken by a later one of our own is none any more.
    """
    if owner is not None and owner != dict(ground.owner) and not force:
        raise _foreign(ground, f"it belongs to {_spell(owner)}, and we are {_spell(ground.owner)}")
    taken_away = force and owner != dict(ground.owner)
    if newest is not None and newest > ground.token and not taken_away:
        why = f"its token is {newest}, above ours ({ground.token}): a restored backup, or a second machine"
        raise _foreign(ground, why)


def remove_halves(ground: Ground) -> None:
    """Remove files that a killed worker had only begun to write; call only while holding the lock."""
    own = Path(Layout(ground.app_path).own)
    for folder in filter(Path.is_dir, (own, own / "releases", own / "instances", scopes_folder(ground))):
        with files.ours(f"{folder}/*") as found:
            for half in found.parent.glob(".*"):
                half.unlink(missing_ok=True)


def _foreign(ground: Ground, why: str) -> ForeignOwner:
    fraise, environment = ground.owner.get("fraise", "FRAISE"), ground.owner.get("environment", "ENVIRONMENT")
    hint = f"If it is to be ours from now on: fraisier adopt {fraise} {environment}"
    return ForeignOwner(f"cannot take over {ground.app_path}: {why}", hint)


def _spell(owner: Mapping[str, str]) -> str:
    place = "/".join(owner.get(word, "?") for word in ("fraise", "environment"))
    return f"{place} of installation {owner.get('installation', '?')}"


def token(ground: Ground) -> int | None:
    """The token that was written last; None: none yet."""
    return parsed_token(_read_own(ground, "token"))


def parsed_token(data: bytes | None) -> int | None:
    """The token in the file of its name; None: none."""
    try:
        return None if data is None else int(data)
    except ValueError:
        return None  # never half written by us; somebody else's hand is overruled by the next takeover


def owner_of(ground: Ground) -> dict[str, str] | None:
    """Who the environment belongs to; None: nobody yet."""
    return parsed_owner(_read_own(ground, "owner"))


def parsed_owner(data: bytes | None) -> dict[str, str] | None:
    """The owner in the file of that name; None: none."""
    try:
        found = json.loads(data or b"null")
    except ValueError:
        return None
    return {str(word): str(value) for word, value in found.items()} if isinstance(found, dict) else None


def _read_own(ground: Ground, name: str) -> bytes | None:
    try:
        with files.ours(f"{Layout(ground.app_path).own}/{name}") as found:
            return found.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_failure(f"cannot read {name} in {Layout(ground.app_path).own}", error) from error
