"""What all dumps have in common: written beside their place, verified, synced, then renamed into it.

The programs are for sh and what every host has; no secret is among their words.
"""

from __future__ import annotations

# $1 is the file; MAKE writes "$part" and VERIFY sets `entries`, both with `set -e`. Nobody else may read a
# dump. What fails leaves no half file; a kill leaves `$part` and what begins so, which the next dump removes.
# While it is read back, its checksum is made and the disk writes: neither waits for the other.
# `also` is what the line has besides; `tell LINE` is for what a person should know of a dump that is good.
_FRAME = """
set -eu
umask 077
part=$1.part also= told=
tell() {
    told="$told${told:+, }$(printf '%s' "$1" | tr -d '\\000-\\037' | sed 's/[\\\\"]/\\\\&/g; s/.*/"&"/')"
}
trap 'wait; rm -f "$part" "$part".*' EXIT
rm -f "$part" "$part".*
MAKE
[ -s "$part" ] || { echo "the dump is empty" >&2; exit 1; }
sync "$part" & syncing=$!
sha256sum <"$part" >"$part.sum" & summing=$!
VERIFY
wait $summing
wait $syncing
read -r sum rest <"$part.sum"
bytes=$(stat -c %s "$part")
mv -fT "$part" "$1"
sync "$(dirname "$1")"
[ -z "$told" ] || also="$also, \\"told\\": [$told]"
printf '{"bytes": %s, "sha256": "%s", "entries": %s%s}\\n' "$bytes" "$sum" "$entries" "$also"
"""

# `pack` and `unpack` are filters: zstd where the host has it, else gzip; what was packed tells which it was.
PACKING = """
pack() { if command -v zstd >/dev/null; then zstd -q -c -T0; else gzip -c; fi; }
unpack() {
    case $(od -A n -N 4 -t x1 "$1" | tr -d ' ') in
    28b52ffd)
        command -v zstd >/dev/null || { echo "cannot read $1: install zstd" >&2; return 1; }
        zstd -q -d -c "$1" ;;
    1f8b*) gzip -d -c "$1" ;;
    *) echo "cannot read $1: it is neither zstd's nor gzip's" >&2; return 1 ;;
    esac
}
"""

# `quietly PROGRAM WORDS`: its stdout, and what it says to stderr only if it fails.
QUIETLY = """
quietly() {
    complaints=$(mktemp)
    "$@" 2>"$complaints" && code=0 || code=$?
    [ "$code" = 0 ] || cat "$complaints" >&2
    rm -f "$complaints"
    return "$code"
}
"""


def script(*, make: str, verify: str) -> str:
    """A program for sh that makes a verified dump in "$1" and prints what `Dumper` promises."""
    return _FRAME.replace("MAKE", make.strip()).replace("VERIFY", verify.strip())
