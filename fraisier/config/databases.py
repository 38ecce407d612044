"""What must hold in an environment's `database:`: keys that belong together, and to the framework."""

from __future__ import annotations

from fraisier.config.document import Node
from fraisier.config.later import FRAMEWORKS
from fraisier.config.reading import Reader, did_you_mean
from fraisier.config.sections import Parsed
from fraisier.domain.secret import Secret

# What each framework is told by; the other keys belong to every one.
_OWN = {
    "alembic": ("config", "python"),
    "confiture": ("config", "folder", "command"),
    "django": ("config", "python"),
    "command": ("up", "down", "current", "pending"),
}
_SOMEBODYS = frozenset(key for keys in _OWN.values() for key in keys)
_OF_MIGRATIONS = ("framework", "down", "current", "pending", "timeout", "reversible", "on_irreversible")
_OF_BACKUPS = ("backup_command", "backup_folder", "backup_timeout", "keep_backups")
_DUMPED = ("postgresql", "postgres", "sqlite")


def check_database(reader: Reader, environment: Parsed) -> None:
    """Report what does not fit together."""
    database = environment["database"]
    if database is None:
        return
    framework = database["framework"]
    if framework not in _OWN and framework not in reader.brands("fraisier.migrations"):
        _refuse_framework(reader, database, framework, sorted({*_OWN, *reader.brands("fraisier.migrations")}))
        return
    _check_own(reader, database, framework)
    if framework == "command" and not database.given("up"):
        _check_without_up(reader, database)
    if framework == "command" and database["reversible"] == "true" and not database.given("down"):
        reader.refuse(database.at("reversible"), "needs down: the command that takes the database back")
    _check_backup(reader, environment, database)


def _refuse_framework(reader: Reader, database: Parsed, framework: str, known: list[str]) -> None:
    if framework in FRAMEWORKS:
        what = f"{framework} is not performed by this version of Fraisier; it performs: {', '.join(known)}"
        reader.refuse(database.at("framework"), what)
        return
    hint = did_you_mean(framework, known)
    reader.refuse(
        database.at("framework"), f"{framework[:60]!r} is not known; expected {', '.join(known)}{hint}"
    )


def _check_own(reader: Reader, database: Parsed, framework: str) -> None:
    """A key of another framework; or one that nobody knows, which only a third party's may have."""
    own = _OWN.get(framework, ())
    for key in database.values:
        at: Node = database.at(key)
        if framework in _OWN and key in _SOMEBODYS and key not in own:
            reader.refuse(at, f"belongs to {_whose(key)}, but framework is {framework}", at_key=True)
        elif framework in _OWN and key not in database.section.keys:
            hint = (
                did_you_mean(key, database.section.keys)
                or f"; allowed are {', '.join(database.section.keys)}"
            )
            reader.refuse(at, f"is no key that Fraisier knows here{hint}", at_key=True)


def _whose(key: str) -> str:
    return " and ".join(f"framework: {framework}" for framework, keys in _OWN.items() if key in keys)


def _check_without_up(reader: Reader, database: Parsed) -> None:
    for key in _OF_MIGRATIONS:
        if key in database.values:
            message = "has no meaning without up: add the command that migrates, or another framework"
            reader.refuse(database.at(key), message, at_key=True)
            return


def _check_backup(reader: Reader, environment: Parsed, database: Parsed) -> None:
    wanted = database["backup_before_deploy"] or database["on_irreversible"] == "backup"
    if not wanted:
        for key in _OF_BACKUPS:
            if key in database.values:
                message = "has no meaning without backup_before_deploy: true, or on_irreversible: backup"
                reader.refuse(database.at(key), message, at_key=True)
                return
        return
    if database.given("backup_command"):
        return
    key = "backup_before_deploy" if database["backup_before_deploy"] else "on_irreversible"
    url = database["url"] or environment["env"].get("DATABASE_URL")
    if url is None:
        told = environment.given("env_file") or database.given("name")
        if not told and not any(name.startswith("PG") for name in environment["env"]):
            message = "cannot tell where the database is: add url, name, or backup_command"
            reader.refuse(database.at(key), message)
        return
    text = url.reveal() if isinstance(url, Secret) else url
    scheme = text.partition(":")[0].partition("+")[0]
    if scheme not in _DUMPED:
        message = f"cannot back up {scheme[:20]} databases by itself; add backup_command"
        reader.refuse(database.at(key), message)
