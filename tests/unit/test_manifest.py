"""The manifest of a backup comes from outside: it is read strictly, and believed only as far as it can be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.domain import manifest as manifests
from fraisier.domain.backup import Artefact, Manifest
from fraisier.domain.errors import Cause, StepFailed

NAME = "20260101T023000Z-deadbeef"
GOOD = Manifest(
    name=NAME,
    fraise="dumps",
    environment="production",
    made_at=1_767_234_600.25,
    artefacts=(
        Artefact(
            source="orders", kind="postgresql", file="orders.dump", bytes=7, sha256="a" * 64, tables={"t": 3}
        ),
        Artefact(source="orders", kind="postgresql", file="orders.dump.roles.sql", bytes=1, sha256="b" * 64),
    ),
    encrypted=True,
    safety=True,
)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(manifests.write(GOOD)), **changes}).encode()


def with_artefact(**changes: Any) -> bytes:
    first = json.loads(manifests.write(GOOD))["artefacts"][0]
    return changed(artefacts=[{**first, **changes}])


def test_what_was_written_is_read() -> None:
    assert manifests.read(manifests.write(GOOD), NAME) == GOOD


WRONG = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "another format": changed(format=2),
    "another backup's": changed(name="20260101T023000Z-00000000"),
    "a path for a name": changed(name="../x"),
    "no artefacts": changed(artefacts=[]),
    "text for artefacts": changed(artefacts="x"),
    "a path for a file": with_artefact(file="../../etc/passwd"),
    "an absolute path": with_artefact(file="/etc/passwd"),
    "an option for a file": with_artefact(file="-rf"),
    "itself for a file": with_artefact(file="manifest.json"),
    "a line break": with_artefact(file="a\nb"),
    "no checksum": with_artefact(sha256=""),
    "a negative size": with_artefact(bytes=-1),
    "a huge size": with_artefact(bytes=1 << 70),
    "yes for a size": with_artefact(bytes=True),
    "text for rows": with_artefact(tables={"t": "many"}),
    "another time than its name's": changed(made_at=1e17),
    "a time to come": changed(made_at=4_000_000_000.0),
    "too large": with_artefact(bytes=1 << 53),
    "not a number": changed(made_at=float("nan")),
    "nested too deep": b"[" * 200_000,
    "too long": b" " * (manifests.LONGEST + 1),
    "twice the same": changed(artefacts=[json.loads(manifests.write(GOOD))["artefacts"][0]] * 2),
    "no fraise": changed(fraise=None),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG.keys())
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(StepFailed, match=f"cannot read the manifest of {NAME}") as error:
        manifests.read(content, NAME)
    assert error.value.cause is Cause.backup


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_to_be_refused(content: bytes) -> None:
    with pytest.raises(StepFailed):
        manifests.read(content, NAME)


@given(st.integers(0, len(manifests.write(GOOD)) - 2))
def test_one_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(StepFailed):
        manifests.read(manifests.write(GOOD)[:length], NAME)
