"""Submodules of a commit: where they are, and which of their URLs may be followed, with what."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.git.address import Address, parse_address, relative_url
from fraisier.git.command import text
from fraisier.git.mirror import Mirror

DEEPEST = 10  # submodules in submodules
_GITLINK = b"160000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submodule:
    """A commit of another repository at a path of this one."""

    path: str
    commit: str
    source: Source


def gitlinks(mirror: Mirror, commit: str, root: str) -> dict[str, str]:
    """Path -> commit of every submodule at or below `root`.

    Raises:
        Damaged: the mirror cannot be read.
    """
    below = (f":(literal){root}",) if root else ()
    listed = mirror.read("ls-tree", "-r", "-z", commit, "--", *below).stdout
    links = (entry.split(b"\t", 1) for entry in listed.split(b"\0") if entry.startswith(_GITLINK))
    return {text(path): text(about.split()[2]) for about, path in links}


def submodules(mirror: Mirror, commit: str, root: str) -> Sequence[Submodule]:
    """The submodules at or below `root`, ready to be fetched.

    Raises:
        Damaged: the mirror cannot be read.
        StepFailed: repository, for a path or a URL that must not be followed.
    """
    links = gitlinks(mirror, commit, root)
    if not links:
        return ()
    urls = _urls(mirror, commit)
    return [
        Submodule(path=_checked(path), commit=pinned, source=_source(mirror, path, urls.get(path, "")))
        for path, pinned in links.items()
    ]


def _urls(mirror: Mirror, commit: str) -> dict[str, str]:
    """Path -> URL, as .gitmodules says. Its `update`, `ignore` and the like are not followed."""
    blob = f"--blob={commit}:.gitmodules"
    read = mirror.read("config", "-z", blob, "--get-regexp", r"^submodule\..*\.(path|url)$")
    values: dict[str, dict[str, str]] = {}
    for entry in text(read.stdout).split("\0"):
        key, _, value = entry.partition("\n")
        section, _, name = key.rpartition(".")
        values.setdefault(section, {})[name] = value
    return {
        posixpath.normpath(each["path"]): each.get("url", "") for each in values.values() if "path" in each
    }


def _checked(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts):
        raise StepFailed(
            Cause.repository, f"cannot unpack the submodule at {path[:100]!r}: its path is hostile"
        )
    return path


def _source(mirror: Mirror, path: str, url: str) -> Source:
    """The submodule's source; the superproject's credentials only where the host is the same."""
    if not url:
        hint = "Add it to .gitmodules, or remove the link with `git rm --cached`"
        raise StepFailed(
            Cause.repository, f"cannot fetch the submodule at {path}: .gitmodules has no URL", hint
        )
    parent = parse_address(mirror.source.clone_url)
    try:
        address = parse_address(relative_url(parent, url))
    except StepFailed as failed:
        message = f"cannot fetch the submodule at {path}: its URL in .gitmodules cannot be used"
        raise StepFailed(Cause.repository, message, failed.hint) from failed
    if address.is_local and not _is_neighbour(address, parent, mirror.git.folder):
        message = f"cannot fetch the submodule at {path}: its URL names a folder of this machine"
        hint = "Only repositories beside the superproject's own may be named so; use https or ssh"
        raise StepFailed(Cause.repository, message, hint)
    source = replace(mirror.source, clone_url=address.url, repository=f"{mirror.source.repository} > {path}")
    if address.host != parent.host:
        return replace(source, key="", token=None, ca_file="")
    if (address.protocol, address.port) != (parent.protocol, parent.port):
        return replace(source, token=None)
    return source


def _is_neighbour(address: Address, parent: Address, mirrors: Path) -> bool:
    """Whether a local URL stays in the folder that holds the superproject, and out of our own."""
    if not parent.is_local:
        return False
    path = Path(address.path).resolve()
    return path.is_relative_to(Path(parent.path).resolve().parent) and not path.is_relative_to(
        mirrors.resolve()
    )
