"""Who commands run as on this machine, and the clean environment that they get."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.secret import Secret

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")  # what a shell can export


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, with every group that a login would give."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def is_ours(self) -> bool:
        """Whether Fraisier itself runs as this user."""
        return self.uid == os.geteuid()


def account(user: str) -> Account:
    """The account called `user`; '' is the one that Fraisier runs as.

    Raises:
        StepFailed: preflight, if there is no such user.
    """
    try:
        return _account(pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid()))
    except KeyError:
        return _without_entry(user)


def account_of(uid: int) -> Account:
    """The account with this uid, known to the machine or not."""
    try:
        return _account(pwd.getpwuid(uid))
    except KeyError:
        return Account(str(uid), uid, uid, (), "/")


def _account(entry: pwd.struct_passwd) -> Account:
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir or "/")


def _without_entry(user: str) -> Account:
    if user:
        message = f"cannot run as '{user}': this machine has no such user"
        raise StepFailed(Cause.preflight, message, f"sudo useradd --system --create-home {user}")
    # A container may run us under a uid that has no entry in /etc/passwd.
    uid = os.geteuid()
    return Account(str(uid), uid, os.getegid(), tuple(os.getgroups()), os.environ.get("HOME", "/"))


def environment_of(
    who: Account, command: Command, read: Callable[[str], bytes | None], *, path: str = "", lang: str = ""
) -> dict[str, str]:
    """The whole environment of `command`: nothing of our own but PATH (for ourselves) and LANG.

    `path` and `lang` are another machine's. `env:` wins over `env_file:`, as FRAISIER_COMMIT and its like,
    which arrive in it, must.

    Raises:
        StepFailed: preflight, if the `env_file` is missing or a name is none that a shell can export.
    """
    base = {
        "PATH": path or _path(who),
        "HOME": who.home,
        "LANG": lang or os.environ.get("LANG") or "C.UTF-8",
        "USER": who.name,
        "LOGNAME": who.name,
    }
    found = {**base, **_from_file(command, read), **revealed(command.env)}
    for name, value in found.items():
        _check(name, value)
    return found


def revealed(env: Mapping[str, str | Secret]) -> dict[str, str]:
    """`env` with its secrets as plain text, for handing it to a process."""
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in env.items()}


def _path(who: Account) -> str:
    return (os.environ.get("PATH") or STANDARD_PATH) if who.is_ours else path_of(who.home)


def path_of(home: str) -> str:
    """The PATH of somebody else with this home."""
    return f"{home}/.local/bin:{STANDARD_PATH}"


def _check(name: str, value: str) -> None:
    if not _NAME.match(name) or "\0" in value:
        message = f"cannot set the environment variable {name!r}: a shell cannot export it"
        raise StepFailed(Cause.preflight, message, "Use letters, digits and '_' only, and no NUL in values")


def _from_file(command: Command, read: Callable[[str], bytes | None]) -> dict[str, str]:
    if not command.env_file:
        return {}
    path = os.path.join(command.cwd or "/", command.env_file)  # noqa: PTH118 a relative one is the release's
    content = read(path)
    if content is None:
        message = f"cannot read env_file {path}: there is no such file, or Fraisier may not read it"
        raise StepFailed(Cause.preflight, message, "Create it, or correct `env_file` in fraises.yaml")
    return parse_env_file(content.decode("utf-8", "surrogateescape"))


# The grammar of systemd's EnvironmentFile=, see systemd.exec(5): quoted parts, then an unquoted rest in
# which a backslash keeps the next character and a backslash at a line's end continues the line.
_QUOTED = r"""[ \t\r]*(?:'[^']*'|"(?:\\.|[^"\\])*")"""
_ENTRY = re.compile(
    r"[ \t\r\n]*(?:[#;](?:\\.|[^\\\n])*"
    rf"|(?P<name>[^=\n#;][^=\n]*)=(?P<quoted>(?:{_QUOTED})*)(?P<rest>(?:\\.|[^\\\n])*)"
    r"|[^\n]*)(?:\n|\Z)",
    re.DOTALL,
)
_PART = re.compile(r"""[ \t\r]*(?:'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)")""", re.DOTALL)


def parse_env_file(text: str) -> dict[str, str]:
    """The pairs in a file that systemd would accept as EnvironmentFile=; other lines are skipped."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text) and (match := _ENTRY.match(text, position)):
        position = match.end()
        name = (match["name"] or "").strip()
        if _NAME.match(name):
            found[name] = "".join(map(_part, _PART.finditer(match["quoted"]))) + _rest(match["rest"])
    return found


def _part(match: re.Match[str]) -> str:
    if match["single"] is not None:
        return match["single"]
    return re.sub(r"\\([\"\\`$\n])", lambda m: "" if m[1] == "\n" else m[1], match["double"])


def _rest(text: str) -> str:
    bare = text.lstrip(" \t\r")
    kept = re.match(r"(?:\\.|[^\\\s]|\s+(?=[^\s]))*", bare, re.DOTALL)
    return re.sub(r"\\(.)", lambda m: "" if m[1] == "\n" else m[1], kept[0] if kept else "", flags=re.DOTALL)
