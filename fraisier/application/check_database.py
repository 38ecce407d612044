"""Whether the programs are there that an environment's migrations and dumps are made with."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator

from fraisier.application.plan_migration import brand_of
from fraisier.application.ports import Host, Problem
from fraisier.application.tools import Tools
from fraisier.domain.acts import Command
from fraisier.domain.fraise import Database, Environment
from fraisier.domain.release import Layout

_PACKAGES = {"pg_dump": "postgresql-client", "pg_restore": "postgresql-client"}
_LOOK = 'command -v -- "$1"'


def database_problems(environment: Environment, host: Host, tools: Tools, release: str) -> Iterator[Problem]:
    """What is missing on the host. `release` is what runs there; '' = nothing yet: what comes with the
    releases is not looked for.

    Raises:
        StepFailed: host, where it does not answer.
    """
    database = environment.database
    if database is None:
        return
    if database.may_back_up:
        yield from _of_dumps(environment, database, host, tools)
    if release and database.framework != "command":
        yield from _of_framework(environment, host, tools, Layout(environment.app_path).release(release))


def _of_dumps(environment: Environment, database: Database, host: Host, tools: Tools) -> Iterator[Problem]:
    dumper = tools.dumpers.get(brand_of(environment, database))
    for program in getattr(dumper, "programs", ()):
        if not _is_on_path(host, program):
            message = f"cannot dump the database before a deployment: {host.name} has no {program}"
            package = _PACKAGES.get(program, program)
            yield Problem(message, f"sudo apt-get install {package}, of the server's version or newer")


def _of_framework(environment: Environment, host: Host, tools: Tools, folder: str) -> Iterator[Problem]:
    """A warning: the next release may bring it."""
    framework, database = tools.framework(environment), environment.database
    if framework is None or database is None:
        return
    commands = framework.up(environment, folder, {})
    first = next((each for each in commands if isinstance(each, Command)), None)
    words = shlex.split(first.argv[-1]) if first else []
    if not words:
        return
    program = words[0]
    path = posixpath.join(folder, program)
    is_there = host.kind(path) != "missing" if "/" in program else _is_on_path(host, program)
    if not is_there:
        message = f"cannot find {path if '/' in program else program}, which {database.framework} is run with"
        hint = "Let `build:` make it, or name it: database: {python: …} or {command: …}"
        yield Problem(f"{message} on {host.name}", hint, fatal=False)


def _is_on_path(host: Host, program: str) -> bool:
    return host.inspect(("/bin/sh", "-c", _LOOK, "look", program)).code == 0
