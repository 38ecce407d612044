"""The system's OpenSSH client: with what options it is called, and what its errors mean.

The user's ssh configuration holds for all that is not said here: aliases, ProxyJump, keys, ports.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from fraisier.application.settings import HostOptions
from fraisier.domain.errors import Cause, HostUnreachable
from fraisier.hosts.users import STANDARD_PATH

ALIVE_INTERVAL, ALIVE_COUNT = 5, 2  # a dead connection is noticed within (count + 1) intervals
CONNECT_TIMEOUT = 10  # seconds
# Nobody is there to answer questions. Whatever the user's configuration says, a host whose key is not known
# is refused, nothing of ours is lent to it, and no command or terminal of its own comes in between.
_ALWAYS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    f"ConnectTimeout={CONNECT_TIMEOUT}",
    f"ServerAliveInterval={ALIVE_INTERVAL}",
    f"ServerAliveCountMax={ALIVE_COUNT}",
    "ControlPersist=no",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "RequestTTY=no",
    "EscapeChar=none",
    "Compression=no",
)
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR"),
    *("SSH_AUTH_SOCK", "KRB5CCNAME", "XDG_RUNTIME_DIR"),
)


def ssh(host: str, options: HostOptions, control: str, *more: str) -> tuple[str, ...]:
    """The client's command line up to the host's name; `control` is the socket of the shared connection."""
    settings = [*_ALWAYS]
    if options.address:
        settings.append(f"HostName={_value(options.address)}")
    if options.port:
        settings.append(f"Port={options.port}")
    if options.user:
        settings.append(f"User={_value(options.user)}")
    if options.identity_file:
        settings += [f"IdentityFile={_value(options.identity_file)}", "IdentitiesOnly=yes"]
    if options.known_hosts:
        settings.append(f"UserKnownHostsFile={_value(options.known_hosts)}")
    named = [word for setting in settings for word in ("-o", setting)]
    return ("ssh", "-T", "-S", control, *named, *more, "--", host)


def _value(text: str) -> str:
    """A value as ssh_config(5) reads it: quoted, and its tokens taken as they are."""
    return '"' + text.replace("%", "%%").replace('"', "") + '"'


def environment() -> dict[str, str]:
    """What the client sees of our environment: what it needs to find keys, and no secret of ours."""
    found = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"PATH": STANDARD_PATH, **found, "LC_ALL": found.get("LC_ALL", "C.UTF-8")}


# -- what its errors mean

_NOISE = re.compile(r"(?:debug\d: |\*\*|Warning: Permanently|@@@|\s*$)")
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_NETWORK = (
    *("Connection refused", "Connection timed out", "Operation timed out", "No route to host"),
    *("Network is unreachable", "Could not resolve hostname", "Connection reset", "Connection closed"),
    *("Broken pipe", "not responding", "port 65535", "Connection to"),
)


def unreachable(host: str, options: HostOptions, said: str, why: str = "") -> HostUnreachable:
    """The failure that the client's errors are about, with what to do. `why` stands where it said nothing."""
    where = f"{host} ({options.address})" if options.address else host
    if _CHANGED in said:
        message = f"cannot trust host {where}: its key is another one than known_hosts has"
        return HostUnreachable(Cause.host, message, _changed_hint(host, options, said))
    if "Host key verification failed" in said or "host key is known for" in said:
        message = f"cannot trust host {where}: its key is not in known_hosts"
        return HostUnreachable(Cause.host, message, _unknown_hint(host, options))
    line = _first_useful(said) or why or "the connection ended"
    if "Permission denied" in said or "Too many authentication failures" in said:
        hint = f"See that its key may log in: ssh {host} true. To set the host up: fraisier bootstrap {host}"
        return HostUnreachable(Cause.host, f"cannot log in to host {where}: {line}", hint)
    cause = Cause.network if not said.strip() or any(text in said for text in _NETWORK) else Cause.host
    return HostUnreachable(
        cause, f"cannot reach host {where}: {line}", f"Try it as this user: ssh {host} true"
    )


def _first_useful(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if not _NOISE.match(line)]
    return lines[0][:300] if lines else ""


def _scan(host: str, options: HostOptions) -> Sequence[str]:
    port = ("-p", str(options.port)) if options.port else ()
    return ("ssh-keyscan", *port, options.address or host)


def _unknown_hint(host: str, options: HostOptions) -> str:
    file = shlex.quote(options.known_hosts) if options.known_hosts else "~/.ssh/known_hosts"
    return (
        f"As the user that Fraisier runs as: {shlex.join(_scan(host, options))} >> {file}, then compare "
        f"ssh-keygen -lf {file} with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the host"
    )


def _changed_hint(host: str, options: HostOptions, said: str) -> str:
    found = re.search(r"Offending \S+ key in (\S+?):?(?:\d+)?\s*$", said, re.MULTILINE)
    file = shlex.quote((found[1] if found else options.known_hosts) or "~/.ssh/known_hosts")
    name = options.address or host
    shown = f"[{name}]:{options.port}" if options.port else name
    return (
        "Somebody may stand between you and the host, or it was set up anew. Only if you know why: "
        f"ssh-keygen -R {shlex.quote(shown)} -f {file}, then {shlex.join(_scan(host, options))} >> {file}"
    )
