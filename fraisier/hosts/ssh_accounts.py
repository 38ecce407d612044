"""Who commands can run as on a host, and how: as root, by sudo, or by systemd where polkit lets us."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from fraisier.application.ports import Finished
from fraisier.domain.errors import Cause, StepFailed
from fraisier.hosts.ssh_connection import Facts
from fraisier.hosts.users import Account

_LOCAL_ONLY = -1  # a uid that is nobody's here, so that it is not taken for our own


@dataclass(frozen=True, slots=True)
class RemoteAccount:
    """A user of a host. `how` we act as them: '' (it is us), root, sudo, systemd, or 'none'."""

    name: str
    uid: int
    gid: int
    home: str
    how: str

    def as_account(self) -> Account:
        """For building a command's environment."""
        return Account(self.name, _LOCAL_ONLY, self.gid, (), self.home)


class Accounts:
    """The users of one host, each asked for once per connection."""

    def __init__(self, host: str, ask: Callable[..., Finished], facts: Callable[[], Facts]) -> None:
        self._host = host
        self._ask = ask
        self._facts = facts
        self._known: dict[str, RemoteAccount] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Ask anew: the connection is another one."""
        with self._lock:
            self._known.clear()

    def find(self, user: str) -> RemoteAccount | None:
        """The account called `user`; '' is the one that we log in as. None: there is no such user."""
        facts = self._facts()
        with self._lock:
            if user in self._known:
                return self._known[user]
        found = self._ask("account", user or facts.user)
        line = found.stdout.decode("utf-8", "surrogateescape").split("\n")[0].split(":")
        if found.code != 0 or len(line) < 6:
            if user and user != facts.user:
                return None
            line = [facts.user, "", str(facts.uid), str(facts.uid), "", facts.home]
        name, uid, gid, home = line[0], int(line[2]), int(line[3]), line[5] or "/"
        account = RemoteAccount(name, uid, gid, home, self._how(name, uid, facts))
        with self._lock:
            if account.how != "none":  # somebody may be about to allow it
                self._known[user] = account
        return account

    def get(self, user: str) -> RemoteAccount:
        """The account called `user`, if we can act as them.

        Raises:
            StepFailed: preflight, if not.
        """
        found = self.find(user)
        if found is None or found.how == "none":
            raise StepFailed(
                Cause.preflight, f"cannot run as '{user}' on {self._host}: {self.lack(user)}", self._advice()
            )
        return found

    def lack(self, user: str) -> str:
        """'' if commands can be run as `user`, else why not and what to do."""
        found = self.find(user)
        if found is None:
            return f"cannot run as '{user}': {self._host} has no such user"
        if found.how != "none":
            return ""
        us = self._facts().user
        why = f"Fraisier logs in to {self._host} as {us}, who may not run commands as {user}"
        return f"{why}. {self._advice()}"

    def _advice(self) -> str:
        return f"Let it: fraisier bootstrap {self._host}"

    def _how(self, name: str, uid: int, facts: Facts) -> str:
        if uid == facts.uid:
            return ""
        if facts.is_root:
            return "root"
        if self._ask("may_sudo", name).code == 0:
            return "sudo"
        if facts.has_systemd:
            options = ("--quiet", "--wait", "--collect", "--no-ask-password", f"--uid={name}")
            if self._ask("perform", "10", "systemd-run", *options, "true", patience=15.0).code == 0:
                return "systemd"
        return "none"
