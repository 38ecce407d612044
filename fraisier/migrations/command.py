"""Migrations as a pair of shell lines, for frameworks that Fraisier does not know."""

from __future__ import annotations

from fraisier.application.ports import CommandEnv
from fraisier.domain.fraise import Environment
from fraisier.domain.plan import Command


class CommandMigrations:
    """`database.up` and `database.down`, run in the release's folder as the environment's user."""

    def up(self, environment: Environment, release_folder: str, env: CommandEnv) -> tuple[Command, ...]:
        """Bring the database to what the release wants."""
        line = environment.database.up if environment.database else ""
        return _command(environment, release_folder, env, line)

    def down(self, environment: Environment, release_folder: str, env: CommandEnv) -> tuple[Command, ...]:
        """Bring it back; empty where `down` is not declared."""
        line = environment.database.down if environment.database else ""
        return _command(environment, release_folder, env, line)


def _command(
    environment: Environment, release_folder: str, env: CommandEnv, line: str
) -> tuple[Command, ...]:
    if environment.database is None or not line:
        return ()
    return (
        Command.shell(
            line,
            cwd=release_folder,
            user=environment.user,
            env=env,
            env_file=environment.env_file,
            timeout=environment.database.timeout,
        ),
    )
