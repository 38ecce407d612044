"""What all places have in common: how their programs for sh are run, and what these print."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.application.ports import Desk
from fraisier.domain.acts import Command
from fraisier.domain.backup import NAME
from fraisier.domain.secret import Secret

# $1: the backup's folder; the rest: files. One line each: bytes, checksum, name; nothing for one that is not
# there. One that is, and cannot be read, is no answer.
SUMS = """
set -eu
export LC_ALL=C
is_there() {
    said=$(stat -c %s -- "$1" 2>&1) && return 0
    case $said in *"No such file or directory" | *"Not a directory") return 1 ;; esac
    printf '%s\\n' "$said" >&2
    exit 1
}
is_there "$1/." || exit 0
cd -- "$1"
shift
for file; do
    is_there "$file" && [ -f "$file" ] || continue
    sum=$(sha256sum <"$file")
    printf '%s %s %s\\n' "$(stat -c %s -- "$file")" "${sum%% *}" "$file"
done
"""
# Of the folders here, those with a manifest, and those into which nobody lets us look: it may be there.
LISTED = """
for name in *; do
    if [ -s "$name/manifest.json" ] || { [ -d "$name" ] && [ ! -x "$name" ]; }; then
        printf '%s\\n' "$name"
    fi
done
"""


def sums(said: str) -> Mapping[str, tuple[int, str]]:
    """What `SUMS` printed."""
    found = {}
    for line in said.splitlines():
        size, digest, name = line.split(" ", 2)
        found[name] = (int(size), digest)
    return found


def at_a_desk(
    desk: Desk, text: str, *words: str, env: Mapping[str, str | Secret] | None = None, timeout: float = 0.0
) -> Command:
    """A program for sh with its words, which are never secret; within the job's time."""
    argv = ("/bin/sh", "-c", text, "backup", *words)
    return Command(argv=argv, env=env or {}, timeout=timeout or desk.job.timeout, background=True)


def checked(name: str) -> str:
    """A backup's name: nothing else is ever removed.

    Raises:
        ValueError: it is none.
    """
    if not NAME.match(name):
        message = f"not the name of a backup: {name!r}"
        raise ValueError(message)
    return name
