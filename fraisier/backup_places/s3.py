"""S3, and what speaks it (`endpoint_url`): a bucket, and a prefix in it.

Fraisier has the credentials, lists, and signs addresses; the environment's host, which need not have them,
sends and reads the files with curl. An address is good for one file and some time, and reaches curl through a
pipe: it is no argument of a process.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html

A backup is whole when its manifest is there, which is stored last. What is larger than one request may bring
is sent in parts. https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from fraisier.application.hear import hear, look
from fraisier.application.ports import Desk, Problem
from fraisier.backup_places.s3_bucket import HINT, Bucket
from fraisier.backup_places.words import at_a_desk, checked, sums
from fraisier.domain.backup import Destination
from fraisier.domain.errors import FraisierError, StepFailed

_MANIFEST = "manifest.json"
_PART = 1 << 30  # bytes that one request brings
_LARGEST_MANIFEST = 4 << 20  # bytes
_LINES = 32  # addresses in one command's environment, which may have 128 KiB for each variable
_CURL = "command -v curl >/dev/null || { echo 'there is no curl here: install it' >&2; exit 1; }"
_SIZES = """
cd -- "$1"
for file in *; do [ ! -f "$file" ] || printf '%s %s\\n' "$(stat -c %s -- "$file")" "$file"; done
"""
# $1: the folder. Each line of the plan: where the piece begins, its bytes, the file, and what curl
# is told, in base64. Printed: the ETag of each piece. With its length told it is not sent in chunks, which S3
# refuses.
_SEND = f"""
set -eu
umask 077
{_CURL}
cd -- "$1"
said=$(mktemp); trap 'rm -f "$said" "$said.error"' EXIT
printf '%s\\n' "$FRAISIER_PLAN" | while read -r from length file config; do
    tail -c "+$((from + 1))" -- "$file" | head -c "$length" | {{
        curl --config /dev/fd/3 --upload-file - --dump-header - --header "Content-Length: $length" \\
            --header 'Transfer-Encoding:' --header 'Expect:' 3<<FRAISIER
$(printf '%s' "$config" | base64 -d)
FRAISIER
    }} >"$said" 2>"$said.error" || {{ cat "$said.error" >&2; exit 1; }}
    sed -n 's/^[Ee][Tt][Aa][Gg]: *\\([^[:space:]]*\\).*/\\1/p' "$said" | tail -n 1
done
"""
_GET = """
get() {
    curl --config /dev/fd/3 3<<FRAISIER
$(printf '%s' "$1" | base64 -d)
FRAISIER
}
"""
_FETCH = f"""
set -eu
umask 077
{_CURL}{_GET}
cd -- "$1"
printf '%s\\n' "$FRAISIER_PLAN" | while read -r file config; do get "$config" >"$file" || exit 1; done
"""
# One line for each file: bytes, checksum, name; none for one that is not there.
_LOOK = f"""
set -eu
umask 077
{_CURL}{_GET}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkfifo "$work/pipe"
printf '%s\\n' "$FRAISIER_PLAN" | while read -r file config; do
    rm -f "$work/failed"
    sha256sum <"$work/pipe" >"$work/sum" &
    bytes=$({{ get "$config" 2>"$work/said" || echo >"$work/failed"; }} | tee "$work/pipe" | wc -c)
    wait
    if [ -e "$work/failed" ]; then
        grep -q 'error: 404' "$work/said" && continue
        cat "$work/said" >&2
        exit 1
    fi
    read -r sum rest <"$work/sum"
    printf '%s %s %s\\n' "$bytes" "$sum" "$file"
done
"""


@dataclass(frozen=True, slots=True)
class _Piece:
    """So many bytes of a file, and the address that they are sent to."""

    start: int
    length: int
    file: str
    url: str


class S3:
    """`place`: s3://bucket/prefix. Options: `endpoint_url`, `region`, `access_key`, `secret_key`,
    `session_token`, `profile`, `storage_class`, `ca_file` (on both machines). Without keys it is boto3 that
    finds some, in Fraisier's environment. `part` is what one request brings, in bytes.
    """

    kind = "s3"

    def __init__(self, part: int = _PART) -> None:
        self._part = part

    def store(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """The manifest comes last; first goes what others left that had none."""
        doing = f"keep {name} in {place.place}"
        bucket = Bucket(place, desk, doing)
        kept = bucket.keys()
        bucket.delete(key for each, keys in kept.items() if _MANIFEST not in keys for key in keys.values())
        bucket.abort_uploads()
        if name in kept and _MANIFEST in kept[name]:
            raise bucket.failed("it is there already")
        sizes = _sizes(hear(desk, at_a_desk(desk, _SIZES, folder), doing=doing))
        try:
            for file in sorted(sizes, key=lambda each: (each == _MANIFEST, each)):
                self._send(bucket, folder, f"{name}/{file}", sizes[file])
        except FraisierError:
            bucket.try_to_tidy(name)
            raise

    def _send(self, bucket: Bucket, folder: str, path: str, size: int) -> None:
        file = path.rpartition("/")[2]
        if size <= self._part:
            self._send_pieces(bucket, folder, [_Piece(0, size, file, bucket.address_to_put(path))])
            return
        upload = bucket.begin_upload(path)
        count = math.ceil(size / self._part)
        tags: list[str] = []
        for first in range(0, count, _LINES):  # signed when they are needed: addresses expire
            pieces = [
                _Piece(
                    n * self._part,
                    min(self._part, size - n * self._part),
                    file,
                    bucket.address_of_part(path, upload, n + 1),
                )
                for n in range(first, min(first + _LINES, count))
            ]
            tags += self._send_pieces(bucket, folder, pieces)
        bucket.finish_upload(path, upload, tags)

    def _send_pieces(self, bucket: Bucket, folder: str, pieces: Sequence[_Piece]) -> list[str]:
        desk = bucket.desk
        told = (_told(bucket, each.url, bucket.headers_to_put(each.url)) for each in pieces)
        lines = (f"{p.start} {p.length} {p.file} {config}" for p, config in zip(pieces, told, strict=True))
        command = at_a_desk(desk, _SEND, folder, env={"FRAISIER_PLAN": "\n".join(lines)})
        tags = hear(desk, command, doing=bucket.doing, hint=HINT).split()
        if len(tags) != len(pieces):
            raise bucket.failed("what took it did not say what it took")
        return tags

    def names(self, place: Destination, desk: Desk) -> Sequence[str]:
        """Those whose manifest is there, and not empty."""
        found = Bucket(place, desk, f"list the backups in {place.place}").keys()
        return sorted(name for name, keys in found.items() if _MANIFEST in keys)

    def read(self, place: Destination, name: str, file: str, desk: Desk) -> bytes:
        """A small file; it comes to Fraisier itself."""
        bucket = Bucket(place, desk, f"read {file} of {name} in {place.place}")
        return bucket.content(f"{checked(name)}/{file}", _LARGEST_MANIFEST)

    def look(
        self, place: Destination, name: str, files: Sequence[str], desk: Desk
    ) -> Mapping[str, tuple[int, str]]:
        """All of each file comes to the host, and goes no further than its checksum."""
        bucket = Bucket(place, desk, f"look at {name} in {place.place}")
        found: dict[str, tuple[int, str]] = {}
        for some in _batches(files):
            found |= sums(self._get(bucket, _LOOK, name, some))
        return found

    def fetch(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """Every file comes to the host."""
        bucket = Bucket(place, desk, f"fetch {name} from {place.place}")
        keys = bucket.keys().get(name, {})
        if _MANIFEST not in keys:
            raise bucket.failed("there is no such backup")
        for some in _batches(keys):
            self._get(bucket, _FETCH, name, some, folder)

    def _get(self, bucket: Bucket, text: str, name: str, files: Iterable[str], *words: str) -> str:
        lines = (f"{file} {_told(bucket, bucket.address_to_get(f'{name}/{file}'))}" for file in files)
        command = at_a_desk(bucket.desk, text, *words, env={"FRAISIER_PLAN": "\n".join(lines)})
        return hear(bucket.desk, command, doing=bucket.doing, hint=HINT)

    def remove(self, place: Destination, names: Sequence[str], desk: Desk) -> None:
        """The manifest first, then the rest."""
        gone = [checked(name) for name in names]
        bucket = Bucket(place, desk, f"remove backups from {place.place}")
        kept = bucket.keys()
        for name in gone:
            keys = dict(kept.get(name, {}))
            manifest = keys.pop(_MANIFEST, None)
            bucket.delete([manifest] if manifest else [])
            bucket.delete(keys.values())

    def problems(self, place: Destination, desk: Desk) -> Sequence[Problem]:
        """No boto3, credentials that are refused, no such bucket; no curl on the host."""
        found = []
        doing = f"keep backups in {place.place}"
        try:
            Bucket(place, desk, doing).keys(most=1)
        except StepFailed as error:
            found.append(Problem(str(error).partition(f" {error.hint}")[0], error.hint))
        code, _, complaints = look(desk, at_a_desk(desk, _CURL, timeout=30.0))
        if code != 0:
            why = complaints.strip().splitlines()[-1:] or ["its host does not answer"]
            found.append(Problem(f"cannot {doing}: {why[0]}", f"Install curl on {desk.host.name}"))
        return found


def _told(bucket: Bucket, url: str, headers: Mapping[str, str] | None = None) -> str:
    """An option file of curl, in base64."""
    lines = [f'url = "{url}"', "fail", "silent", "show-error", "connect-timeout = 20"]
    lines += ["speed-limit = 1", "speed-time = 120"]  # bytes a second, and for how long so few
    lines += [f'cacert = "{bucket.ca_file}"'] * bool(bucket.ca_file)
    lines += [f'header = "{name}: {value}"' for name, value in (headers or {}).items()]
    return base64.b64encode("\n".join(lines).encode()).decode()


def _sizes(said: str) -> dict[str, int]:
    found = {}
    for line in said.splitlines():
        size, name = line.split(" ", 1)
        found[name] = int(size)
    return found


def _batches(files: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(files)
    while some := list(islice(rest, _LINES)):
        yield some
