"""The manifest of a backup as JSON. It is read from where others may write, so nothing in it is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fraisier.domain.backup import NAME, Artefact, Manifest, made_at_of
from fraisier.domain.errors import Cause, StepFailed

MANIFEST = "manifest.json"
LONGEST = 4 << 20  # bytes
_FORMAT = 1
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MANY = 1000
_MOST = 1 << 53  # what JSON's numbers are good for; _MANY of them fit into the 64 bits of a database
_SECOND = 1.001  # names have whole ones


def write(manifest: Manifest) -> bytes:
    """As it lies beside the artefacts."""
    content = {"format": _FORMAT, **asdict(manifest), "artefacts": [asdict(a) for a in manifest.artefacts]}
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def read(content: bytes, name: str) -> Manifest:
    """What `write` wrote, of the backup `name`.

    Raises:
        StepFailed: backup, where it is none, or another backup's.
    """
    try:
        if len(content) > LONGEST:
            raise ValueError("it is too long")
        found = json.loads(content)
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise ValueError("it is of no format that this version knows")
        manifest = _manifest(found)
        if manifest.name != name:
            raise ValueError("it is another backup's")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = str(error) if type(error) is ValueError else f"{type(error).__name__} in it"
        raise StepFailed(Cause.backup, f"cannot read the manifest of {name}: {why[:200]}") from None
    return manifest


def _manifest(found: Mapping[str, Any]) -> Manifest:
    listed = found["artefacts"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= _MANY:
        raise ValueError("it lists no artefacts, or too many")
    artefacts = tuple(_artefact(each) for each in listed)
    if len({each.file for each in artefacts}) != len(artefacts):
        raise ValueError("it lists a file twice")
    name = _text(found["name"])
    if not NAME.match(name):
        raise ValueError("its name is none")
    made_at = float(_number(found["made_at"]))
    if abs(made_at - made_at_of(name)) > _SECOND:
        raise ValueError("it was not made when its name says")
    return Manifest(
        name=name,
        fraise=_text(found["fraise"]),
        environment=_text(found["environment"]),
        made_at=made_at,
        artefacts=artefacts,
        encrypted=found["encrypted"] is True,
        safety=found.get("safety") is True,
    )


def _artefact(found: Mapping[str, Any]) -> Artefact:
    file = _text(found["file"])
    if not _FILE.match(file) or file == MANIFEST:
        raise ValueError("it lists a file whose name is none of ours")
    sha256 = _text(found["sha256"])
    if not _SHA256.match(sha256):
        raise ValueError("it lists a file without a checksum")
    tables = found["tables"]
    if not isinstance(tables, dict):
        raise TypeError
    return Artefact(
        source=_text(found["source"]),
        kind=_text(found["kind"]),
        file=file,
        bytes=int(_number(found["bytes"])),
        sha256=sha256,
        tables={_text(table): int(_number(rows)) for table, rows in tables.items()},
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise ValueError("it has something else where a text belongs")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
        raise ValueError("it has something else where a number belongs")
    return value
