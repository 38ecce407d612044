"""How git proves who it is, without the proof being seen: not in a URL, not in `ps`, not on disk."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.domain.secret import Redactor, Secret
from fraisier.git.address import Address, parse_address

# Git asks the helper with `get`, and offers to `store` and `erase`; only the first is answered. The file
# is in memory: what is on the command line is its number. https://git-scm.com/docs/gitcredentials
_HELPER = '!f() {{ test "$1" != get || cat /proc/self/fd/{fd}; }}; f'

_SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "ControlPath=none",  # a shared master would outlive the fetch and hold its pipes
    "ForwardAgent=no",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a git that talks to a remote is given: options before its verb, variables, open files."""

    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    inherit: tuple[int, ...] = ()


@contextmanager
def access(source: Source) -> Iterator[Access]:
    """Everything that reaching `source` needs. Valid inside the context only.

    Raises:
        StepFailed: preflight, for a clone_url or a token that cannot be used.
    """
    address = parse_address(source.clone_url)
    allowed = "http:https" if address.protocol == "http" else address.protocol  # servers redirect to https
    env = {"GIT_ALLOW_PROTOCOL": allowed, "GIT_SSH_VARIANT": "ssh"}
    env["GIT_SSH_COMMAND"] = ssh_command(source)
    if source.ca_file:
        env["GIT_SSL_CAINFO"] = source.ca_file
    options = _proxy_options(source, env)
    if source.token is None or address.protocol not in {"https", "http"}:
        yield Access(options=options, env=env)
        return
    with _in_memory(_credential(source)) as descriptor:
        yield Access(
            options=(*options, *_helper_options(address, descriptor)), env=env, inherit=(descriptor,)
        )


def ssh_command(source: Source) -> str:
    """The `ssh` that git starts. Git gives it to a shell, so every word is quoted."""
    words = ["ssh"]
    for option in _SSH_OPTIONS:
        words += ["-o", option]
    if source.key:
        words += ["-o", f"IdentityFile={_ssh_path(source.key)}", "-o", "IdentitiesOnly=yes"]
    if source.known_hosts:
        words += ["-o", f"UserKnownHostsFile={_ssh_path(source.known_hosts)}"]
        words += ["-o", "GlobalKnownHostsFile=/dev/null"]
    return shlex.join(words)


def redactor(source: Source) -> Redactor:
    """Knows the credentials of `source`: git is not trusted to keep them to itself."""
    proxy_password = unquote(urlsplit(source.proxy).password or "") if source.proxy else ""
    return Redactor([secret for secret in (source.token, Secret(proxy_password)) if secret])


def missing_files(source: Source) -> str:
    """The first credential file that cannot be read, as `clone_key: /path`; '' if all can."""
    files = {"clone_key": source.key, "known_hosts": source.known_hosts, "ca_file": source.ca_file}
    for name, path in files.items():
        if path and not os.access(Path(path).expanduser(), os.R_OK):
            return f"{name}: {path}"
    return ""


def _ssh_path(path: str) -> str:
    """A path as a value of ssh_config(5): quoted, and without the `%` tokens that ssh would replace."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _proxy_options(source: Source, env: dict[str, str]) -> tuple[str, ...]:
    if not source.proxy:
        return ()
    env["FRAISIER_GIT_PROXY"] = source.proxy  # may hold a password: in the environment `ps` does not show it
    env |= dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"), source.proxy)
    return ("--config-env=http.proxy=FRAISIER_GIT_PROXY",)


def _helper_options(address: Address, descriptor: int) -> tuple[str, ...]:
    """Ask our helper for this host only, and no other helper: one of the user's might store the token."""
    host = address.authority.rpartition("@")[2]
    section = f"credential.{address.protocol}://{host}"
    return ("-c", "credential.helper=", "-c", f"{section}.helper={_HELPER.format(fd=descriptor)}")


def _credential(source: Source) -> bytes:
    token = source.token.reveal() if source.token else ""
    if any(character in token + source.token_user for character in "\r\n\0"):
        hint = "A token file often ends in a line break: leave it out"
        raise StepFailed(Cause.preflight, "cannot use clone_token: it has more than one line", hint)
    return f"username={source.token_user}\npassword={token}\n".encode()


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    with os.fdopen(os.memfd_create("credential"), "w+b", buffering=0) as file:
        file.write(content)
        yield file.fileno()
