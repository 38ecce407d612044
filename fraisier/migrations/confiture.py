"""confiture, FraiseQL's migrations for PostgreSQL (PyPI: fraiseql-confiture; seen with 1.29).

Its own JSON (`--format json`) is read, and its exit codes (`confiture --help`: 2 tracking table absent, 3 no
connection or fatal, 7 preflight issues, 8 irreversible): `migrate status` tells the revision and what is
pending, `migrate preflight`, which needs no database, what of it has no `.down.sql` (PFLIGHT_MISSING_DOWN),
cannot run in a transaction (PFLIGHT_NON_TRANSACTIONAL) or destroys data (tiers `destructive` and
`irreversible` of its change set, PFLIGHT_DESTRUCTIVE_GATED).

Without `config`, confiture is told to take the database from CONFITURE_DATABASE_URL or DATABASE_URL
(`--no-config`).
"""

from __future__ import annotations

from typing import Any

from fraisier.application.ports import UNREACHABLE, Answer, CannotTell, CommandEnv
from fraisier.domain.acts import Command
from fraisier.domain.fraise import Environment
from fraisier.domain.migration import BASE, Pending, WayDown
from fraisier.migrations.lines import database_of, documents, line, revision, words

_STATUS_TOLD = (0, 1, 2)  # nothing pending; pending; no tracking table, so all is
_NO_CONNECTION = "CONFIG_006"  # confiture's error code
_DESTROYING = ("destructive", "irreversible")


class Confiture:
    """`confiture migrate`, from the release's virtual environment."""

    asks_once = True

    def current(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command:
        """`migrate status`: `migrate current` refuses a database without a tracking table."""
        return line(environment, release_folder, env, _status(environment), asks=True)

    def read_current(self, answer: Answer) -> str:
        """`base` where nothing was ever migrated."""
        return revision(str(_told(answer)["current"] or BASE))

    def pending(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command:
        """`migrate status` and, where something is pending, `migrate preflight`."""
        folder = words("--migrations-dir", database_of(environment).folder or "db/migrations")
        preflight = f"{_confiture(environment)} migrate preflight {folder} --format json"
        text = f"{_status(environment)}; told=$?; [ $told = 0 ] || {preflight} || true; exit $told"
        return line(environment, release_folder, env, text, asks=True)

    def read_pending(self, answer: Answer) -> tuple[Pending, ...]:
        """In the order of their versions."""
        told = _told(answer)
        found = documents(answer, accepted=_STATUS_TOLD)
        if not told["pending"]:
            return ()
        report = found[1] if len(found) > 1 else {}
        if "issues" not in report:
            raise CannotTell("`confiture migrate preflight` printed no report")
        names = {each["version"]: each["name"] for each in told["migrations"]}
        return tuple(_pending(version, names.get(version, ""), report) for version in told["pending"])

    def up(self, environment: Environment, release_folder: str, env: CommandEnv) -> tuple[Command, ...]:
        """`confiture migrate up`."""
        return (line(environment, release_folder, env, _migrate(environment, "up")),)

    def down(
        self, environment: Environment, release_folder: str, env: CommandEnv, way: WayDown
    ) -> tuple[Command, ...]:
        """`down-to`, which first looks for every file that it needs; to nothing, step by step."""
        to = revision(way.to)
        if to != BASE:
            return (line(environment, release_folder, env, _migrate(environment, "down-to", to)),)
        steps = str(max(len(way.undone), 1))
        return (line(environment, release_folder, env, _migrate(environment, "down", "--steps", steps)),)


def _confiture(environment: Environment) -> str:
    return database_of(environment).command or ".venv/bin/confiture"


def _where(environment: Environment) -> tuple[str, ...]:
    database = database_of(environment)
    folder = ("--migrations-dir", database.folder) if database.folder else ()
    return (*(("--config", database.config) if database.config else ("--no-config",)), *folder)


def _migrate(environment: Environment, *arguments: str) -> str:
    return f"{_confiture(environment)} migrate {words(*arguments, *_where(environment))}"


def _status(environment: Environment) -> str:
    return f"{_confiture(environment)} migrate {words('status', *_where(environment), '--format', 'json')}"


def _told(answer: Answer) -> dict[str, Any]:
    """The document of `migrate status`."""
    if answer.code not in _STATUS_TOLD:
        error = _error(answer)
        unreachable = answer.code == UNREACHABLE or error.get("code") == _NO_CONNECTION
        said = str(error.get("message") or f"it exited with {answer.code}").strip()
        raise CannotTell(said[:300], unreachable=unreachable)
    found: dict[str, Any] = documents(answer, accepted=_STATUS_TOLD)[0]
    if not isinstance(found, dict) or "pending" not in found or "current" not in found:
        raise CannotTell("`confiture migrate status` printed no status: is the database known to it?")
    return found


def _error(answer: Answer) -> dict[str, Any]:
    try:
        found = documents(answer, accepted=(answer.code,))[0]
    except CannotTell:
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}


def _pending(version: str, name: str, report: dict[str, Any]) -> Pending:
    codes = {issue["code"] for issue in report["issues"] if issue.get("migration") == version}
    changes = report.get("change_set", {}).get("changes", ())
    tiers = {change.get("tier") for change in changes if change.get("migration") == version}
    return Pending(
        name=f"{version}_{name}" if name else version,
        reversible="PFLIGHT_MISSING_DOWN" not in codes,
        destroys="PFLIGHT_DESTRUCTIVE_GATED" in codes or not tiers.isdisjoint(_DESTROYING),
        atomic="PFLIGHT_NON_TRANSACTIONAL" not in codes,
    )
