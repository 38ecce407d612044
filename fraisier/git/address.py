"""Where a repository lives: a clone URL, taken apart and checked."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from fraisier.domain.errors import Cause, StepFailed

DEFAULT_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418, "file": 0}
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")  # git-remote-<name>: `ext::` runs any command
_SCP_LIKE = re.compile(r"(?:(?P<user>[^@/:\s]+)@)?(?P<host>\[[^\]/]+\]|[^@/:\s\[]+):(?P<path>[^\s].*)\Z")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_A_SLUG = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One repository. `host` is lower-case, '' for a path of this machine."""

    url: str
    protocol: str
    path: str
    host: str = ""
    port: int = 0
    scp_like: bool = False  # user@host:path
    authority: str = ""  # [user@]host[:port], as written

    @property
    def is_local(self) -> bool:
        """Whether the repository is a folder of this machine."""
        return self.protocol == "file"

    @property
    def slug(self) -> str:
        """A folder name: readable, and different for any two URLs."""
        name = "-".join(self.path.removesuffix("/").removesuffix(".git").split("/")[-2:])
        readable = _NOT_IN_A_SLUG.sub("-", name).strip("-.")[-60:] or "repository"
        return f"{readable}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"


def parse_address(url: str) -> Address:
    """Take a clone URL apart.

    Known are http, https, ssh, git and file URLs, `user@host:path`, and absolute paths.

    Raises:
        StepFailed: preflight, for anything else; the message does not repeat the URL, which may hold a
            password.
    """
    if not url or url.startswith("-") or _UNPRINTABLE.search(url) or _HELPER.match(url):
        raise refused("it is none that Fraisier fetches from")
    if url.startswith("/"):
        return Address(url=url, protocol="file", path=url)
    if "://" in url:
        return _parse_url(url)
    return _parse_scp_like(url)


def refused(why: str) -> StepFailed:
    """The error for a URL that cannot be used."""
    hint = "Allowed are https, http, ssh, git and file URLs, user@host:path and absolute paths"
    return StepFailed(Cause.preflight, f"cannot use the repository's clone_url: {why}", hint)


def _parse_url(url: str) -> Address:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refused("its host or port is malformed") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise refused("its protocol is none that Fraisier fetches with")
    if parts.scheme == "file":
        return Address(url=url, protocol="file", path=parts.path)
    if parts.password:
        hint = "Put the password into clone_token: and leave it out of the URL"
        raise StepFailed(Cause.preflight, "cannot use the repository's clone_url: it holds a password", hint)
    host = (parts.hostname or "").lower()
    if not host or host.startswith("-") or (parts.username or "").startswith("-"):
        raise refused("it names no host")
    return Address(
        url=url,
        protocol=parts.scheme,
        host=host,
        port=port or DEFAULT_PORTS[parts.scheme],
        path=parts.path,
        authority=parts.netloc,
    )


def _parse_scp_like(url: str) -> Address:
    match = _SCP_LIKE.match(url)
    if not match or match["host"].startswith("-") or (match["user"] or "").startswith("-"):
        raise refused("it is neither a URL nor an absolute path")
    return Address(
        url=url,
        protocol="ssh",
        host=match["host"].strip("[]").lower(),
        port=DEFAULT_PORTS["ssh"],
        path=match["path"],
        scp_like=True,
        authority=url[: match.start("path") - 1],
    )


def relative_url(base: Address, url: str) -> str:
    """What `./x` or `../x` in the .gitmodules of `base` means; any other URL means itself.

    The rule of gitmodules(5), within the host: more `..` than the path has parts is refused.

    Raises:
        StepFailed: repository.
    """
    if not url.startswith(("./", "../")):
        return url
    parts = [part for part in base.path.split("/") if part]
    rest = url
    while rest.startswith(("./", "../")):
        step, _, rest = rest.partition("/")
        if step == ".." and not parts:
            raise StepFailed(Cause.repository, "cannot fetch a submodule: its relative URL leaves the host")
        if step == "..":
            parts.pop()
    rooted = "/" if base.path.startswith("/") else ""
    path = rooted + "/".join([*parts, rest])
    if base.is_local:
        return path
    return f"{base.authority}:{path}" if base.scp_like else f"{base.protocol}://{base.authority}{path}"
