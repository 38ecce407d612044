"""What backups cost over the bare tools: a part of `make bench`.

PostgreSQL and a folder, each dumped and kept in a folder, in turn with the same acts typed by hand, at the
same niceness: dump, read all of the dump again, its checksum, a copy, its checksum there, everything synced.
Beside it stands the pipe alone, into its place, with nothing verified.

    python -m tools.bench_backup [--megabytes 200] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fraisier.application.ports import SourceBrand
from fraisier.backup_places.folder import FolderPlace
from fraisier.backups.folder import Folder
from fraisier.backups.postgresql import PostgreSQL
from fraisier.domain.backup import Destination, Source
from fraisier.hosts.launch import NICENESS
from fraisier.hosts.local import LocalHost
from tests.desks import USER, RealDesk
from tests.factories import environment
from tests.servers.postgresql import running

NAME = "20261123T101500Z-00000000"
LIMIT = 600.0  # seconds for one act
_FILL = """
CREATE TABLE line (id bigint, customer text, amount numeric, note text);
INSERT INTO line SELECT n, 'customer ' || n % 5000, n / 7.0, md5(n::text) || repeat(' is fine', n % 9)
FROM generate_series(1, {rows}) n;
"""
# $1: staging, $2: the place; what DUMP and READ are depends on the source.
_BY_HAND = """
set -eu
mkdir -p "$1" "$2/part"
DUMP
READ
sha256sum <"$1/dump" >/dev/null
sync "$1/dump" "$1"
cp --reflink=auto --sparse=auto "$1/dump" "$2/part/dump"
sync "$2/part/dump" "$2/part"
mv -T "$2/part" "$2/kept"
sync "$2"
sha256sum <"$2/kept/dump" >/dev/null
"""
_PIPE = """
set -eu
mkdir -p "$2"
{ PIPE; } >"$2/dump"
sync "$2/dump" "$2"
"""


def measure(megabytes: int, rounds: int) -> dict[str, Any]:
    """Median seconds of each way, and how much of the data a second is."""
    home = Path(tempfile.mkdtemp(prefix="fraisier-bench-", dir="/var/tmp"))
    home.chmod(0o755)
    try:
        return {
            "postgresql": _postgresql(home, megabytes, rounds),
            "folder": _folder(home, megabytes, rounds),
        }
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _postgresql(home: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    with running() as server:
        server.psql(_FILL.format(rows=megabytes * 9000))
        size = int(server.psql("SELECT pg_table_size('line')"))
        source = Source(name="db", kind="postgresql", url=server.url())
        url = server.url()
        dump = f"pg_dump --format=custom --no-password --file=\"$1/dump\" '{url}'"
        read = 'pg_restore --list "$1/dump" >/dev/null; pg_restore --file=/dev/null "$1/dump"'
        pipe = f"pg_dump --format=custom --no-password '{url}'"
        return _compared(home, PostgreSQL(), source, (dump, read, pipe), size, rounds)


def _folder(home: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    folder = home / "files"
    folder.mkdir(mode=0o755)
    text = json.dumps({"note": "is fine", "list": list(range(500))}).encode()
    for number in range(megabytes):
        half = os.urandom(1 << 19)
        (folder / f"file{number}").write_bytes(half + (text * ((1 << 19) // len(text))))
    size = sum(path.stat().st_size for path in folder.iterdir())
    tar = f"tar --create --file=- --directory={folder} --sparse --numeric-owner . | zstd -q -c -T0"
    read = 'zstd -q -d -c "$1/dump" | tar --list --verbose --file=- >/dev/null'
    source = Source(name="files", kind="folder", path=str(folder))
    return _compared(home, Folder(), source, (f'{tar} >"$1/dump"', read, tar), size, rounds)


def _compared(
    home: Path, brand: SourceBrand, source: Source, by_hand: tuple[str, str, str], size: int, rounds: int
) -> dict[str, Any]:
    dump, read, pipe = by_hand
    hand = _BY_HAND.replace("DUMP", dump).replace("READ", read)
    ways: dict[str, Callable[[Path], None]] = {
        "ours": lambda to: _ours(brand, source, to),
        "by_hand": lambda to: _typed(hand, to),
        "pipe_alone": lambda to: _typed(_PIPE.replace("PIPE", pipe), to),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first is not counted: it fills the caches
        for name, way in ways.items():
            to = home / "work"
            to.mkdir(mode=0o700)
            _give(to)
            began = time.perf_counter()
            way(to)
            if number:
                taken[name].append(time.perf_counter() - began)
            shutil.rmtree(to)
    seconds = {name: statistics.median(each) for name, each in taken.items()}
    return {
        **{f"{name}_s": round(each, 3) for name, each in seconds.items()},
        "bytes": size,
        "megabytes_a_second": round(size / seconds["ours"] / 1e6, 1),
        "over_by_hand_percent": round(100 * (seconds["ours"] / seconds["by_hand"] - 1), 1),
        "over_the_pipe_percent": round(100 * (seconds["ours"] / seconds["pipe_alone"] - 1), 1),
    }


def _ours(brand: SourceBrand, source: Source, to: Path) -> None:
    """What a run of a `backup` fraise does with a source and a destination, without its rows."""
    desk = RealDesk(LocalHost(), environment(user=USER, app_path=str(to / "app")))
    staging = to / "staging"
    staging.mkdir(mode=0o700)
    _give(staging)
    desk.tell(brand.dump_source(source, str(staging / f"dump{brand.suffix}"), timeout=LIMIT))
    manifest = staging / "manifest.json"
    manifest.write_text("{}")
    _give(manifest)
    place, shelf = Destination(name="disk", kind="folder", place=str(to / "kept")), FolderPlace()
    shelf.store(place, NAME, str(staging), desk)
    shelf.look(place, NAME, [f"dump{brand.suffix}", "manifest.json"], desk)


def _give(path: Path) -> None:
    """By the bench itself: shells for it would be counted, and who types has none of them."""
    if USER:
        shutil.chown(path, USER)


def _typed(script: str, to: Path) -> None:
    who: dict[str, Any] = (
        {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if USER else {}
    )
    argv = (
        "nice",
        "-n",
        str(NICENESS),
        "/bin/sh",
        "-c",
        script,
        "hand",
        str(to / "staging"),
        str(to / "kept"),
    )
    subprocess.run(argv, check=True, cwd="/", env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **who)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(measure(given.megabytes, given.rounds), indent=2))


if __name__ == "__main__":
    main()
