"""A machine where releases run: looking, the right to change, short acts, long commands."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from fraisier.application.ports.processes import Finished, Job
from fraisier.domain.acts import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The part of a host that one environment owns, and the right under which it is changed.

    Once `halt` is set nobody waits for its lock any longer: whoever has it may have been stopped.
    """

    app_path: str
    owner: Mapping[str, str]  # installation, fraise, environment
    token: int
    halt: Event = field(default_factory=Event, compare=False, repr=False)
    fleeting: bool = False  # a power loss ends all that its token guards: that needs not be on disk


class Host(Protocol):
    """A machine where releases run: this one, or one that is reached over SSH."""

    name: str

    # -- looking; changes nothing
    def read_link(self, path: str) -> str | None:
        """What a symbolic link contains; None where there is none."""
        ...

    def kind(self, path: str) -> str:
        """'missing', 'file', 'folder', 'link' or 'other'; links are not followed."""
        ...

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes | None:
        """A file's content, at most `limit` bytes; None where there is none."""
        ...

    def list(self, folder: str) -> Sequence[str]:
        """Names in a folder; empty where there is none."""
        ...

    def free_bytes(self, path: str) -> int:
        """Free space for us on the file system of `path`, or of its nearest parent that exists."""
        ...

    def user_exists(self, user: str) -> bool: ...
    def can_run_as(self, user: str) -> str:
        """'' if commands can be run as `user`, else why not and what to do."""
        ...

    def writable(self, path: str) -> bool:
        """Whether we may create things in `path`, or in its nearest parent that exists."""
        ...

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        """Run a short command that changes nothing; code 127 where the program is missing."""
        ...

    def connect(self, address: str, *, timeout: float) -> socket.socket:
        """A connection from that machine to `address`, as named there: host:port, or a unix socket's path.

        Raises:
            OSError: refused, unreachable, a name that is none, or TimeoutError after `timeout` seconds.
            ValueError: it is no address.
            StepFailed: host, where nobody can connect from there on our behalf.
        """
        ...

    def ask(self, command: Command) -> Finished:
        """Run a fraise's command that changes nothing, as its user and with its environment, within its
        timeout.

        Without the environment's lock and token: for looking before anything is begun. Its output is not
        redacted.

        Raises:
            StepFailed: timeout, preflight where the user, the program or the env_file is missing.
        """
        ...

    def is_going_down(self) -> bool:
        """Whether the machine is shutting down: what fails now is nobody's fault."""
        ...

    # -- the right to change
    def adopt(self, ground: Ground, *, force: bool = False) -> None:
        """Take the environment over: lock, check the owner, raise the token, end all older scopes.

        Returns only when no older scope is left. Writes the owner where there is none. `force` takes
        over from another owner, whatever token that had (`fraisier adopt`).

        Raises:
            ForeignOwner: another owner, or a host token above ours.
            StepFailed: preflight or owner where we may not write, disk, host where an older command will
                not end or somebody else holds the lock for too long, cancelled when `ground.halt` is set.
        """
        ...

    def guard(self, ground: Ground) -> AbstractContextManager[None]:
        """Hold the environment's lock with a token that is still the newest, for short acts.

        Raises:
            TokenOutdated: another worker has taken over.
            StepFailed: as `adopt`, where somebody else holds the lock.
        """
        ...

    # -- short acts; only inside `guard`. They raise StepFailed: disk, preflight, owner, host
    def make_folder(self, path: str, *, user: str = "", mode: int = 0o755) -> None:
        """Create a folder and its parents; the last one belongs to `user`."""
        ...

    def point(self, link: str, to: str) -> None:
        """Make `link` a symbolic link to `to`: atomic, and on disk when it returns."""
        ...

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file: atomic, and on disk when it returns."""
        ...

    def remove(self, path: str, *, user: str = "") -> None:
        """Remove a link, a file, or a whole folder (as `user`, where it belongs to one). Missing is fine."""
        ...

    def sync(self, folder: str) -> None:
        """Everything written below `folder` is on disk when it returns."""
        ...

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        """Run a short command that changes something (systemctl …).

        Raises:
            StepFailed: timeout.
        """
        ...

    # -- long commands
    def run(self, ground: Ground, command: Command, job: Job) -> int:
        """Run in a recorded scope outside our own cgroup; returns the exit code (negative: a signal).

        On stop or timeout the whole scope is killed before this returns or raises.

        Raises:
            StepFailed: timeout, cancelled (when `job.stop` was set), preflight where the user, the program or
                the env_file is missing, host.
            TokenOutdated: another worker has taken over.
        """
        ...

    def unpack(self, archive: Iterator[bytes], folder: str, *, user: str, job: Job) -> None:
        """Write a tar stream into `folder`, as `user`.

        Raises:
            StepFailed: disk, host or cancelled.
        """
        ...

    def pack(self, folder: str, *, user: str, leave_out: Sequence[str], job: Job) -> Iterator[bytes]:
        """A folder as a tar stream, read as `user`, without the paths (relative to it) in `leave_out`.

        Raises:
            StepFailed: host or cancelled, while it is read.
        """
        ...
