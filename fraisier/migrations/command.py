"""Migrations as shell lines, for frameworks that Fraisier does not know.

`up` migrates. `down` takes the database back to the revision in $FRAISIER_REVISION (empty where `current` is
not given: then it undoes what `up` did). `current` prints the revision, `pending` one migration a line; with
exit code 75 they say that the database cannot be reached. Each migration has to be performed whole or not at
all; where that is not so, leave `current` out: then an interrupted one is never repeated.
"""

from __future__ import annotations

from fraisier.application.ports import Answer, CannotTell, CommandEnv
from fraisier.domain.acts import Command
from fraisier.domain.fraise import Environment
from fraisier.domain.migration import BASE, Pending, WayDown
from fraisier.migrations.lines import database_of, failed, line, revision


class CommandMigrations:
    """`database.up`, `down`, `current`, `pending`: run in the release's folder as the environment's user."""

    asks_once = False

    def current(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command | None:
        """`database.current`; None where it is not given."""
        text = database_of(environment).current
        return line(environment, release_folder, env, text, asks=True) if text else None

    def read_current(self, answer: Answer) -> str:
        """The only line that was printed; nothing means that nothing was ever migrated."""
        lines = _lines(answer)
        if len(lines) > 1:
            raise CannotTell(f"`database.current` printed {len(lines)} lines; expected the revision alone")
        return revision(lines[0]) if lines else BASE

    def pending(self, environment: Environment, release_folder: str, env: CommandEnv) -> Command | None:
        """`database.pending`; None where it is not given."""
        text = database_of(environment).pending
        return line(environment, release_folder, env, text, asks=True) if text else None

    def read_pending(self, answer: Answer) -> tuple[Pending, ...]:
        """One migration a line. They are reversible where there is a `down`."""
        return tuple(Pending(name=each[:200]) for each in _lines(answer))

    def up(self, environment: Environment, release_folder: str, env: CommandEnv) -> tuple[Command, ...]:
        """Bring the database to what the release wants."""
        text = database_of(environment).up
        return (line(environment, release_folder, env, text),) if text else ()

    def down(
        self, environment: Environment, release_folder: str, env: CommandEnv, way: WayDown
    ) -> tuple[Command, ...]:
        """Bring it back; empty where `down` is not declared."""
        text = database_of(environment).down
        told = {**env, "FRAISIER_REVISION": way.to}
        return (line(environment, release_folder, told, text),) if text else ()


def _lines(answer: Answer) -> list[str]:
    if answer.code != 0:
        raise failed(answer)
    return [each.strip() for each in answer.text.splitlines() if each.strip()]
