"""rsync over SSH: another machine, which has rsync, sh and coreutils.

A backup is sent into a folder with a name of its own, synced, then renamed: what has a backup's name is
whole.
The host key has to be known, and nobody is asked for a password.
https://download.samba.org/pub/rsync/rsync.1
"""

from __future__ import annotations

import base64
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence

from fraisier.application.hear import below, hear, look
from fraisier.application.ports import Desk, Problem
from fraisier.backup_places.words import LISTED, SUMS, at_a_desk, checked, sums
from fraisier.domain.acts import Command
from fraisier.domain.backup import NAME, Destination
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.secret import Secret

_PLACE = re.compile(
    r"(?P<who>(?:[A-Za-z_][A-Za-z0-9_.-]*@)?(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-f:]+\])):(?P<folder>\S.*)\Z"
)
_ALIVE = 15  # seconds without an answer, four times over, after which a connection is given up

# What runs over there; its words are quoted for that machine's shell. Half backups of others are nobody's: an
# environment makes one backup at a time.
_PREPARE = """
set -eu
umask 077
mkdir -p -- "$1"
cd -- "$1"
for old in .*.part; do [ "$old" = ".$2.part" ] || rm -rf -- "$old"; done
[ ! -e "$2" ] || { echo "$1/$2 is there already" >&2; exit 1; }
free=$(df -Pk -- . | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$3" ] || { echo "No space left on device: $3 KiB are needed, $free are free" >&2; exit 1; }
"""
_FINISH = """
set -eu
cd -- "$1"
find ".$2.part" -type f -exec sync {} + && sync -- ".$2.part"
mv -T -- ".$2.part" "$2"
sync -- .
"""
_NAMES = f"""
set -eu
[ -e "$1" ] || {{ [ -d "$2" ] && exit 0; echo "there is no folder $2" >&2; exit 1; }}
cd -- "$1"
{LISTED}"""
_READ = '[ -f "$1" ] || { echo "there is no file $1" >&2; exit 1; }; base64 -w 0 -- "$1"'
_REMOVE = """
set -eu
cd -- "$1" 2>/dev/null || exit 0
shift
for name; do
    rm -f -- "$name/manifest.json"
    rm -rf -- "$name"
done
sync -- .
"""
_LOOK = """
place=$1
command -v rsync >/dev/null || echo "rsync is not there"
while [ ! -e "$place" ]; do place=$(dirname -- "$place"); done
[ -d "$place" ] && [ -w "$place" ] && [ -x "$place" ] || echo "$(id -un) may not write to $place"
"""
# Here: $1 is the folder, $2 where to; the rest are options. FRAISIER_SSH is how to get there.
_SEND = """
command -v rsync >/dev/null || { echo "there is no rsync here: install it" >&2; exit 1; }
from=$1 to=$2
shift 2
exec rsync --recursive --times --partial-dir=.partial --chmod=D700,F600 --timeout=120 \\
    --rsh="$FRAISIER_SSH" "$@" -- "$from/" "$to/"
"""
_FETCH = """
command -v rsync >/dev/null || { echo "there is no rsync here: install it" >&2; exit 1; }
from=$1 to=$2
shift 2
exec rsync --recursive --times --chmod=D700,F600 --timeout=120 --rsh="$FRAISIER_SSH" "$@" -- "$from/" "$to/"
"""
_OVER_THERE = """
ssh=$1
shift
exec $FRAISIER_SSH "$ssh" "$@"
"""


class Rsync:
    """`place`: [user@]host:folder. Options: `identity_file`, `known_hosts`, `port`, `bandwidth` (KiB/s)."""

    kind = "rsync"

    def store(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """Send, sync there, rename there."""
        doing = f"keep {name} in {place.place}"
        where, ours = _where(place, desk)
        needed = hear(desk, at_a_desk(desk, 'du -sk -- "$1" | cut -f 1', folder), doing=doing).strip()
        hear(desk, _there(place, desk, _PREPARE, ours, name, needed), doing=doing, hint=_HINT)
        to = f"{where}:{ours}/.{name}.part"
        hear(desk, _rsync(place, desk, _SEND, folder, to), doing=doing, hint=_HINT)
        hear(desk, _there(place, desk, _FINISH, ours, name), doing=doing, hint=_HINT)

    def names(self, place: Destination, desk: Desk) -> Sequence[str]:
        """Folders there with a backup's name and a manifest."""
        _, ours = _where(place, desk)
        command = _there(place, desk, _NAMES, ours, _parts(place)[1])
        found = hear(desk, command, doing=f"list the backups in {place.place}", hint=_HINT)
        return sorted(name for name in found.splitlines() if NAME.match(name))

    def read(self, place: Destination, name: str, file: str, desk: Desk) -> bytes:
        """A small file."""
        path = posixpath.join(_where(place, desk)[1], name, file)
        doing = f"read {file} of {name} in {place.place}"
        return base64.b64decode(hear(desk, _there(place, desk, _READ, path), doing=doing, hint=_HINT))

    def look(
        self, place: Destination, name: str, files: Sequence[str], desk: Desk
    ) -> Mapping[str, tuple[int, str]]:
        """Read there, by its sha256sum."""
        path = posixpath.join(_where(place, desk)[1], name)
        doing = f"look at {name} in {place.place}"
        return sums(hear(desk, _there(place, desk, SUMS, path, *files), doing=doing, hint=_HINT))

    def fetch(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """Copy back."""
        where, ours = _where(place, desk)
        command = _rsync(place, desk, _FETCH, f"{where}:{ours}/{name}", folder)
        hear(desk, command, doing=f"fetch {name} from {place.place}", hint=_HINT)

    def remove(self, place: Destination, names: Sequence[str], desk: Desk) -> None:
        """The manifest first, then the rest."""
        command = _there(place, desk, _REMOVE, _where(place, desk)[1], *map(checked, names))
        hear(desk, command, doing=f"remove backups from {place.place}", hint=_HINT)

    def problems(self, place: Destination, desk: Desk) -> Sequence[Problem]:
        """A host key that is not known, an identity that is refused, a folder that cannot be written to."""
        command = _there(place, desk, _LOOK, _where(place, desk)[1], timeout=60.0)
        code, answer, complaints = look(desk, command)
        lines = answer.strip().splitlines() or (complaints.strip().splitlines()[-1:] if code else [])
        return [Problem(f"cannot keep backups in {place.place}: {line}", _HINT) for line in lines]


_HINT = "See that the environment's user may log in there: its key, `known_hosts`, and the folder's owner"


def _parts(place: Destination) -> tuple[str, str]:
    """Who and where, and the folder there.

    Raises:
        StepFailed: preflight, where `place` is not [user@]host:folder.
    """
    found = _PLACE.match(place.place)
    if not found:
        message = f"cannot keep backups in {place.place}: it is not [user@]host:folder"
        raise StepFailed(Cause.preflight, message, "Correct `place` in fraises.yaml")
    return found["who"], found["folder"].rstrip("/") or "/"


def _where(place: Destination, desk: Desk) -> tuple[str, str]:
    who, folder = _parts(place)
    return who, below(folder, desk.environment)


def _ssh(place: Destination) -> str:
    """How to get there: a line that sh, and rsync, take apart at its blanks."""
    known = _option(place, "known_hosts")
    words = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"]
    words += ["-o", f"ServerAliveInterval={_ALIVE}", "-o", "ServerAliveCountMax=4"]
    words += ["-i", _option(place, "identity_file"), "-o", "IdentitiesOnly=yes"] * bool(
        _option(place, "identity_file")
    )
    words += ["-o", f"UserKnownHostsFile={known}"] * bool(known)
    words += ["-p", _option(place, "port")] * bool(_option(place, "port"))
    if any(" " in word or "'" in word for word in words):
        message = f"cannot reach {place.place}: paths of its keys may have neither blanks nor quotes"
        raise StepFailed(Cause.preflight, message, "Put the key elsewhere")
    return " ".join(words)


def _option(place: Destination, name: str) -> str:
    value = place.options.get(name, "")
    return value.reveal() if isinstance(value, Secret) else value


def _rsync(place: Destination, desk: Desk, text: str, source: str, to: str) -> Command:
    limit = _option(place, "bandwidth")
    options = [f"--bwlimit={limit}"] if limit else []
    # Folders' names go as they are, without a shell over there.
    words = (source, to, "--protect-args", *options)
    return at_a_desk(desk, text, *words, env={"FRAISIER_SSH": _ssh(place)})


def _there(place: Destination, desk: Desk, text: str, *words: str, timeout: float = 0.0) -> Command:
    """A program for the sh of that machine."""
    line = shlex.join(("/bin/sh", "-c", text.strip(), "backup", *words))
    who = _parts(place)[0].replace("[", "").replace("]", "")
    return at_a_desk(desk, _OVER_THERE, who, line, env={"FRAISIER_SSH": _ssh(place)}, timeout=timeout)
