"""This machine as a host."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fraisier.application.ports import Finished, Ground, Job
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts import archives, files, process_table, scopes
from fraisier.hosts import ground as grounds
from fraisier.hosts.launch import Launched, Order, Outcome
from fraisier.hosts.scopes import Kind
from fraisier.hosts.short import own_environment, run_short
from fraisier.hosts.users import Account, account, environment_of

ASKING = 120.0  # seconds that a fraise's program has to answer, unless it is told otherwise
_LARGEST_ENV_FILE = 1 << 20  # bytes


class LocalHost:
    """The machine that Fraisier itself runs on."""

    def __init__(self, name: str = "localhost") -> None:
        self.name = name
        self._allowed: dict[str, bool] = {}  # user -> whether systemd runs commands as them for us

    # -- looking
    def read_link(self, path: str) -> str | None:
        """What a symbolic link contains; None where there is none."""
        return files.read_link(path)

    def kind(self, path: str) -> str:
        """'missing', 'file', 'folder', 'link' or 'other'; links are not followed."""
        return files.kind(path)

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes | None:
        """A file's content, at most `limit` bytes; None where there is none that its folder's owner sees."""
        return files.read(path, limit)

    def list(self, folder: str) -> Sequence[str]:
        """Names in a folder, sorted; empty where there is none."""
        return files.names(folder)

    def free_bytes(self, path: str) -> int:
        """Free space on the file system of `path`, or of its nearest parent that exists."""
        return files.free_bytes(path)

    def user_exists(self, user: str) -> bool:
        """Whether this machine knows the user."""
        try:
            account(user)
        except StepFailed:
            return False
        return True

    def can_run_as(self, user: str) -> str:
        """'' if commands can be run as `user`, else why not and what to do."""
        try:
            who = account(user)
        except StepFailed as error:
            return str(error)
        if who.is_ours or os.geteuid() == 0 or self._may_start_units(who):
            return ""
        us = account("").name
        return (
            f"Fraisier runs as {us} and may not run commands as {user}. "
            f"Run it as root, or allow {us} to start units: see `fraisier init --service`"
        )

    def writable(self, path: str) -> bool:
        """Whether we may create things in `path`, or in its nearest parent that exists."""
        return files.writable(path)

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        """Run a short command that changes nothing; code 127 where the program is missing."""
        return run_short(argv, timeout=timeout)

    def connect(self, address: str, *, timeout: float) -> socket.socket:
        """A connection to host:port, or to a unix socket's path.

        Raises:
            OSError: as the system says it; TimeoutError after `timeout` seconds.
            ValueError: it is no address.
        """
        if not address.startswith("/"):
            return socket.create_connection(host_and_port(address), timeout)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    def ask(self, command: Command) -> Finished:
        """Run a fraise's command that changes nothing; it ends with us.

        The shell reads what to run from its stdin, as in a scope: no secret is an argument.

        Raises:
            StepFailed: timeout, preflight where the user, the program or the env_file is missing.
        """
        who, order = self._prepare(command)
        return run_short(("/bin/sh",), timeout=command.timeout or ASKING, who=who, stdin=order.script())

    def is_going_down(self) -> bool:
        """Whether systemd is stopping everything, for a reboot or a poweroff."""
        if not self._has_systemd:
            return False
        return run_short(("systemctl", "is-system-running"), timeout=5).stdout.strip() == b"stopping"

    # -- the right to change
    def adopt(self, ground: Ground, *, force: bool = False) -> None:
        """Take the environment over and end every older scope.

        Raises:
            ForeignOwner: another owner, and not `force`; or a host token of our own above ours.
            StepFailed: preflight where we may not write; host where an older command will not end.
        """
        grounds.prepare(ground)
        with grounds.locked(ground):
            grounds.take(ground, force=force)
            grounds.remove_halves(ground)
            scopes.end_all(grounds.scopes_folder(ground))

    @contextmanager
    def guard(self, ground: Ground) -> Iterator[None]:
        """Hold the environment's lock with a token that is still the newest, for short acts.

        Raises:
            TokenOutdated: another worker has taken over.
        """
        with grounds.locked(ground):
            grounds.check(ground)
            yield

    # -- short acts
    def make_folder(self, path: str, *, user: str = "", mode: int = 0o755) -> None:
        """Create a folder and its parents; the last one belongs to `user`."""
        files.make_folder(path, user, mode)

    def point(self, link: str, to: str) -> None:
        """Make `link` a symbolic link to `to`: atomic, and on disk when it returns."""
        files.point(link, to)

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file: atomic, and on disk when it returns."""
        files.write(path, data, mode)

    def remove(self, path: str, *, user: str = "") -> None:
        """Remove a link, a file, or a whole folder. Missing is fine."""
        files.remove(path, user)

    def sync(self, folder: str) -> None:
        """Everything written below `folder` is on disk when it returns."""
        files.sync(folder)

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        """Run a short command that changes something; it ends with us.

        Raises:
            StepFailed: timeout.
        """
        return run_short(argv, timeout=timeout)

    # -- long commands
    def run(self, ground: Ground, command: Command, job: Job) -> int:
        """Run in a recorded scope outside our own cgroup; returns the exit code (negative: a signal).

        Raises:
            StepFailed: timeout, cancelled (when `job.stop` was set), preflight where the user, the program
                or the env_file is missing, host where no scope can be started.
            TokenOutdated: another worker has taken over.
        """
        who, order = self._prepare(command)
        scope = scopes.new_scope(self._kind_for(who))
        folder = grounds.scopes_folder(ground)
        with self.guard(ground):
            scopes.record(folder, scope)
        try:
            launched = Launched(scope, who)
        except StepFailed:
            scopes.forget(folder, scope)
            raise
        try:
            return self._perform(ground, launched, order, command, job)
        finally:
            launched.close()

    def _prepare(self, command: Command) -> tuple[Account, Order]:
        who = account(command.user)
        environment = environment_of(who, command, lambda path: self.read(path, limit=_LARGEST_ENV_FILE))
        cwd = command.cwd or who.home
        if who.is_ours or os.geteuid() == 0:  # others' folders may be closed to us
            _check_program(command.argv[0], cwd, environment["PATH"])
        return who, Order(command.argv, cwd, environment, background=command.background)

    def _perform(self, ground: Ground, launched: Launched, order: Order, command: Command, job: Job) -> int:
        scope = launched.scope
        try:
            launched.wait_until_ready(job)
            with self.guard(ground):
                if scope.kind is Kind.session:
                    scope = replace(
                        scope, pid=launched.pid, started=process_table.started_at(launched.pid) or 0
                    )
                    scopes.record(grounds.scopes_folder(ground), scope)
                launched.tell(order)
            outcome = launched.follow(job, command.timeout)
        finally:
            # A command leaves nothing behind, however it ended: no daemon, no half-killed build.
            if not launched.has_left_nothing():
                scopes.end(scope)
            scopes.forget(grounds.scopes_folder(ground), scope)
        launched.tell_memory(job.used)
        launched.drain(job.output)
        return _result(outcome, launched, command)

    def unpack(self, archive: Iterator[bytes], folder: str, *, user: str, job: Job) -> None:
        """Write a tar stream into `folder`, as `user`.

        Raises:
            StepFailed: disk, host or cancelled.
        """
        archives.unpack(archive, folder, account(user), job)

    def pack(self, folder: str, *, user: str, leave_out: Sequence[str], job: Job) -> Iterator[bytes]:
        """A folder as a tar stream, read as `user`, without the paths in `leave_out`.

        Raises:
            StepFailed: host or cancelled, while it is read.
        """
        return archives.pack(folder, leave_out, account(user), job)

    # -- what may hold a scope here
    def _kind_for(self, who: Account) -> Kind:
        if os.geteuid() == 0:
            return Kind.system if self._has_systemd else Kind.session
        if who.is_ours and self._has_user_manager:
            return Kind.user
        if self._may_start_units(who):
            return Kind.system
        if who.is_ours:
            return Kind.session
        raise StepFailed(Cause.preflight, f"cannot run as {who.name}", self.can_run_as(who.name))

    @cached_property
    def _has_systemd(self) -> bool:
        return Path("/run/systemd/system").is_dir()

    @cached_property
    def _has_user_manager(self) -> bool:
        runtime = own_environment().get("XDG_RUNTIME_DIR", "")
        return bool(runtime) and files.exists(Path(runtime, "systemd/private"))

    def _may_start_units(self, who: Account) -> bool:
        """Whether polkit lets us start units that run as `who`; asked once, by starting one."""
        if not self._has_systemd:
            return False
        if who.name not in self._allowed:
            options = ("--quiet", "--wait", "--collect", "--no-ask-password", f"--uid={who.name}")
            unit = f"--unit={scopes.new_scope(Kind.system).unit}"
            self._allowed[who.name] = run_short(("systemd-run", *options, unit, "true"), timeout=10).code == 0
        return self._allowed[who.name]


def host_and_port(address: str) -> tuple[str, int]:
    """'[::1]:80' -> ('::1', 80). Without a host it is this machine.

    Raises:
        ValueError: it is no address.
    """
    host, _, port = address.rpartition(":")
    if not 0 < int(port) < 65536:
        raise ValueError(address)
    return host.strip("[]") or "127.0.0.1", int(port)


def _check_program(program: str, cwd: str, path: str) -> None:
    named = files.exists(Path(cwd, program)) if "/" in program else shutil.which(program, path=path)
    if not named:
        message = f"cannot start {program}: there is no such program"
        raise StepFailed(Cause.preflight, message, f"Install it; looked in {path}")


def _result(outcome: Outcome, launched: Launched, command: Command) -> int:
    if outcome is Outcome.timeout:
        message = f"cannot finish `{command.describe()}`: it ran for {command.timeout:g} s and was ended"
        raise StepFailed(Cause.timeout, message, "Make it faster, or raise its `timeout`")
    if outcome is Outcome.cancelled:
        raise StepFailed(Cause.cancelled, f"cannot finish `{command.describe()}`: it was told to stop")
    return launched.exit_code()
