"""A machine that is reached over SSH, as a host: what `LocalHost` does, by the system's OpenSSH client.

The host needs sh, coreutils, util-linux and tar; see docs/ssh.md. Where we are not root there, sudoers says
what we may do: `fraisier bootstrap` writes it.
"""

from __future__ import annotations

import base64
import posixpath
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial

from fraisier.application.ports import Finished, Ground, Job
from fraisier.application.settings import HostOptions
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, FraisierError, StepFailed
from fraisier.domain.release import Layout
from fraisier.hosts import ground as grounds
from fraisier.hosts import ssh_streams
from fraisier.hosts.archives import pack_words
from fraisier.hosts.launch import Order, Outcome
from fraisier.hosts.local import ASKING, host_and_port
from fraisier.hosts.scopes import Kind
from fraisier.hosts.ssh_accounts import Accounts, RemoteAccount
from fraisier.hosts.ssh_channel import Channels, NoAnswer
from fraisier.hosts.ssh_connection import Connection, Facts
from fraisier.hosts.ssh_ground import STAYS, SSHGround, failure
from fraisier.hosts.ssh_run import NotStarted, Running
from fraisier.hosts.users import environment_of

_LARGEST_ENV_FILE = 1 << 20  # bytes
_LONG_ACT = 600.0  # seconds for removing a large folder, or syncing a slow disk
_MISSING_PROGRAM, _KILLED = 127, 137
_MISSING = 4  # as in ssh_scripts/common.sh
# Verbs of systemctl that only look: no rights are asked for them.
_LOOKS = frozenset({"show", "status", "cat", "is-active", "is-enabled", "is-failed", "list-units"})


class SSHHost:
    """One machine, by its name in `hosts:`. Any number of threads may use it."""

    def __init__(self, name: str, options: HostOptions | None = None) -> None:
        self.name = name
        self._options = options or HostOptions()
        self._connection: Connection | None = None
        self._connecting = threading.Lock()
        self._channels = Channels(self._connected)
        self._ground = SSHGround(name, self._channels)
        self._accounts = Accounts(name, self._ask, lambda: self._facts)

    # -- looking
    def read_link(self, path: str) -> str | None:
        """What a symbolic link contains; None where there is none."""
        found = self._if_there(f"cannot read the link {path}", self._ask("link_of", path))
        return None if found is None else _text(found)

    def kind(self, path: str) -> str:
        """'missing', 'file', 'folder', 'link' or 'other'; links are not followed."""
        return _text(self._done(f"cannot look at {path}", "kind", path).stdout)

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes | None:
        """A file's content, at most `limit` bytes; None where there is none that its folder's owner sees."""
        return self._if_there(f"cannot read {path}", self._ask("read_file", path, str(limit), patience=30.0))

    def list(self, folder: str) -> Sequence[str]:
        """Names in a folder, sorted; empty where there is none."""
        shown = self._done(f"cannot list {folder}", "names", folder)
        return sorted(map(_text, shown.stdout.split(b"\0")[:-1]))

    def free_bytes(self, path: str) -> int:
        """Free space on the file system of `path`, or of its nearest parent that exists."""
        blocks, size = self._done(f"cannot look at {path}", "free_space", path).stdout.split()
        return int(blocks) * int(size)

    def user_exists(self, user: str) -> bool:
        """Whether the host knows the user."""
        return self._accounts.find(user) is not None

    def can_run_as(self, user: str) -> str:
        """'' if commands can be run as `user`, else why not and what to do."""
        return self._accounts.lack(user)

    def writable(self, path: str) -> bool:
        """Whether we may create things in `path`, or in its nearest parent that exists."""
        return self._ask("may_write", path).code == 0

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        """Run a short command that changes nothing; code 127 where the program is missing."""
        return self._perform(argv, timeout, again=True)

    def ask(self, command: Command) -> Finished:
        """Run a fraise's command that changes nothing, as its user and with its environment.

        Raises:
            StepFailed: timeout, preflight where the user or the env_file is missing.
        """
        who = self._accounts.get(command.user)
        script = base64.b64encode(self._order(who, command).script()).decode()
        limit = command.timeout or ASKING
        words = ("ask_for", f"{limit:g}", who.how, who.name, script)
        return self._in_time(command.describe(), limit, partial(self._ask, *words, patience=limit))

    def is_going_down(self) -> bool:
        """Whether systemd is stopping everything there; False where it cannot be asked."""
        try:
            if self._connection is None or not self._connection.is_up or not self._facts.has_systemd:
                return False
            return self.inspect(("systemctl", "is-system-running"), timeout=5).stdout.strip() == b"stopping"
        except FraisierError:
            return False

    def connect(self, address: str, *, timeout: float) -> socket.socket:
        """A connection from that machine to host:port, or to a unix socket's path, through its sshd.

        Raises:
            OSError: as a connection from here would; TimeoutError after `timeout` seconds.
            ValueError: it is no address.
            StepFailed: host, where its sshd forbids forwarding.
        """
        connection = self._connected()
        if address.startswith("/"):
            found = ssh_streams.connect_unix(connection, address, timeout)
        else:
            found = ssh_streams.connect(connection, *host_and_port(address), timeout)
        found.settimeout(timeout)
        return found

    # -- the right to change
    def adopt(self, ground: Ground, *, force: bool = False) -> None:
        """Take the environment over and end every older scope.

        Raises:
            ForeignOwner: another owner, and not `force`; or a host token of our own above ours.
            StepFailed: preflight where we may not write; host where an older command will not end.
        """
        self._ground.adopt(ground, self._facts, force=force)

    @contextmanager
    def guard(self, ground: Ground) -> Iterator[None]:
        """Hold the environment's lock with a token that is still the newest, for short acts.

        Raises:
            TokenOutdated: another worker has taken over.
        """
        with self._ground.locked(ground, self._ground.entry(ground)):
            yield

    # -- short acts
    def make_folder(self, path: str, *, user: str = "", mode: int = 0o755) -> None:
        """Create a folder and its parents; the last one belongs to `user`, or, where we may not give it away,
        to their group."""
        who = self._accounts.get(user)
        words = (who.how, f"{mode:o}", who.name, str(who.gid))
        self._acted(f"cannot create {path}", "make_folder", path, *words)

    def point(self, link: str, to: str) -> None:
        """Make `link` a symbolic link to `to`: atomic, and on disk when it returns."""
        self._acted(f"cannot make the link {link}", "point", link, to)

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file: atomic, and on disk when it returns."""
        content = base64.b64encode(data).decode()
        self._acted(f"cannot write {path}", "write_file", path, f"{mode:o}", content)

    def remove(self, path: str, *, user: str = "") -> None:
        """Remove a link, a file, or a whole folder. Missing is fine."""
        who = self._accounts.get(user)
        self._acted(f"cannot remove {path}", "remove", path, who.how, who.name)

    def sync(self, folder: str) -> None:
        """Everything written below `folder` is on disk when it returns."""
        self._acted(f"cannot sync {folder}", "sync_all", folder)

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        """Run a short command that changes something.

        Raises:
            StepFailed: timeout.
        """
        return self._perform(argv, timeout, again=False)

    # -- long commands
    def run(self, ground: Ground, command: Command, job: Job) -> int:
        """Run in a recorded scope; returns the exit code (negative: a signal).

        Raises:
            StepFailed: timeout, cancelled (when `job.stop` was set), preflight where the user, the program
                or the env_file is missing, host where no scope can be started.
            HostUnreachable: the connection was lost; the host ends the command by itself, within 15 s.
            TokenOutdated: another worker has taken over.
        """
        who = self._accounts.get(command.user)
        order = self._order(who, command)
        cookie = secrets.token_hex(8)
        words = (
            *(Layout(ground.app_path).own, f"{grounds.LOCK_PATIENCE:g}", str(ground.token)),
            *(grounds.owner_text(ground).decode(), self._kind_for(who).value, cookie),
            *(who.how, who.name, self._facts.boot),
            # Others' folders may be closed to us: where their programs are is for them to find out.
            command.argv[0] if not who.how or who.how == "root" else "",
            *(order.environment["PATH"], order.cwd, base64.b64encode(order.script()).decode()),
        )
        with closing(Running(self._connected(), words, cookie)) as running:
            try:
                running.wait_until_ready(job, ground.halt, grounds.LOCK_PATIENCE)
            except NotStarted as refused:
                raise self._refusal(ground, command, order, refused) from None
            outcome = running.follow(job, command.timeout)
            return _result(outcome, running, command)

    def _order(self, who: RemoteAccount, command: Command) -> Order:
        environment = environment_of(
            who.as_account(),
            command,
            lambda path: self.read(path, limit=_LARGEST_ENV_FILE),
            path=self._facts.path if not who.how else "",
            lang=self._facts.lang,
        )
        cwd = command.cwd or who.home
        nice = self._facts.nice
        return Order(command.argv, cwd, environment, background=command.background, nice=nice)

    def _kind_for(self, who: RemoteAccount) -> Kind:
        facts = self._facts
        if facts.is_root:
            return Kind.system if facts.has_systemd else Kind.session
        if not who.how and facts.has_user_manager:
            return Kind.user
        return Kind.system if who.how == "systemd" else Kind.session

    def _refusal(self, ground: Ground, command: Command, order: Order, refused: NotStarted) -> FraisierError:
        if refused.code == _MISSING_PROGRAM:
            message = f"cannot start {command.argv[0]} on {self.name}: there is no such program"
            hint = f"Install it there; looked in {order.environment['PATH']}"
            return StepFailed(Cause.preflight, message, hint)
        if refused.code == STAYS:
            return self._ground.stays("")
        return self._ground.refusal(ground, refused.code, refused.said)

    def unpack(self, archive: Iterator[bytes], folder: str, *, user: str, job: Job) -> None:
        """Write a tar stream into `folder`, as `user`.

        Raises:
            StepFailed: disk, host or cancelled.
        """
        who = self._accounts.get(user)
        ssh_streams.unpack(self._connected(), (who.how, who.name), folder, archive, job)

    def pack(self, folder: str, *, user: str, leave_out: Sequence[str], job: Job) -> Iterator[bytes]:
        """A folder as a tar stream, read as `user`, without the paths in `leave_out`.

        Raises:
            StepFailed: host or cancelled.
        """
        who = self._accounts.get(user)
        words = pack_words(folder, self.list(folder), leave_out)
        return ssh_streams.pack(self._connected(), (who.how, who.name), folder, words, job)

    # -- the connection
    def close(self) -> None:
        """Let go of the connection. Whatever uses this host next makes a new one."""
        with self._connecting:
            self._channels.forget()
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        with self._connecting:
            if self._connection is None or not self._connection.is_up:
                if self._connection is not None:
                    self._connection.close()
                self._connection = Connection(self.name, self._options)
                self._accounts.forget()
            if lacks := self._connection.facts.lacks:
                self._connection.close()  # the next look finds what was installed meanwhile
                raise self._lacking(lacks)
            self._connection.use(0)
            return self._connection

    def _lacking(self, lacks: str) -> StepFailed:
        hint = "Install coreutils, util-linux and tar there"
        if "busybox" in lacks:
            hint += ", before busybox's in PATH, and a /bin/sh that is not busybox's (dash)"
        return StepFailed(Cause.preflight, f"cannot use host {self.name}: it lacks {lacks}", hint)

    @property
    def _facts(self) -> Facts:
        return self._connected().facts

    # -- asking
    def _ask(self, *words: str, patience: float = 10.0, again: bool = True) -> Finished:
        return self._channels.ask(*words, patience=patience, again=again)

    def _done(self, doing: str, *words: str) -> Finished:
        return self._require(doing, self._ask(*words))

    def _if_there(self, doing: str, finished: Finished) -> bytes | None:
        """None only where the host says that it is not there: not where it cannot tell."""
        return None if finished.code == _MISSING else self._require(doing, finished).stdout

    def _acted(self, doing: str, *words: str) -> None:
        self._require(doing, self._ask(*words, patience=_LONG_ACT, again=False))

    def _require(self, doing: str, finished: Finished) -> Finished:
        if finished.code != 0:
            raise failure(doing, finished.stderr.decode("utf-8", "replace"), self.name)
        return finished

    def _perform(self, argv: Sequence[str], timeout: float, *, again: bool) -> Finished:
        words = ("perform_with_rights" if needs_rights(argv) else "perform", f"{timeout:g}", *argv)
        ask = partial(self._ask, *words, patience=timeout, again=again)
        return self._in_time(shlex.join(argv), timeout, ask)

    def _in_time(self, shown: str, timeout: float, ask: Callable[[], Finished]) -> Finished:
        began = time.monotonic()
        try:
            done = ask()
        except NoAnswer:  # sudo's commands are not ours to kill
            done = None
        if done is None or (done.code == _KILLED and time.monotonic() - began >= timeout):
            message = f"cannot finish `{shown}` on {self.name} within {timeout:g} s"
            raise StepFailed(Cause.timeout, message, "Run it there by hand to see what it waits for")
        return done


def needs_rights(argv: Sequence[str]) -> bool:
    """Whether a command of a process manager changes something, or reads what only root may."""
    program = posixpath.basename(argv[0])
    if program == "systemctl":
        return "--user" not in argv and not _LOOKS & set(argv)
    # Not docker: whoever may use it is in its group, for short commands and for long ones.
    return program == "supervisorctl" or (
        program == "journalctl" and not any(word.startswith("--user-unit") for word in argv)
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _result(outcome: Outcome, running: Running, command: Command) -> int:
    if outcome is Outcome.timeout:
        message = f"cannot finish `{command.describe()}`: it ran for {command.timeout:g} s and was ended"
        raise StepFailed(Cause.timeout, message, "Make it faster, or raise its `timeout`")
    if outcome is Outcome.cancelled:
        raise StepFailed(Cause.cancelled, f"cannot finish `{command.describe()}`: it was told to stop")
    return running.exit_code()
