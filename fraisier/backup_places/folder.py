"""A folder on the environment's host: a disk of its own, or what is mounted there.

A backup is copied beside its place, synced, then renamed into it: what has a name is whole.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Mapping, Sequence

from fraisier.application.hear import below, hear, look
from fraisier.application.ports import Desk, Problem
from fraisier.backup_places.words import LISTED, SUMS, at_a_desk, checked, sums
from fraisier.domain.backup import NAME, Destination

# $1: the environment's folder; $2: the backup's name; $3: what is copied. Half copies of others are nobody's:
# an environment makes one backup at a time.
_STORE = """
set -eu
umask 077
mkdir -p -- "$1"
rm -rf -- "$1"/.*.part
trap 'rm -rf -- "$1/.$2.part"' EXIT
[ ! -e "$1/$2" ] || { echo "$1/$2 is there already" >&2; exit 1; }
needed=$(du -sk -- "$3" | cut -f 1) free=$(df -Pk -- "$1" | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$needed" ] ||
    { echo "No space left on device: $needed KiB are needed, $free are free" >&2; exit 1; }
mkdir -- "$1/.$2.part"
cp -R -P --reflink=auto --sparse=auto -- "$3/." "$1/.$2.part/"
find "$1/.$2.part" -type f -exec sync {} +
sync -- "$1/.$2.part"
mv -T -- "$1/.$2.part" "$1/$2"
sync -- "$1"
"""
_NAMES = f"""
set -eu
[ -e "$1" ] || {{ [ -d "$2" ] && exit 0; echo "there is no folder $2" >&2; exit 1; }}
cd -- "$1"
{LISTED}"""
_READ = '[ -f "$1" ] || { echo "there is no file $1" >&2; exit 1; }; base64 -w 0 -- "$1"'
_FETCH = """
set -eu
[ -d "$1" ] || { echo "there is no backup $1" >&2; exit 1; }
umask 077
cp -R -P --reflink=auto --sparse=auto -- "$1/." "$2/"
"""
# A folder that is being removed has no manifest any more: it is no backup.
_REMOVE = """
set -eu
folder=$1
shift
for name; do
    rm -f -- "$folder/$name/manifest.json"
    rm -rf -- "$folder/$name"
done
[ ! -d "$folder" ] || sync -- "$folder"
"""
_LOOK = """
place=$1
while [ ! -e "$place" ]; do place=$(dirname -- "$place"); done
[ -d "$place" ] && [ -w "$place" ] && [ -x "$place" ] || echo "$(id -un) may not write to $place"
"""


class FolderPlace:
    """`place`: an absolute path; each environment has a folder of its own in it."""

    kind = "folder"

    def store(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """Copy, sync, rename.

        Raises:
            StepFailed: disk, where there is no room, which is known before; backup.
        """
        command = at_a_desk(desk, _STORE, _of(place, desk), name, folder)
        hear(desk, command, doing=f"keep {name} in {place.place}")

    def names(self, place: Destination, desk: Desk) -> Sequence[str]:
        """Folders with a backup's name and a manifest.

        Raises:
            StepFailed: backup, where the place itself is not there: a disk that is not mounted has not lost
                its backups.
        """
        command = at_a_desk(desk, _NAMES, _of(place, desk), place.place)
        found = hear(desk, command, doing=f"list the backups in {place.place}", hint="See that it is mounted")
        return sorted(name for name in found.splitlines() if NAME.match(name))

    def read(self, place: Destination, name: str, file: str, desk: Desk) -> bytes:
        """A small file."""
        path = posixpath.join(_of(place, desk), name, file)
        said = hear(desk, at_a_desk(desk, _READ, path), doing=f"read {file} of {name} in {place.place}")
        return base64.b64decode(said)

    def look(
        self, place: Destination, name: str, files: Sequence[str], desk: Desk
    ) -> Mapping[str, tuple[int, str]]:
        """Read there, by sha256sum."""
        path = posixpath.join(_of(place, desk), name)
        said = hear(desk, at_a_desk(desk, SUMS, path, *files), doing=f"look at {name} in {place.place}")
        return sums(said)

    def fetch(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """Copy back."""
        path = posixpath.join(_of(place, desk), name)
        hear(desk, at_a_desk(desk, _FETCH, path, folder), doing=f"fetch {name} from {place.place}")

    def remove(self, place: Destination, names: Sequence[str], desk: Desk) -> None:
        """The manifest first, then the rest."""
        command = at_a_desk(desk, _REMOVE, _of(place, desk), *map(checked, names))
        hear(desk, command, doing=f"remove backups from {place.place}")

    def problems(self, place: Destination, desk: Desk) -> Sequence[Problem]:
        """A folder that cannot be written to."""
        _, answer, complaints = look(desk, at_a_desk(desk, _LOOK, _of(place, desk), timeout=30.0))
        hint = "Make the folder, and give it to the environment's user"
        lines = (answer or complaints).strip().splitlines()
        return [Problem(f"cannot keep backups in {place.place}: {line}", hint) for line in lines]


def _of(place: Destination, desk: Desk) -> str:
    return below(place.place, desk.environment)
