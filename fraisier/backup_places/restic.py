"""restic: a repository of its own kind, which is encrypted, deduplicated, and checks what it reads.

Its password comes by the environment, or by a file on the host. A backup is a snapshot, which exists whole or
not at all; what an interrupted one has left in the repository goes with the next `prune`.
https://restic.readthedocs.io/en/stable/075_scripting.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fraisier.application.hear import hear, look
from fraisier.application.ports import Desk, Problem
from fraisier.backup_places.words import at_a_desk, checked, sums
from fraisier.domain.acts import Command
from fraisier.domain.backup import NAME, Destination
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.secret import Secret

_HOST = "fraisier"  # the name in all snapshots: which machine makes a backup may change
_RESTIC = """
set -eu
umask 077
command -v restic >/dev/null || { echo "there is no restic here: install it" >&2; exit 1; }
restic() { command restic --quiet ${RESTIC_CACHE_DIR:+"--cache-dir=$RESTIC_CACHE_DIR"} "$@"; }
# Without a home there is no place for its cache; it works without one.
if [ ! -w "${HOME:-/nonexistent}" ]; then restic() { command restic --quiet --no-cache "$@"; }; fi
patiently() {
    tries=120
    until said=$(restic "$@" 2>&1); do
        case $said in *"already locked"*) tries=$((tries - 1)) ;; *) tries=0 ;; esac
        [ "$tries" -gt 0 ] || { printf '%s\\n' "$said" >&2; return 1; }
        sleep 5
    done
    [ -z "$said" ] || printf '%s\\n' "$said" >&2
}
"""
# Only locks of processes that are gone, or of more than 30 minutes, are removed by `unlock`: those of others
# stay, and are waited for. Where a file could not be read there is a snapshot without it: it goes at once.
# $1: the folder; $2: the backup's name; $3: the environment. A repository that is not there yet is made.
_STORE = f"""{_RESTIC}
if ! said=$(restic cat config 2>&1); then
    case $said in
    *"Is there a repository at the following location"*|*"repository does not exist"*) restic init ;;
    *) printf '%s\\n' "$said" >&2; exit 1 ;;
    esac
fi
restic unlock
cd -- "$1"
patiently backup --host {_HOST} --tag fraisier --tag "environment=$3" --tag "name=$2" . || {{
    half=$(restic snapshots --json --tag "environment=$3,name=$2" | tr -d '\\n')
    half=$(printf '%s\\n' "$half" | sed -n 's/.*"id":"\\([0-9a-f]*\\)".*/\\1/p')
    [ -z "$half" ] || restic forget "$half" >&2
    exit 1
}}
"""
_SNAPSHOTS = f"""{_RESTIC}
restic snapshots --no-lock --json --host {_HOST} --tag "fraisier,environment=$1"
"""
# $1: the snapshot; $2: the file.
_READ = f"""{_RESTIC}
restic dump --no-lock "$1" "/$2" | base64 -w 0
"""
# $1: the snapshot; $2: what part of the repository is read again besides, '' = none; the rest: files.
# `is_damaged FILE`: whether, by what restic said, the repository's data are to blame for certain. What comes
# over a network may end too soon as well; a file does not.
_LOOK = f"""{_RESTIC}
is_damaged() {{
    restic cat config --no-lock >/dev/null 2>&1 || return 1
    why="no such file or directory|does not exist"
    case $RESTIC_REPOSITORY in /* | local:*) why="$why|EOF" ;; esac
    grep -qE "ciphertext verification failed|<data/[0-9a-f]+>.*($why)" "$1"
}}
[ -z "$2" ] || {{ restic unlock; patiently check --read-data-subset="$2"; }}
snapshot=$1
shift 2
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
there=$(restic ls --no-lock "$snapshot" 2>"$work/said") ||
    {{ cat "$work/said" >&2; is_damaged "$work/said" || exit 1; }}
mkfifo "$work/pipe"
for file; do
    printf '%s\\n' "$there" | grep -qxF -e "/$file" || continue
    rm -f "$work/failed"
    sha256sum <"$work/pipe" >"$work/sum" &
    bytes=$({{ restic dump --no-lock "$snapshot" "/$file" 2>"$work/said" || echo >"$work/failed"; }} |
        tee "$work/pipe" | wc -c)
    wait
    if [ -e "$work/failed" ]; then
        cat "$work/said" >&2
        is_damaged "$work/said" || exit 1
        continue  # the next file may be whole
    fi
    read -r sum rest <"$work/sum"
    printf '%s %s %s\\n' "$bytes" "$sum" "$file"
done
"""
_FETCH = f"""{_RESTIC}
restic restore --no-lock "$1" --target "$2" >&2
"""
_REMOVE = f"""{_RESTIC}
restic unlock
patiently forget --prune "$@"
"""
_PROBLEMS = f"""{_RESTIC}
restic cat config 2>&1 >/dev/null
"""


class Restic:
    """`place`: a repository, as restic names it. Options: `password`, or `password_file`, on the host;
    `check_subset` (e.g. `5%`, `1/20`): how much of the repository each look reads besides.

    Credentials of where the repository is come from the environment's `env` or `env_file`.
    """

    kind = "restic"

    def store(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """One snapshot."""
        command = _restic(place, desk, _STORE, folder, name, str(desk.environment.key))
        hear(desk, command, doing=f"keep {name} in {place.place}", hint=_HINT)

    def names(self, place: Destination, desk: Desk) -> Sequence[str]:
        """Snapshots with our tags."""
        return sorted(self._snapshots(place, desk, f"list the backups in {place.place}"))

    def read(self, place: Destination, name: str, file: str, desk: Desk) -> bytes:
        """A small file."""
        doing = f"read {file} of {name} in {place.place}"
        command = _restic(place, desk, _READ, self._snapshot(place, name, desk, doing), file)
        return base64.b64decode(hear(desk, command, doing=doing, hint=_HINT))

    def look(
        self, place: Destination, name: str, files: Sequence[str], desk: Desk
    ) -> Mapping[str, tuple[int, str]]:
        """Each file is put together again, which restic does only of pieces whose checksums are right."""
        doing = f"look at {name} in {place.place}"
        subset = _option(place, "check_subset")
        words = (self._snapshot(place, name, desk, doing), subset, *files)
        return sums(hear(desk, _restic(place, desk, _LOOK, *words), doing=doing, hint=_HINT))

    def fetch(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """`restic restore`."""
        doing = f"fetch {name} from {place.place}"
        words = (self._snapshot(place, name, desk, doing), folder)
        hear(desk, _restic(place, desk, _FETCH, *words), doing=doing, hint=_HINT)

    def remove(self, place: Destination, names: Sequence[str], desk: Desk) -> None:
        """Forget these snapshots, no others, and remove what nothing needs any more."""
        gone = [checked(name) for name in names]
        doing = f"remove backups from {place.place}"
        known = self._snapshots(place, desk, doing)
        ids = [known[name] for name in gone if name in known]
        if ids:
            hear(desk, _restic(place, desk, _REMOVE, *ids), doing=doing, hint=_HINT)

    def problems(self, place: Destination, desk: Desk) -> Sequence[Problem]:
        """No restic, a wrong password. A repository that is not there yet is made by the first backup."""
        code, answer, complaints = look(desk, _restic(place, desk, _PROBLEMS, timeout=60.0))
        said = (answer + complaints).strip()
        if code == 0 or _MISSING in said:
            return []
        why = (said.splitlines() or ["it does not answer"])[-1]
        return [Problem(f"cannot keep backups in {place.place}: {why}", _HINT)]

    def _snapshot(self, place: Destination, name: str, desk: Desk, doing: str) -> str:
        found = self._snapshots(place, desk, doing).get(checked(name))
        if not found:
            raise StepFailed(Cause.backup, f"cannot {doing}: there is no such backup")
        return found

    def _snapshots(self, place: Destination, desk: Desk, doing: str) -> dict[str, str]:
        """Backups by name, and their snapshots' ids."""
        command = _restic(place, desk, _SNAPSHOTS, str(desk.environment.key))
        try:
            said = hear(desk, command, doing=doing, hint=_HINT)
            snapshots: list[dict[str, Any]] = json.loads(said) or []
            return {name: str(each["id"]) for each in snapshots if (name := _name(each))}
        except (ValueError, KeyError, TypeError) as error:
            message = f"cannot {doing}: what restic says of its snapshots cannot be understood"
            raise StepFailed(Cause.backup, message, _HINT) from error


_MISSING = "Is there a repository at the following location"
_HINT = "See its password, and that the environment's user may reach the repository"


def _name(snapshot: Mapping[str, Any]) -> str:
    tags = (str(tag).removeprefix("name=") for tag in snapshot.get("tags") or () if str(tag)[:5] == "name=")
    return next(filter(NAME.match, tags), "")


def _option(place: Destination, name: str) -> str:
    value = place.options.get(name, "")
    return value.reveal() if isinstance(value, Secret) else value


def _restic(place: Destination, desk: Desk, text: str, *words: str, timeout: float = 0.0) -> Command:
    env: dict[str, str | Secret] = {"RESTIC_REPOSITORY": place.place}
    if place.options.get("password"):
        env["RESTIC_PASSWORD"] = Secret(_option(place, "password"), f"password of {place.name}")
    elif place.options.get("password_file"):
        env["RESTIC_PASSWORD_FILE"] = _option(place, "password_file")
    return at_a_desk(desk, text, *words, env=env, timeout=timeout)
