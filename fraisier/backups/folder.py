"""A folder: a tar archive of it, compressed by zstd where the host has it, else by gzip.

Links are kept as links, holes stay holes, owners are kept as numbers. GNU tar exits with 1 where files
changed or went while it read them, and with 2 where it could not read one: the first is told, the second is a
failure.
https://www.gnu.org/software/tar/manual/html_section/Synopsis.html
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from fraisier.application.hear import look
from fraisier.application.ports import Desk, Problem
from fraisier.backups.script import PACKING, QUIETLY, script
from fraisier.domain.acts import Command
from fraisier.domain.backup import Source

# What a restore works with lies inside of the folder, whose parent may be somebody else's.
_NEW, _OLD = ".fraisier-restore", ".fraisier-replaced"

# $2: the folder; the rest: options of tar. sh knows only the exit code of a pipe's last program, so that of
# tar comes in a file.
_SCRIPT = script(
    make=f"""{PACKING}
file=$1 folder=$2
shift 2
[ -d "$folder" ] || {{ echo "there is no folder $folder" >&2; exit 1; }}
{{
    LC_ALL=C tar --create --file=- --directory="$folder" --sparse --numeric-owner "$@" . 2>"$part.said" &&
        code=0 || code=$?
    echo "$code" >"$part.code"
}} | pack >"$part"
set -- "$file"
read -r code <"$part.code"
[ "$code" -le 1 ] || {{ cat "$part.said" >&2; exit 1; }}
if [ "$code" = 1 ]; then
    head -n 20 "$part.said" >"$part.first"
    while read -r line; do tell "${{line#tar: }}"; done <"$part.first"
fi
""",
    verify="""
entries=$({ unpack "$part" || echo >"$part.bad"; } |
    { LC_ALL=C tar --list --verbose --file=- || echo >"$part.bad"; } | grep -vc '^d' || true)
[ ! -e "$part.bad" ] || { echo "the archive is damaged" >&2; exit 1; }
also=", \\"tables\\": {\\"files\\": $entries}"
""",
)
_UNPACK = f"""
set -eu
{PACKING}
bring() {{
    {{ unpack "$1" || echo >"$2.bad"; }} |
        {{ tar --extract --file=- --directory="$2" --preserve-permissions --numeric-owner ||
            echo >"$2.bad"; }}
    [ ! -e "$2.bad" ] || {{ rm -f "$2.bad"; return 1; }}
}}
"""
_INTO_SCRATCH = _UNPACK + 'bring "$1" "$2"\n'
# $1: the archive; $2: the folder, whose content is replaced when all of the new one is there.
_IN_PLACE = f"""{_UNPACK}
mkdir -p "$2"
new=$2/{_NEW}.$$ old=$2/{_OLD}.$$
rm -rf "$2"/{_NEW}.*
mkdir -m 0700 "$new" "$old"
move() {{
    for entry in "$1"/..?* "$1"/.[!.]* "$1"/*; do
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        case ${{entry##*/}} in {_NEW}.*|{_OLD}.*) continue ;; esac
        mv "$entry" "$2/" || return 1
    done
}}
bring "$1" "$new" || {{ rm -rf "$new" "$old"; echo "cannot unpack $1: nothing was changed" >&2; exit 1; }}
sync -f "$new"
move "$2" "$old" || {{
    move "$old" "$2"
    rm -rf "$new" "$old"
    echo "cannot replace $2: it is as before" >&2
    exit 1
}}
move "$new" "$2"
chmod --reference="$new" "$2"
sync -f "$2"
rm -rf "$2"/{_NEW}.* "$2"/{_OLD}.*
"""
_ASK = f"""{QUIETLY}
cd "$1" && quietly /bin/sh -c "$2"
"""
_LOOK = """
command -v tar >/dev/null || echo "tar is not there"
command -v zstd >/dev/null || command -v gzip >/dev/null || echo "neither zstd nor gzip is there"
if [ ! -d "$1" ]; then echo "there is no folder $1"
elif [ ! -r "$1" ] || [ ! -x "$1" ]; then echo "$(id -un) may not read $1"; fi
"""


class Folder:
    """`path`: absolute, or in the release. `to` is another folder."""

    kind = "folder"
    suffix = ".tar.packed"

    def dump_source(self, source: Source, file: str, *, timeout: float) -> Command:
        """Everything below the folder but what `exclude` names; its rows are `files`: what is no folder."""
        options = [f"--exclude={_NEW}.*", f"--exclude={_OLD}.*"]
        for pattern in source.exclude:
            plain = pattern.rstrip("/")
            if plain.startswith("/"):
                options += ["--anchored", f"--exclude=.{plain}", "--no-anchored"]
            elif plain:
                options.append(f"--exclude={plain}")
        return _command(_SCRIPT, file, source.path, *options, timeout=timeout)

    def restore(self, source: Source, file: str, to: str, *, timeout: float) -> Command:
        """In place, what is there goes when all that comes has been unpacked beside it, and not before."""
        if to:
            return _command(_INTO_SCRATCH, file, to, timeout=timeout)
        return _command(_IN_PLACE, file, source.path, timeout=timeout)

    def scratch(self, source: Source, folder: str, run: str) -> str:
        """A folder of its own."""
        return posixpath.join(folder, f"scratch-{source.name}-{run[:8]}")

    def make_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """Make it; those of earlier runs went with the folder that they were in."""
        return _command('mkdir -p -m 0700 -- "$1"', to, timeout=timeout)

    def drop_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """Remove it."""
        return _command('rm -rf -- "$1"', to, timeout=timeout)

    def count(self, source: Source, to: str, *, timeout: float) -> Command:
        """Everything but folders."""
        text = r"""printf '{"tables": {"files": %s}}\n' "$(find "$1" ! -type d -printf x | wc -c)" """
        return _command(text.strip(), to or source.path, timeout=timeout)

    def beside(self, source: Source, to: str, *, timeout: float) -> Command:
        """Folders."""
        text = r"""printf '{"beside": {"folders": %s}}\n' "$(find "$1" -mindepth 1 -type d | wc -l)" """
        return _command(text.strip(), to or source.path, timeout=timeout)

    def ask(self, source: Source, to: str, *, timeout: float) -> Command:
        """`query` is a shell line, performed in the folder."""
        return _command(_ASK, to or source.path, source.query, timeout=timeout)

    def problems(self, source: Source, desk: Desk) -> Sequence[Problem]:
        """No such folder, or one that the environment's user may not read."""
        _, answer, complaints = look(desk, _command(_LOOK, source.path, timeout=30.0))
        hint = f"See `path` of the source {source.name}, and that the environment's user may read it"
        lines = (answer or complaints).strip().splitlines()
        return [Problem(f"cannot back up {source.name}: {line}", hint) for line in lines]


def _command(text: str, *words: str, timeout: float) -> Command:
    return Command(argv=("/bin/sh", "-c", text, "backup", *words), timeout=timeout, background=True)
