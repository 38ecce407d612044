"""Shell lines of a framework, as commands in a release's folder; and the JSON that they print."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from fraisier.application.ports import UNREACHABLE, Answer, CannotTell, CommandEnv
from fraisier.domain.acts import Command
from fraisier.domain.fraise import Database, Environment

# What pins the output of programs that would colour, wrap or translate it.
PINNED = {
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",  # https://no-color.org
    "TERM": "dumb",
    "DJANGO_COLORS": "nocolor",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONWARNINGS": "ignore",
}
_REVISION = re.compile(r"[A-Za-z0-9_.:+/@=, -]{1,4000}\Z")


def database_of(environment: Environment) -> Database:
    """The environment's database; only environments with one are migrated."""
    if environment.database is None:
        message = f"{environment.key} has no database"
        raise LookupError(message)
    return environment.database


def line(
    environment: Environment, release_folder: str, env: CommandEnv, text: str, *, asks: bool = False
) -> Command:
    """A shell line in the release's folder, as the environment's user. `asks`: its output will be read."""
    database = database_of(environment)
    url = {"DATABASE_URL": database.url} if database.url else {}
    return Command.shell(
        text,
        cwd=release_folder,
        user=environment.user,
        env={**env, **url, **(PINNED if asks else {})},
        env_file=environment.env_file,
        timeout=min(database.timeout, ASKING) if asks else database.timeout,
    )


ASKING = 120.0  # seconds that a question may take


def words(*arguments: str) -> str:
    """Arguments, quoted for a shell line."""
    return shlex.join(arguments)


def revision(text: str) -> str:
    """A revision that a framework printed, or that was journaled: one line that is no option and no secret.

    Raises:
        CannotTell: it is none.
    """
    stripped = text.strip()
    if not _REVISION.match(stripped) or stripped.startswith("-"):
        raise CannotTell(f"it printed {stripped[:80]!r}, which is no revision")
    return stripped


def documents(answer: Answer, *, accepted: Sequence[int] = (0,)) -> list[Any]:
    """The JSON documents that were printed, one after the other.

    Raises:
        CannotTell: the command failed, or printed something else.
    """
    if answer.code not in accepted:
        raise failed(answer)
    decoder, found, position, text = json.JSONDecoder(), [], 0, answer.text.strip()
    try:
        while position < len(text):
            document, end = decoder.raw_decode(text, position)
            found.append(document)
            position = end + len(text[end:]) - len(text[end:].lstrip())
    except ValueError:
        raise CannotTell(f"it printed {text[:80]!r}, which is no JSON") from None
    if not found:
        raise CannotTell("it printed nothing")
    return found


def failed(answer: Answer) -> CannotTell:
    """For a question whose command failed."""
    unreachable = answer.code == UNREACHABLE
    what = "the database cannot be reached" if unreachable else f"it exited with {answer.code}"
    return CannotTell(what, unreachable=unreachable)
