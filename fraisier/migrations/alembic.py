"""Alembic: https://alembic.sqlalchemy.org

It is asked by a program of ours that the release's own Python runs, because `alembic current` and `alembic
history` print for people, and an env.py may print besides. The program uses what Alembic documents for that:
`ScriptDirectory` and `EnvironmentContext` with a function of its own, as its commands do
(https://alembic.sqlalchemy.org/en/latest/api/runtime.html#alembic.runtime.environment.EnvironmentContext),
with `dont_mutate`, so that no version table is made.

A revision is reversible if its `downgrade()` does something else than `pass` or `raise`, or its `upgrade()`
does nothing. It removes data if `upgrade()` drops a table or a column, or has SQL that does, or deletes. It
is atomic where the database has transactional DDL and it opens no `autocommit_block`.
"""

from __future__ import annotations

from dataclasses import replace

from fraisier.application.ports import Answer, CommandEnv
from fraisier.domain.acts import Command
from fraisier.domain.fraise import Environment
from fraisier.domain.migration import BASE, Pending, WayDown
from fraisier.migrations.lines import database_of, line, revision, words
from fraisier.migrations.readers import ALEMBIC, ALEMBIC_DOWN, answer_in, pending_of


class Alembic:
    """`python -m alembic`, with the release's own Python and `alembic.ini`."""

    asks_once = True

    def current(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command:
        """The heads that the database is at, sorted and joined by commas."""
        return _ask(environment, release_folder, env, "current")

    def read_current(self, answer: Answer) -> str:
        """`base` where nothing was ever migrated."""
        return revision(str(answer_in(answer)["current"]))

    def pending(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command:
        """What `alembic upgrade heads` would perform."""
        return _ask(environment, release_folder, env, "pending")

    def read_pending(self, answer: Answer) -> tuple[Pending, ...]:
        """Oldest first."""
        return pending_of(answer_in(answer)["pending"])

    def up(self, environment: Environment, release_folder: str, env: CommandEnv) -> tuple[Command, ...]:
        """https://alembic.sqlalchemy.org/en/latest/tutorial.html#running-our-first-migration"""
        return (line(environment, release_folder, env, _alembic(environment, "upgrade", "heads")),)

    def down(
        self, environment: Environment, release_folder: str, env: CommandEnv, way: WayDown
    ) -> tuple[Command, ...]:
        """https://alembic.sqlalchemy.org/en/latest/tutorial.html#downgrading

        To anything but `base` by a program of ours: what was migrated may have begun a line of its own, which
        is above none of the heads of before.
        """
        heads = revision(way.to)
        plain = _alembic(environment, "downgrade", heads)
        if heads == BASE:
            return (line(environment, release_folder, env, plain),)
        text = f"{_python(environment)} -c {words(ALEMBIC_DOWN, _config(environment), heads)}"
        return (replace(line(environment, release_folder, env, text), shown=plain),)


def _python(environment: Environment) -> str:
    return database_of(environment).python or ".venv/bin/python"


def _config(environment: Environment) -> str:
    return database_of(environment).config or "alembic.ini"


def _alembic(environment: Environment, *arguments: str) -> str:
    return f"{_python(environment)} -m alembic -c {words(_config(environment), *arguments)}"


def _ask(environment: Environment, release_folder: str, env: CommandEnv, what: str) -> Command:
    text = f"{_python(environment)} -c {words(ALEMBIC, _config(environment), what)}"
    return line(environment, release_folder, env, text, asks=True)
