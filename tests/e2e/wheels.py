"""What is installed here, packed into wheels again: a server without a network installs from them as from PyPI.

https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_OF_AN_INSTALLATION = {"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}


def pack(folder: Path, *wanted: str) -> None:
    """Wheels of these packages and of all that they require, e.g. `fraisier[postgres]`; of editable ones none."""
    folder.mkdir(parents=True, exist_ok=True)
    for found in _closure(*wanted):
        if '"editable"' not in (found.read_text("direct_url.json") or ""):
            _pack(found, folder)


def _closure(*wanted: str) -> Iterator[Distribution]:
    waiting, seen, given = [Requirement(each) for each in wanted], set[tuple[str, str]](), set[str]()
    while waiting:
        need = waiting.pop()
        found = distribution(need.name)
        if need.name not in given:
            given.add(need.name)
            yield found
        for extra in {"", *need.extras} - {extra for name, extra in seen if name == need.name}:
            seen.add((need.name, extra))
            further = map(Requirement, found.requires or ())
            waiting += [each for each in further if not each.marker or each.marker.evaluate({"extra": extra})]


def _pack(found: Distribution, folder: Path) -> None:
    tags = [
        line.partition(": ")[2] for line in (found.read_text("WHEEL") or "").splitlines() if "Tag: " in line
    ]
    parts = [tag.split("-") for tag in tags]
    tag = "-".join(".".join(sorted({part[place] for part in parts})) for place in range(3))
    name = canonicalize_name(found.metadata["Name"]).replace("-", "_")
    with zipfile.ZipFile(folder / f"{name}-{found.version}-{tag}.whl", "w") as wheel:
        for file in found.files or ():
            outside = file.parts[0] == ".." or "__pycache__" in file.parts
            if not outside and file.name not in _OF_AN_INSTALLATION:
                wheel.write(str(found.locate_file(file)), str(file))
