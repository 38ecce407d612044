"""What an environment of type `backup` keeps copies of, and what must hold for it."""

from __future__ import annotations

from fraisier.config import texts
from fraisier.config.backup_keys import BACKUP
from fraisier.config.backup_kinds import brand_of_place
from fraisier.config.jobs import JobKeys
from fraisier.config.reading import Reader, did_you_mean
from fraisier.config.sections import Parsed
from fraisier.domain.backup import BackupSpec, Destination, Encryption, Retention, Source
from fraisier.domain.fraise import FraiseType
from fraisier.domain.secret import Secret

DATABASES = ("postgresql", "mysql", "sqlite")
_SCHEMES = {"postgres": "postgresql", "mariadb": "mysql"}
_WHERE_TO = "FRAISIER_RESTORE_TO"
SCRIPT = "script"  # the source that stands for `script_path`

# Which keys each brand of ours takes; one of a third party takes whatever it likes.
_SOURCES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(DATABASES, ("url", "query", "expect", "rows")),
    "folder": ("path", "exclude", "query", "expect"),
    "command": ("command", "restore", "query", "expect"),
}
_DESTINATIONS: dict[str, tuple[str, ...]] = {
    "folder": (),
    "rsync": ("identity_file", "known_hosts", "port", "bandwidth"),
    "s3": (
        *("endpoint_url", "region", "access_key", "secret_key", "session_token", "profile"),
        *("storage_class", "ca_file"),
    ),
    "restic": ("password", "password_file", "check_subset"),
}
_OF_RELEASES = (
    "branch",
    "tag",
    "build",
    "shared",
    "root",
    "paths",
    "submodules",
    "lfs",
    "on_running",
    "smoke",
)


def kind_of_source(parsed: Parsed) -> str:
    """Its brand; '' where nothing tells it."""
    if parsed["type"]:
        return str(parsed["type"])
    if parsed["command"]:
        return "command"
    url = _text(parsed["url"] or "")
    if parsed["path"] or url.startswith("/"):
        return "folder"
    scheme = url.partition(":")[0].partition("+")[0].lower()
    return _SCHEMES.get(scheme, scheme)


def kind_of_destination(parsed: Parsed) -> str:
    """Its brand; '' where nothing tells it."""
    return str(parsed["type"] or brand_of_place(parsed["place"] or ""))


def _text(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value


# ---------------------------------------------------------------------------------------- building
def backup_of(kind: FraiseType, environment: Parsed) -> BackupSpec | None:
    """What is backed up, and how; None for fraises of other types."""
    if kind is not FraiseType.backup:
        return None
    encryption = environment["encryption"]
    return BackupSpec(
        sources=_sources(environment),
        destinations=_destinations(environment),
        retention=_retention(environment),
        encryption=Encryption(recipients=encryption["recipients"], identity=encryption["identity"] or "")
        if encryption
        else None,
        verified_within=environment["verified_within"],
        staging=texts.normal(environment["staging"]) if environment["staging"] else "",
    )


def _sources(environment: Parsed) -> tuple[Source, ...]:
    found = tuple(_source(name, parsed) for name, parsed in (environment["sources"] or {}).items())
    line = JobKeys(environment, None).line
    script = Source(name=SCRIPT, kind="command", command=line) if environment["script_path"] else None
    return (*found, script) if script else found


def _source(name: str, parsed: Parsed) -> Source:
    url = parsed["url"] or ""
    path = parsed["path"] or ""
    if isinstance(url, str) and url.startswith("/"):
        url, path = "", url
    return Source(
        name=name,
        kind=kind_of_source(parsed),
        url=url,
        path=texts.normal(path) if path.startswith("/") else path.rstrip("/"),
        command=parsed["command"] or "",
        restore=parsed["restore"] or "",
        exclude=parsed["exclude"],
        query=parsed["query"] or "",
        expect=parsed["expect"] or "",
        rows=parsed["rows"],
        options={key: value for key, value in parsed.values.items() if key not in parsed.section.keys},
    )


def _destinations(environment: Parsed) -> tuple[Destination, ...]:
    named = environment["destinations"] or {}
    if not named:
        place = texts.normal(environment["app_path"]) + "/backups/kept"
        return (Destination(name="here", kind="folder", place=place),)
    return tuple(_destination(name, parsed) for name, parsed in named.items())


def _destination(name: str, parsed: Parsed) -> Destination:
    kind, place = kind_of_destination(parsed), parsed["place"]
    return Destination(
        name=name,
        kind=kind,
        place=texts.normal(place) if kind == "folder" else place,
        options={key: value for key, value in parsed.values.items() if key not in parsed.section.keys},
    )


def _retention(environment: Parsed) -> Retention:
    if environment["retention_days"]:
        return Retention(last=1, daily=environment["retention_days"])
    rules = environment["retention"]
    if rules is None:
        return Retention()
    return Retention(
        last=rules["keep_last"],
        daily=rules["keep_daily"],
        weekly=rules["keep_weekly"],
        monthly=rules["keep_monthly"],
    )


# ---------------------------------------------------------------------------------------- checking
def check(reader: Reader, kind: str, repository: str | None, environment: Parsed) -> None:
    """Report what does not go together, or not with the fraise's type."""
    if kind != "backup":
        for key in (key for key in BACKUP if environment.given(key)):
            message = f"belongs to fraises of type backup; this one is of type {kind}"
            reader.refuse(environment.at(key), message, at_key=True)
        return
    if not repository:
        for key in (key for key in (*_OF_RELEASES, "script_path") if environment.given(key)):
            message = "is about releases, and a backup without `repository` has none; add it to the fraise"
            reader.refuse(environment.at(key), message, at_key=True)
    _check_present(reader, environment)
    for parsed in (environment["sources"] or {}).values():
        _check_source(reader, environment, parsed, repository)
    for parsed in (environment["destinations"] or {}).values():
        _check_destination(reader, parsed)
    _check_not_within(reader, environment)
    _check_retention(reader, environment)
    _check_encryption(reader, environment)


def _check_present(reader: Reader, environment: Parsed) -> None:
    if environment.given("script_path"):
        if environment.given("sources"):
            at = environment.at("script_path")
            reader.refuse(at, "stands beside sources; it belongs there, as {command: …}", at_key=True)
        return
    for key in ("sources", "destinations"):
        if not environment.given(key):
            message = f"{key} is missing: {BACKUP[key].doc.removeprefix('backup: ')}"
            reader.refuse(environment.node, message, at_key=True)


def _check_source(reader: Reader, environment: Parsed, parsed: Parsed, repository: str | None) -> None:
    kind = kind_of_source(parsed)
    known = sorted({*_SOURCES, *reader.brands("fraisier.sources")})
    if kind not in known:
        bad = any(parsed.given(key) and key not in parsed.values for key in ("url", "path", "type"))
        at = parsed.at("type" if parsed.given("type") else "url")
        what = f"{kind[:40]!r} is no kind of source" if kind else "says nothing about what is backed up"
        if not bad:
            reader.refuse(at, f"{what}; expected {', '.join(known)}{did_you_mean(kind, known)}")
        return
    _check_own(reader, parsed, kind, _SOURCES, ("type",))
    if kind not in _SOURCES:
        return
    needed = {"folder": "path", "command": "command"}.get(kind, "url")
    if not (parsed.given(needed) or (needed == "path" and parsed.given("url"))):
        reader.refuse(parsed.node, f"needs {needed}: {parsed.section.keys[needed].doc}", at_key=True)
    if parsed.given("expect") and not parsed.given("query"):
        reader.refuse(parsed.at("expect"), "has no meaning without query", at_key=True)
    if kind == "command" and not parsed.given("restore") and environment["verified_within"] > 0:
        message = "needs restore, or nobody can try it; verified_within: 0 says that nobody has to"
        reader.refuse(parsed.node, message, at_key=True)
    if parsed["restore"] and _WHERE_TO not in parsed["restore"] and environment["verified_within"] > 0:
        message = (
            f"has to heed ${_WHERE_TO}, the folder where it is tried, or what is there would be replaced"
        )
        reader.refuse(parsed.at("restore"), message)
    if not repository and parsed["path"] and not parsed["path"].startswith("/"):
        message = "is in the release, and a backup without `repository` has none; give an absolute path"
        reader.refuse(parsed.at("path"), message)


def _check_destination(reader: Reader, parsed: Parsed) -> None:
    if "place" not in parsed.values:
        return
    kind = kind_of_destination(parsed)
    known = sorted({*_DESTINATIONS, *reader.brands("fraisier.destinations")})
    if kind not in known:
        given = parsed.given("type")
        what = (
            f"{kind[:40]!r} is no kind of destination"
            if kind
            else "needs a type, which its place does not tell"
        )
        at = parsed.at("type") if given else parsed.node
        reader.refuse(at, f"{what}; expected {', '.join(known)}{did_you_mean(kind, known)}")
        return
    _check_own(reader, parsed, kind, _DESTINATIONS, ("type", "place"))
    place, told = parsed["place"], brand_of_place(parsed["place"])
    if kind in ("folder", "s3", "rsync") and told != kind:
        expected = {"folder": "an absolute path", "s3": "s3://bucket/prefix"}.get(kind, "[user@]host:/folder")
        reader.refuse(parsed.at("place"), f"{place[:60]!r} is no place for {kind}; expected {expected}")
    if kind == "restic" and not (parsed.given("password") or parsed.given("password_file")):
        reader.refuse(parsed.node, "needs password, or password_file on the host", at_key=True)


def _check_own(
    reader: Reader, parsed: Parsed, kind: str, brands: dict[str, tuple[str, ...]], always: tuple[str, ...]
) -> None:
    """A key of another brand, or of none."""
    if kind not in brands or parsed.node.kind != "mapping":
        return
    allowed = (*always, *brands[kind])
    for key in parsed.values:
        if key not in allowed:
            hint = did_you_mean(key, allowed) or f"; allowed are {', '.join(allowed)}"
            reader.refuse(parsed.at(key), f"is no key of {kind}{hint}", at_key=True)


def _check_not_within(reader: Reader, environment: Parsed) -> None:
    """A backup that is kept, or made, inside of what is backed up would be in the next one."""
    if "app_path" not in environment.values:
        return
    folders = [
        (parsed, path)
        for parsed in (environment["sources"] or {}).values()
        if kind_of_source(parsed) == "folder"
        for path in (_text(parsed["path"] or parsed["url"] or ""),)
        if path.startswith("/")
    ]
    made = environment["staging"] or f"{environment['app_path']}/backups"
    kept = [
        (parsed.at("place"), parsed["place"])
        for parsed in (environment["destinations"] or {}).values()
        if kind_of_destination(parsed) == "folder" and "place" in parsed.values
    ]
    for parsed, path in folders:
        for at, place in kept:
            if texts.inside(texts.normal(place), texts.normal(path)):
                message = f"is inside of {path}, which is backed up: each backup would be in the next one"
                reader.refuse(at, message)
        if texts.inside(texts.normal(made), texts.normal(path)):
            message = f"has {texts.normal(made)} in it, where backups are made; give staging another place"
            reader.refuse(parsed.node, message)


def _check_retention(reader: Reader, environment: Parsed) -> None:
    if environment.given("retention") and environment.given("retention_days"):
        message = "stands beside retention; keep one of them (keep_daily says the same)"
        reader.refuse(environment.at("retention_days"), message, at_key=True)


def _check_encryption(reader: Reader, environment: Parsed) -> None:
    encryption = environment["encryption"]
    if encryption is None or encryption.given("identity") or environment["verified_within"] == 0:
        return
    message = (
        "needs identity, the path of a key on the host, or nobody can try a backup; verified_within: 0 says"
        " that nobody has to"
    )
    reader.refuse(encryption.node, message, at_key=True)
