"""What all dumps have in common: written beside their place, verified, synced, then renamed into it."""

from __future__ import annotations

# $1 is the file; MAKE writes "$part" and VERIFY sets `entries`, both with `set -e`. Nobody else may read a
# dump. What fails leaves no half file; a kill leaves *.part, which the next dump's pruning removes.
_FRAME = """
set -eu
umask 077
part=$1.part
trap 'rm -f "$part"' EXIT
rm -f "$part"
MAKE
[ -s "$part" ] || { echo "the dump is empty" >&2; exit 1; }
VERIFY
sum=$(sha256sum <"$part"); sum=${sum%% *}
bytes=$(stat -c %s "$part")
sync "$part"
mv -fT "$part" "$1"
sync "$(dirname "$1")"
printf '{"bytes": %s, "sha256": "%s", "entries": %s}\\n' "$bytes" "$sum" "$entries"
"""


def script(*, make: str, verify: str) -> str:
    """A program for sh that makes a verified dump in "$1" and prints what `Dumper` promises."""
    return _FRAME.replace("MAKE", make.strip()).replace("VERIFY", verify.strip())
