"""Django: https://docs.djangoproject.com/en/stable/topics/migrations/

It is asked by a program of ours in the project's own shell (`manage.py shell -c`,
https://docs.djangoproject.com/en/stable/ref/django-admin/#shell), because `showmigrations` prints for people.
The program asks what `migrate --plan` and `showmigrations` ask: `MigrationExecutor` and its loader, which
make no table.

A revision is the newest applied migration of each app, `blog.0002_tags shop.0001_initial`. A migration is
reversible if all its operations are
(https://docs.djangoproject.com/en/stable/ref/migration-operations/#django.db.migrations.operations.base.Operation.reversible).
It removes data if it removes a model or a field, or has SQL that drops or deletes. It is atomic where the
database has transactional DDL and its own `atomic` is true.
"""

from __future__ import annotations

from fraisier.application.ports import Answer, CannotTell, CommandEnv
from fraisier.domain.acts import Command
from fraisier.domain.fraise import Environment
from fraisier.domain.migration import BASE, Pending, WayDown
from fraisier.migrations.lines import database_of, line, revision, words
from fraisier.migrations.readers import DJANGO, answer_in, pending_of


class Django:
    """`python manage.py`, with the release's own Python."""

    asks_once = True

    def current(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command:
        """The newest applied migration of each app."""
        return _ask(environment, release_folder, env, "current")

    def read_current(self, answer: Answer) -> str:
        """`base` where nothing was ever migrated."""
        return revision(str(answer_in(answer)["current"]))

    def pending(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command:
        """What `manage.py migrate` would perform."""
        return _ask(environment, release_folder, env, "pending")

    def read_pending(self, answer: Answer) -> tuple[Pending, ...]:
        """In the order of Django's plan."""
        return pending_of(answer_in(answer)["pending"])

    def up(self, environment: Environment, release_folder: str, env: CommandEnv) -> tuple[Command, ...]:
        """https://docs.djangoproject.com/en/stable/ref/django-admin/#migrate"""
        return (line(environment, release_folder, env, _manage(environment, "migrate", "--no-input")),)

    def down(
        self, environment: Environment, release_folder: str, env: CommandEnv, way: WayDown
    ) -> tuple[Command, ...]:
        """Each app that was migrated, to where it was; `zero` is where nothing of it was applied.

        Django takes back by itself what depends on what it takes back, so the order does not matter.
        """
        before = _applied(revision(way.to))
        apps = dict.fromkeys(name.partition(".")[0] for name in reversed(way.undone))
        lines = (
            _manage(environment, "migrate", "--no-input", app, before.get(app, "zero")) for app in apps if app
        )
        return tuple(line(environment, release_folder, env, each) for each in lines) or (
            line(environment, release_folder, env, "true"),
        )


def _applied(text: str) -> dict[str, str]:
    """app -> its newest migration, of a revision."""
    if text == BASE:
        return {}
    found = dict(each.partition(".")[::2] for each in text.split())
    if not all(app and name for app, name in found.items()):
        raise CannotTell(f"{text[:80]!r} is no revision of Django's")
    return found


def _manage(environment: Environment, *arguments: str) -> str:
    database = database_of(environment)
    return f"{database.python or '.venv/bin/python'} {words(database.config or 'manage.py', *arguments)}"


def _ask(environment: Environment, release_folder: str, env: CommandEnv, what: str) -> Command:
    program = DJANGO.replace("WHAT", repr(what))
    text = _manage(environment, "shell", "--verbosity", "0", "--command", program)
    return line(environment, release_folder, env, text, asks=True)
