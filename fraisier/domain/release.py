"""A commit unpacked and built on a host, and where its parts lie."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

_RELEASE_NAME = re.compile(r"(\d{1,9})-([0-9a-f]{7,64})\Z")

# What may lie in an `app_path`; anything else is somebody's own.
OURS = frozenset({"releases", "shared", "backups", "reports", "current", "current.sock", ".fraisier"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders below one `app_path`."""

    app_path: str

    @property
    def releases(self) -> str:
        """Built releases, one folder each."""
        return posixpath.join(self.app_path, "releases")

    @property
    def shared(self) -> str:
        """What all releases share."""
        return posixpath.join(self.app_path, "shared")

    @property
    def current(self) -> str:
        """The link to the release that runs."""
        return posixpath.join(self.app_path, "current")

    @property
    def link(self) -> str:
        """The link to the unix socket of what serves: what a proxy dials."""
        return posixpath.join(self.app_path, "current.sock")

    def socket(self, name: str) -> str:
        """Where a release in containers listens that was told no other place: in a folder of its own."""
        return posixpath.join(self.shared, "sockets", name, "http.sock")

    @property
    def instances(self) -> str:
        """A file for each release that runs as an instance of its own, with what it is told."""
        return posixpath.join(self.own, "instances")

    def instance(self, name: str) -> str:
        """The file of one instance: NAME=value lines, which its unit reads."""
        return posixpath.join(self.instances, name + ".env")

    @property
    def backups(self) -> str:
        """Dumps of the database; the environment's user writes them, so it is not in our own folder."""
        return posixpath.join(self.app_path, "backups")

    @property
    def own(self) -> str:
        """Fraisier's own folder: lock, token, owner, scopes and the releases' markers."""
        return posixpath.join(self.app_path, ".fraisier")

    @property
    def reports(self) -> str:
        """What runs that systemd starts tell of themselves; the environment's user writes it."""
        return posixpath.join(self.app_path, "reports")

    @property
    def timers(self) -> str:
        """The units that keep the schedules, one file per release, so that the way back has the old ones."""
        return posixpath.join(self.own, "timers")

    def units(self, name: str) -> str:
        """The units of one release; it may have secrets in it."""
        return posixpath.join(self.timers, name)

    def release(self, name: str) -> str:
        """The folder of one release."""
        return posixpath.join(self.releases, name)

    def marker(self, name: str) -> str:
        """The file that says that a release is whole.

        It lies outside the release, where the build user cannot write it.
        """
        return posixpath.join(self.own, "releases", name + ".json")

    def link_target(self, name: str) -> str:
        """What `current` contains: relative, so that the tree can be looked at from elsewhere."""
        return posixpath.join("releases", name)


def release_name(number: int, commit: str) -> str:
    """`<number>-<short sha>`."""
    return f"{number}-{commit[:10]}"


def release_number(name: str) -> int:
    """The number in a release's name; 0 where the name is none of ours."""
    match = _RELEASE_NAME.match(name)
    return int(match[1]) if match else 0


def is_release_name(name: str) -> bool:
    """Whether a folder's name is a release's."""
    return bool(_RELEASE_NAME.match(name))


def releases_to_prune(present: list[str], *, keep: int, running: str, previous: str) -> list[str]:
    """Which of the folders in `releases/` go: the oldest beyond `keep`, never the two that are needed."""
    ours = sorted(filter(is_release_name, present), key=release_number, reverse=True)
    needed = {running, previous}
    kept = [name for name in ours if name in needed]
    room = max(keep - len(kept), 0)
    others = [name for name in ours if name not in needed]
    return others[room:]
