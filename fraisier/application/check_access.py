"""Who can read a file on a host: computed from owners and modes, so that asking needs no other user."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fraisier.application.ports import Host

READ, SEARCH = 4, 1  # permission bits


@dataclass(frozen=True, slots=True)
class Mode:
    """Owner, group and permissions of a file or folder."""

    bits: int
    uid: int
    gid: int

    def allows(self, wanted: int, uid: int, groups: Collection[int]) -> bool:
        """Whether a user has this permission. As for the kernel, the first class that fits decides."""
        if uid == 0:
            return True
        shift = 6 if uid == self.uid else 3 if self.gid in groups else 0
        return bool(self.bits >> shift & wanted)


@dataclass(frozen=True, slots=True)
class User:
    """A user of a host by number, with all groups."""

    uid: int
    groups: frozenset[int]


def mode_of(host: Host, path: str) -> Mode | None:
    """Owner, group and mode; None where there is nothing, or nothing that we can see."""
    found = host.inspect(("stat", "-L", "-c", "%a %u %g", "--", path))
    if found.code != 0:
        return None
    bits, uid, gid = found.stdout.decode().split()
    return Mode(int(bits, 8), int(uid), int(gid))


def user_of(host: Host, name: str) -> User | None:
    """The user called `name`; None where there is none."""
    uid = host.inspect(("id", "-u", "--", name))
    groups = host.inspect(("id", "-G", "--", name))
    if uid.code != 0 or groups.code != 0:
        return None
    return User(int(uid.stdout), frozenset(map(int, groups.stdout.split())))


def can_read(host: Host, path: str, user: User) -> bool:
    """Whether `user` can open `path` for reading: every folder above searchable, the file readable."""
    for folder in _above(path):
        mode = mode_of(host, folder)
        if mode is None or not mode.allows(SEARCH, user.uid, user.groups):
            return False
    mode = mode_of(host, path)
    return mode is not None and mode.allows(READ, user.uid, user.groups)


def _above(path: str) -> Sequence[str]:
    folder = posixpath.dirname(posixpath.abspath(path))
    parts = folder.strip("/").split("/") if folder != "/" else []
    return ["/", *("/" + "/".join(parts[: i + 1]) for i in range(len(parts)))]
