"""What git's words on stderr mean: whose fault it is, and what to do.

Git has no exit codes for these; its messages are stable in the C locale. Sources: git 2.30 to 2.47
(remote-curl.c, transport.c, connect.c), OpenSSH, curl, and the answers of the forges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.git.address import Address, parse_address

LONGEST_REASON = 300  # characters of git's own words in a message
_PROGRESS = re.compile(r"^(hint:|Cloning|From |remote: (Counting|Compressing|Enumerating|Total)|\s*$)")
_SPEAKS = re.compile(r"^(fatal|error|ssh|remote|Permission|Host key|batch response|sh|setpriv|No |\S+@\S+:)")


class Damaged(Exception):
    """The mirror itself is broken; it has to be cloned anew. Holds git's whole stderr."""

    def __init__(self, stderr: str) -> None:
        super().__init__(last_words(stderr))
        self.stderr = stderr


class Unexplained(StepFailed):
    """Git failed in a way that nothing below fits."""


class RefMissing(StepFailed):
    """The repository has no such ref."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    pattern: str
    cause: Cause
    hint: str = ""


_LOGIN = "Set clone_token: (https) or clone_key: (ssh) of the fraise to one that may read {repository}"
_HOST_KEY = (
    "Get the key with `ssh-keyscan{port} {host}`, compare it with what the forge publishes, and append it to "
    "{known_hosts}"
)
_INSTALL = "Install it, e.g. `apt install {package}`"

# The first that fits counts, so what is certain stands above what often comes with other things.
_MEANINGS = (
    _Meaning(
        r"No space left on device|Disk quota exceeded|not enough space",
        Cause.disk,
        "Free some space where Fraisier keeps its mirrors",
    ),
    _Meaning(r"Read-only file system|Input/output error", Cause.disk, "Look at the disk of the mirrors"),
    _Meaning(
        r"failed to execute git:|sh: .*git: not found|No such file or directory: '?git'?\b",
        Cause.preflight,
        _INSTALL.format(package="git"),
    ),
    _Meaning(
        r"cannot run ssh:|ssh: (command )?not found",
        Cause.preflight,
        _INSTALL.format(package="openssh-client"),
    ),
    _Meaning(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        Cause.repository,
        "The forge's key is not the one known. " + _HOST_KEY,
    ),
    _Meaning(r"Host key verification failed|No \S+ host key is known for", Cause.repository, _HOST_KEY),
    _Meaning(
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        Cause.repository,
        "Run `chmod 600 {key}` as its owner",
    ),
    _Meaning(
        r"Permission denied \(|Authentication failed for|could not read (Username|Password)|"
        r"requested URL returned error: 40[13]|Access denied|Invalid username or (password|token)|"
        r"Too many authentication failures|Bad credentials",
        Cause.repository,
        _LOGIN,
    ),
    _Meaning(
        r"dubious ownership",
        Cause.repository,
        "Run `git config --global --add safe.directory {path}` as the user that runs Fraisier, if you trust "
        "that folder's owner",
    ),
    _Meaning(
        r"SSL certificate problem|certificate verification failed|unable to get local issuer|"
        r"error setting certificate|no alternative certificate subject name",
        Cause.repository,
        "Set ca_file: of the forge to the certificate of the authority that signed the forge's own",
    ),
    _Meaning(
        r"[Cc]ouldn't find remote ref",
        Cause.repository,
        "See `git ls-remote` for the branches and tags that there are",
    ),
    _Meaning(
        r"remote missing object|[Oo]bject does not exist on the server|objects? .*not found on (the )?server|"
        r"batch response: .*(not found|404)",
        Cause.repository,
        "Push the objects of large files where they belong: `git lfs push --all origin`",
    ),
    _Meaning(
        r"not our ref|does not allow request for unadvertised",
        Cause.commit_not_found,
        "The commit was never pushed there, or was replaced by a force push",
    ),
    _Meaning(
        r"transport '.*' not allowed|unable to find remote helper|Unsupported protocol|"
        r"Protocol .* (not supported|disabled)",
        Cause.repository,
        "Use an https or ssh clone_url",
    ),
    _Meaning(
        r"[Rr]epository .*not found|requested URL returned error: 404|does not appear to be a git repository|"
        r"[Rr]epository .*does not exist|project you were looking for could not be found|"
        r"repository .* not exported|not valid: is this a git repository",
        Cause.repository,
        "Check clone_url:; forges answer so for private repositories too: " + _LOGIN,
    ),
    _Meaning(
        r"Could not resolve|[Tt]emporary failure in name resolution|Name or service not known|"
        r"Connection (refused|timed out|reset|closed)|Operation (timed out|too slow)|[Tt]imed? ?out|"
        r"Failed to connect|Couldn't connect|Network is unreachable|No route to host|early EOF|RPC failed|"
        r"hung up unexpectedly|unexpected disconnect|requested URL returned error: (5\d\d|429)|"
        r"Empty reply|Broken pipe|kex_exchange|TLS connect|gnutls_handshake|SSL_(connect|ERROR_SYSCALL)|"
        r"Proxy CONNECT aborted|CONNECT tunnel failed|[Tt]ransferred a partial file|transfer closed|"
        r"Connection aborted|Recv failure|Send failure|HTTP/2 stream .* not closed",
        Cause.network,
        "Is the forge up, and reachable from here?",
    ),
)

_DAMAGE = re.compile(
    r"object file .* is empty|loose object .* is corrupt|object corrupt or missing|object .* is a bad |"
    r"unable to (read|parse|unpack) .*(object|tree|blob|commit|header)|unable to read [0-9a-f]{7,}|"
    r"packfile .* (does not match|cannot be|is not|claims|is far too short|signature mismatch|is version)|"
    r"index file .* (is too small|is corrupt|does not match)|wrong index|non-monotonic index|"
    r"not a git repository: |(?<!remote )[Mm]issing (blob|tree|commit|object) |"
    r"bad (tree|signature|pack) |inflate: |"
    r"unresolved delta|failed to read (delta|object)|cannot read (object|existing object)|"
    r"[Cc]ould not (read|open|parse) .*(object|pack|tree|commit)|[Cc]ould not read [0-9a-f]{7,}|"
    r"invalid sha1 pointer|reference broken|unable to resolve reference|bad ref |is garbage|"
    r"cannot lock ref|unable to update local ref|unterminated line in|unexpected line in|"
    r"bad config (line|variable|numeric)|[Ee]xpected git repo version|bad object (HEAD|refs/)|"
    r"not a valid object|invalid object [0-7]{6} |revision walk setup failed|hash mismatch|"
    r"Failed to traverse parents|did not (receive|send) (all )?(expected|necessary)"
)


def is_damage(stderr: str) -> bool:
    """Whether git found its own repository broken. What the remote says of itself does not count."""
    own = (line for line in stderr.splitlines() if not line.startswith("remote:"))
    return any(_DAMAGE.search(line) for line in own)


def explain(stderr: str, source: Source, *, doing: str = "fetch") -> StepFailed:
    """The failure of a git that talked to `source`, from what it wrote. The text has no secrets any more."""
    reason = last_words(stderr)
    message = f"cannot {doing} {source.repository or 'the repository'}: {reason}"
    for meaning in _MEANINGS:
        if re.search(meaning.pattern, stderr):
            kind = RefMissing if "remote ref" in meaning.pattern else StepFailed
            return kind(meaning.cause, message, _filled(meaning.hint, source))
    return Unexplained(Cause.repository, message, "Git's own words stand in the output of this step")


def last_words(stderr: str) -> str:
    """The line that says most: the first that git or ssh mark as an error, else the last."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr) if not _PROGRESS.match(line)]
    marked = [line for line in lines if _SPEAKS.match(line) and not _says_nothing(line)]
    chosen = (marked or lines or ["git gave no reason"])[0 if marked else -1]
    return re.sub(r"^(fatal|error): ", "", chosen)[:LONGEST_REASON].rstrip(".")


def _says_nothing(line: str) -> bool:
    return line.startswith("fatal: Could not read from remote repository") or line in {"remote:", "error:"}


def _filled(hint: str, source: Source) -> str:
    address = parse_address(source.clone_url)
    return hint.format(
        repository=source.repository or "the repository",
        host=address.host,
        port=_port_option(address),
        key=source.key or "the key",
        path=address.path,
        known_hosts=source.known_hosts or "~/.ssh/known_hosts of the user that runs Fraisier",
    )


def _port_option(address: Address) -> str:
    return f" -p {address.port}" if address.protocol == "ssh" and address.port != 22 else ""
