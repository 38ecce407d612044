"""What a text must look like to name a branch, a folder, …: '' or what is wrong and what is allowed."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable

from fraisier.domain.push import is_ref_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?\Z")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,254}\Z")
_PROGRAM = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?\Z")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")  # docs.docker.com/compose/how-tos/project-name/
_REPOSITORY = re.compile(r"[A-Za-z0-9_.~-]+(/[A-Za-z0-9_.~-]+)*\Z")
_SCP_LIKE = re.compile(r"(?:[A-Za-z0-9_.-]+@)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9][A-Za-z0-9.-]*):(?!//)[^\s]+\Z")
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^/\s@:]*)(?P<password>:[^/\s@]*)?@)?"
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#]\S*)?\Z"
)
_LIMIT = re.compile(r"[1-9][0-9]{0,5}/(second|minute|hour|day)\Z")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*\Z")
_UNIT_SUFFIXES = (".service", ".socket", ".target", ".timer", ".path")
LONGEST_SOCKET = 107  # bytes: unix(7)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

# Folders that belong to the system as a whole; below the first kind nothing is deployed either.
_FORBIDDEN_BELOW = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys"),
    *("/usr/bin", "/usr/include", "/usr/lib", "/usr/sbin"),
)
_FORBIDDEN = (
    *("/", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr"),  # noqa: S108 - refused
    *("/usr/local", "/usr/share", "/var", "/var/cache", "/var/lib", "/var/log", "/var/run", "/var/spool"),
    "/var/tmp",  # noqa: S108 - refused
)


def fits(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    """A check that a text matches as a whole."""
    return lambda text: "" if pattern.match(text) else f"{text[:60]!r} is no {what}"


name = fits(
    _NAME, "name; expected letters, digits, '_', '-' and '.', beginning with a letter or digit, up to 63"
)
label = fits(_NAME, "label; expected letters, digits, '_', '-' and '.', e.g. web1 or web1.example.com")
variable = fits(_VARIABLE, "name of a variable; expected letters, digits and '_', not beginning with a digit")
header = fits(_HEADER, "name of an HTTP header; expected e.g. X-Api-Version")
user = fits(_USER, "name of a user; expected e.g. www-data")
program = fits(_PROGRAM, "supervisord program; expected its name, or group:name")
compose_project = fits(_PROJECT, "project; expected small letters, digits, '-' and '_', e.g. orders-live")
limit = fits(_LIMIT, "limit; expected e.g. 20/minute (per second, minute, hour or day)")
host = fits(_HOST, "host; expected a name or an address such as 127.0.0.1 or ::1")


def environment_variable(text: str) -> str:
    """A variable of a release's environment."""
    if text.startswith("FRAISIER_"):
        return "begins with FRAISIER_, which Fraisier sets by itself; choose another name"
    return variable(text)


def unit(text: str) -> str:
    """A systemd unit, with or without its suffix."""
    if not _UNIT.match(text) or text.endswith((".mount", ".slice", ".scope", ".device")):
        return f"{text[:60]!r} is no systemd service; expected e.g. orders.service"
    return ""


def complete_unit(text: str) -> str:
    """orders -> orders.service."""
    return text if text.endswith(_UNIT_SUFFIXES) else f"{text}.service"


def branch(text: str) -> str:
    """The name of one branch."""
    if text.startswith("refs/"):
        return (
            f"is a full ref; expected the branch's name alone, e.g. {text.rpartition('/')[2][:60] or 'main'}"
        )
    if any(character in text for character in "*?["):
        return "is a pattern; expected the name of one branch (patterns are for tag)"
    if not is_ref_name(text) or text.startswith("-"):
        return f"{text[:60]!r} is no name that git accepts for a branch"
    return ""


def tag(text: str) -> str:
    """A pattern for tags."""
    if text.startswith("refs/"):
        return "is a full ref; expected a pattern for the tag's name alone, e.g. v*"
    if not is_ref_name(re.sub(r"[*?\[\]]", "x", text)) or text.startswith("-"):
        return f"{text[:60]!r} is no pattern for names that git accepts for tags; expected e.g. v*"
    return ""


def repository(text: str) -> str:
    """A repository's path on its forge."""
    if "://" in text or "@" in text:
        return "is a URL; expected the path on the forge, e.g. acme/orders (a URL belongs into clone_url)"
    if text.endswith(".git"):
        return "ends with .git; expected the path as the forge shows it, e.g. acme/orders"
    if not _REPOSITORY.match(text) or ".." in text.split("/"):
        return f"{text[:60]!r} is no path of a repository; expected e.g. acme/orders or group/sub/project"
    return ""


def absolute(text: str) -> str:
    """The absolute path of a file or folder on a host."""
    if not text.startswith("/"):
        return f"{text[:60]!r} is no absolute path; expected one that begins with '/'"
    if any(part in ("..", ".") for part in text.split("/")):
        return "has '.' or '..' in it; expected the path without"
    return ""


def app_path(text: str) -> str:
    """A folder that one environment may own."""
    if wrong := absolute(text):
        return wrong
    path = normal(text)
    if path in _FORBIDDEN or any(inside(path, top) for top in _FORBIDDEN_BELOW):
        return f"{path} belongs to the system; expected one of its own, e.g. /var/www/orders"
    return ""


def normal(path: str) -> str:
    """Without doubled and trailing slashes."""
    return os.path.normpath("/" + path.lstrip("/"))


def inside(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or below it; both normal."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def relative(text: str) -> str:
    """The path of something in a release."""
    parts = text.rstrip("/").split("/")
    if text.startswith(("/", "~")) or "\\" in text:
        return f"{text[:60]!r} is no path in the repository; expected one that does not begin with '/'"
    if any(part in ("", ".", "..") for part in parts):
        return (
            "has '.', '..' or an empty part in it; expected a path inside the repository, e.g. services/api"
        )
    return ""


def compose_file(text: str) -> str:
    """A compose file of the release; several are handed on with ':' between them."""
    return "has ':' in it, which separates compose files; rename the file" if ":" in text else relative(text)


def compose_files(text: str) -> str:
    """Several in one text, as in COMPOSE_FILE."""
    return next(filter(None, map(relative, text.split(":"))), "")


def default_project(fraise: str, environment: str) -> str:
    """A name for Docker Compose that tells where it comes from."""
    plain = re.sub(r"[^a-z0-9_-]", "-", f"{fraise}-{environment}".lower())
    return plain.lstrip("_-")[:63]


def pattern(text: str) -> str:
    """A pattern for paths in the repository."""
    if text.startswith("/") or ".." in text.split("/"):
        return "begins with '/' or has '..' in it; expected a pattern in the repository, e.g. services/api/**"
    return ""


def clone_url(text: str) -> str:
    """Where commits are fetched from. The text is never repeated: it may hold a password."""
    allowed = "expected https://, ssh://, git@host:path, file:// or an absolute path"
    if text.startswith("-") or "::" in text.split("/")[0] or any(character.isspace() for character in text):
        return f"is no URL that is safe to give to git; {allowed}"
    if text.startswith("/"):
        return absolute(text)
    if text.startswith("file:///"):
        return absolute(text.removeprefix("file://"))
    match = _URL.match(text)
    if match is None:
        return "" if _SCP_LIKE.match(text) else f"is no URL; {allowed}"
    if match["scheme"] not in ("https", "http", "ssh"):
        return f"begins with {match['scheme']}://, which is not used; {allowed}"
    if match["password"] or (match["user"] and match["scheme"] != "ssh"):
        return "has credentials in it, which end up in logs; remove them and use clone_token (or clone_key)"
    return _port(match)


def web_url(text: str) -> str:
    """An http or https URL without credentials. The text is never repeated."""
    match = _URL.match(text)
    if match is None or match["scheme"] not in ("https", "http"):
        return "is no URL; expected one that begins with http:// or https://"
    if match["user"] is not None:
        return (
            "has credentials in it, which end up in logs; send them as a header and remove them from the URL"
        )
    return _port(match)


def proxy_url(text: str) -> str:
    """A proxy's URL."""
    match = _URL.match(text)
    if match is None or match["scheme"] not in ("http", "https", "socks5", "socks5h"):
        return "is no proxy; expected e.g. http://proxy.example.com:3128"
    if match["user"] is not None:
        return (
            "has credentials in it, which end up in logs; set https_proxy where Fraisier is started instead"
        )
    return _port(match)


def tcp(text: str) -> str:
    """host:port."""
    address, _, port = text.rpartition(":")
    if (
        not port.isascii()
        or not port.isdigit()
        or not 0 < int(port[:6]) < 65536
        or not _HOST.match(address.strip("[]"))
    ):
        return f"{text[:60]!r} is no address; expected host:port, e.g. 127.0.0.1:8000"
    return ""


def listen(text: str) -> str:
    """A unix socket or a port."""
    if text.startswith("/"):
        longest = len(text.replace("%i", "0" * 20))
        if longest > LONGEST_SOCKET:
            return f"can be {longest} characters long; a socket's path has at most {LONGEST_SOCKET}"
        return absolute(text)
    return tcp(complete_address(text)) and (
        f"{text[:60]!r} is no place to listen; expected a port, host:port, or the path of a unix socket"
    )


def complete_address(text: str) -> str:
    """8001 -> 127.0.0.1:8001; paths stay."""
    return f"127.0.0.1:{text}" if text.isascii() and text.isdigit() else text


def _port(match: re.Match[str]) -> str:
    if match["port"] and not 0 < int(match["port"]) < 65536:
        return f"has the port {match['port']}; expected 1 to 65535"
    return ""


def is_ssh(url: str) -> bool:
    """Whether git reaches this over SSH."""
    return url.startswith("ssh://") or (not url.startswith("/") and "://" not in url)


def is_clear(url: str) -> bool:
    """Whether a token would travel unencrypted to another machine."""
    match = _URL.match(url)
    return match is not None and match["scheme"] == "http" and match["host"] not in _LOOPBACK


def host_of(url: str) -> str:
    """The host of a URL that was checked."""
    match = _URL.match(url)
    return match["host"] if match else ""


def database_url(text: str) -> str:
    """Where Fraisier keeps its state."""
    if text.startswith(("postgres:", "postgresql:", "postgresql+")):
        return _postgresql_url(text)
    path = text.removeprefix("sqlite://")
    if path == text or not path.startswith("/") or absolute(path) or path.endswith("/") or "?" in path:
        return (
            "is no database; expected sqlite:// and an absolute path: sqlite:///var/lib/fraisier/fraisier.db,"
            " or postgresql://user:password@host:5432/database"
        )
    return ""


_SECRET_PARAMETERS = {"sslpassword", "oauth_client_secret"}  # of libpq; `config show` would show them


def _postgresql_url(text: str) -> str:
    """What is wrong, without repeating any of it: it may hold a password."""
    from urllib.parse import parse_qsl, urlsplit  # only who has such a database needs it

    expected = "expected postgresql://user:password@host:5432/database"
    if not text.startswith(("postgresql://", "postgres://")):
        return f"is no URL of PostgreSQL; {expected}"
    try:
        parts = urlsplit(text)
        query = (
            {name for name, _ in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)}
            if (parts.query)
            else set()
        )
        _ = parts.port
        if parts.netloc.count("@") > 1:  # libpq would take the rest of the password for the host
            raise ValueError
    except ValueError:
        return f"cannot be read as a URL (write @ / ? # : of a password as %40 %2F %3F %23 %3A); {expected}"
    if parts.fragment:
        return f"has a #, which ends a URL (write it as %23); {expected}"
    if "password" in query:
        return f"has the password among its parameters; {expected}"
    if hidden := query & _SECRET_PARAMETERS:
        return f"has {min(hidden)} among its parameters; it belongs into a file of libpq's: ?service=NAME"
    if not parts.path.strip("/") or "/" in parts.path.strip("/"):
        return f"names no database; {expected}"
    return ""


def proxy_network(text: str) -> str:
    """An address or network whose X-Forwarded-For is believed."""
    from ipaddress import ip_network  # only where the key is used

    try:
        ip_network(text, strict=False)
    except ValueError:
        return f"{text[:60]!r} is no address; expected e.g. 127.0.0.1 or 10.0.0.0/8"
    return ""
