"""What a deployment does with its environment's database, as data: from the lock to the last note."""

from __future__ import annotations

import posixpath

from fraisier.application.ports import Migrations
from fraisier.deployers.common import Candidate, command_env
from fraisier.domain.database_acts import AskDatabase, BackUp, LockDatabase, NoteRevision
from fraisier.domain.fraise import Database, Environment
from fraisier.domain.migration import BASE, WayDown
from fraisier.domain.plan import Act
from fraisier.domain.release import Layout

Acts = tuple[Act, ...]


def plan_migration(
    environment: Environment, release: Candidate, framework: Migrations | None
) -> tuple[Acts, Acts]:
    """The acts of the steps `backup` and `migrate`.

    All from the lock to the note happen under the lock, so it is taken in the first step that there is. What
    the framework is asked decides whether a backup is needed, so it is asked before.
    """
    database = environment.database
    if database is None:
        return (), ()
    lock = LockDatabase(name=database.identity(environment.key), timeout=database.lock_timeout)
    backup = (back_up(environment, database, release),) if database.may_back_up else ()
    if framework is None:
        return ((lock, *backup, NoteRevision()) if backup else ()), ()
    ask, up = question(environment, release, framework), _up(environment, release, framework)
    if backup:
        return (lock, ask, *backup), (*up, NoteRevision())
    return (), (lock, ask, *up, NoteRevision())


def question(environment: Environment, release: Candidate, framework: Migrations) -> AskDatabase:
    """What the framework is asked, and whether it has a way down."""
    env = command_env(environment, release)
    return AskDatabase(
        current=framework.current(environment, release.folder, env),
        pending=framework.pending(environment, release.folder, env),
        has_down=bool(framework.down(environment, release.folder, env, WayDown(to=BASE))),
    )


def _up(environment: Environment, release: Candidate, framework: Migrations) -> Acts:
    return tuple(framework.up(environment, release.folder, command_env(environment, release)))


def back_up(environment: Environment, database: Database, release: Candidate) -> BackUp:
    """A dump before this release, named after it; in a folder that others may share, and its owner."""
    file = posixpath.join(Layout(environment.app_path).backups, release.name)
    if database.backup_folder:  # no name has an @ in it
        owner = f"{environment.fraise}@{environment.name}@"
        file = posixpath.join(database.backup_folder, owner + release.name)
    return BackUp(
        brand=brand_of(environment, database),
        file=file,
        keep=database.keep_backups,
        always=database.backup_before_deploy,
    )


def brand_of(environment: Environment, database: Database) -> str:
    """The kind of database that is dumped: by its command, else by its URL."""
    if database.backup_command:
        return "command"
    return (
        "sqlite"
        if scheme_of(database.url or environment.env.get("DATABASE_URL", "")) == "sqlite"
        else "postgresql"
    )


def scheme_of(url: object) -> str:
    """`postgresql` of postgresql+psycopg://…; '' of no URL."""
    from fraisier.domain.secret import Secret

    text = url.reveal() if isinstance(url, Secret) else str(url)
    scheme = text.partition(":")[0].partition("+")[0]
    return "postgresql" if scheme == "postgres" else scheme
