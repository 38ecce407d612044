"""Kinds of values that only backups have."""

from __future__ import annotations

import re

from fraisier.config import texts
from fraisier.config.document import Node
from fraisier.config.kinds import DatabaseUrl, Schema, Text, Value
from fraisier.config.reading import Reader, Refused, Variables
from fraisier.domain.secret import Secret

# https://github.com/C2SP/C2SP/blob/main/age.md: Bech32 of 32 bytes
_AGE = re.compile(r"age1[02-9ac-hj-np-z]{58}\Z")
_SSH = re.compile(r"ssh-(ed25519|rsa) [A-Za-z0-9+/]{60,1000}={0,3}( \S.*)?\Z")
_REMOTE = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_.-]*@)?(?P<host>[^/:@\s]+):(?P<folder>\S.*)\Z")
_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?\Z")


def source_path(text: str) -> str:
    """A folder on the host, or in the release."""
    return texts.absolute(text) if text.startswith("/") else texts.relative(text)


def recipient(text: str) -> str:
    """A public key that age encrypts for."""
    if _AGE.match(text) or _SSH.match(text):
        return ""
    if text.startswith("AGE-SECRET-KEY"):
        return "is a private key: it must not stand here; expected the public one, age1…"
    return f"{text[:20]!r} is no recipient; expected age1… (see `age-keygen -y`), or an SSH public key"


def destination_place(text: str) -> str:
    """A place whose brand tells more about it; whatever it is, no password stands in it."""
    if text.startswith("-"):
        return "begins with '-', which programs take for an option"
    if re.match(r"[a-z0-9+:]*://[^/\s@]*:[^/\s@]+@", text):
        return "has a password in it, which ends up in logs; it has a key of its own"
    if text.startswith("/"):
        return texts.app_path(text)
    if text.startswith("s3://") and not _S3.match(text):
        return f"{text[:60]!r} is no place in S3; expected s3://bucket/prefix"
    return ""


def brand_of_place(place: str) -> str:
    """The brand that a place tells by itself; '' = none."""
    if place.startswith("/"):
        return "folder"
    if place.startswith("s3://"):
        return "s3"
    if place.startswith("rsync://") or "://" in place:
        return ""
    return "rsync" if _REMOTE.match(place) and not place.startswith(("s3:", "rest:", "sftp:")) else ""


class SourcePlace(DatabaseUrl):
    """A database's URL, or the absolute path of a folder."""

    words = "URL or absolute path"

    def read(self, node: Node, reader: Reader) -> str | Secret:
        if node.kind == "scalar" and node.text.startswith("/"):
            return Text("absolute path", texts.absolute, Variables.path).read(node, reader)
        return super().read(node, reader)


class Expected(Value):
    """An answer. It is shown where another one comes, so no variable that may be secret is in it."""

    words = "text, number or yes/no"

    def read(self, node: Node, reader: Reader) -> str:
        value = super().read(node, reader)
        if isinstance(value, Secret):
            raise Refused(node, "is shown where another answer comes, so no variable is allowed in it")
        return value

    def schema(self) -> Schema:
        return {"type": ["string", "number", "boolean"]}
