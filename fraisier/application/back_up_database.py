"""Makes a verified dump of an environment's database, notes where it is, and removes the old ones."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fraisier.application.ask_database import Ask
from fraisier.domain.acts import Command
from fraisier.domain.database_acts import BackUp
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Database, Environment
from fraisier.domain.release import release_number
from fraisier.domain.secret import Secret

if TYPE_CHECKING:
    from fraisier.application.stage import Scene, Stage

# Whose it is (in a folder that others may share), the release, the kind; what a killed dump has left.
_DUMP = re.compile(
    r"((?:[^@]+@[^@]+@)?)(\d+-[0-9a-f]+)\.(?:dump|sqlite|backup)(\.part(?:[.-].*)?)?\Z", re.DOTALL
)
_FULL = 8 << 20  # bytes; with less than this a disk is full
_NO_SPACE = b"No space left on device"  # strerror(ENOSPC) in the locale that dumps are made with
_ENV_FILE_URL = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?DATABASE_URL=[ \t]*(["']?)(.*?)\1[ \t\r]*$""", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump that was verified; `path` '' where there was nothing to dump, for `nothing`."""

    path: str = ""
    bytes: int = 0
    sha256: str = ""
    entries: int = 0
    nothing: str = ""

    @property
    def detail(self) -> Mapping[str, Any]:
        """For the journal."""
        if not self.path:
            return {"nothing": self.nothing}
        return {"path": self.path, "bytes": self.bytes, "sha256": self.sha256, "entries": self.entries}


class BackUpDatabase:
    """Performs `BackUp` for one stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __call__(self, act: BackUp, scene: Scene) -> Dump:
        """Make the dump.

        Raises:
            StepFailed: disk, where it is full (the half dump is gone then); backup, where it failed
            otherwise.
        """
        stage = self._stage
        dumper = stage.tools.dumpers[act.brand]
        file = act.file + dumper.suffix
        folder = posixpath.dirname(file)
        with stage.host.guard(stage.ground):
            if stage.host.kind(folder) == "missing":
                stage.host.make_folder(folder, user=stage.environment.user, mode=0o700)
        self._remove(folder, [name for name, found in self._ours(file) if found[3]], scene)
        dump = self._made(dumper.dump(self._url(), file, timeout=self._database.backup_timeout), file, scene)
        newest_first = sorted(self._ours(file), key=lambda each: release_number(each[1][2]), reverse=True)
        self._remove(folder, [name for name, _ in newest_first[act.keep :]], scene)
        return dump

    def _ours(self, file: str) -> list[tuple[str, re.Match[str]]]:
        """This environment's dumps, whole and half ones: beside `file`, and named as it is.

        No other worker writes there: what an older one had begun was ended before this one began.
        """
        folder, name = posixpath.split(file)
        owner = name[: name.rfind("@") + 1]
        found = ((each, _DUMP.match(each)) for each in self._stage.host.list(folder))
        return [(each, match) for each, match in found if match and match[1] == owner]

    @property
    def _database(self) -> Database:
        database = self._stage.environment.database
        assert database is not None, "a plan without a database has no backup"  # noqa: S101
        return database

    def _url(self) -> str | Secret:
        """Where the database is: `backup_command`, `url`, DATABASE_URL of `env` or env_file, or `name`."""
        environment, database = self._stage.environment, self._database
        if database.backup_command:
            return database.backup_command
        known = database.url or environment.env.get("DATABASE_URL", "")
        known = known or self._url_of_env_file(environment)
        return known or (f"postgresql:///{quote(database.name, safe='')}" if database.name else "")

    def _url_of_env_file(self, environment: Environment) -> str | Secret:
        """'' where it has none: then libpq's own variables may say where the database is."""
        if not environment.env_file:
            return ""
        path = posixpath.join(self._stage.candidate.folder, environment.env_file)
        content = (self._stage.host.read(path) or b"").decode("utf-8", "replace")
        found = _ENV_FILE_URL.findall(content)
        return Secret(found[-1][1], "env_file:DATABASE_URL") if found else ""

    def _made(self, command: Command, file: str, scene: Scene) -> Dump:
        stage, environment = self._stage, self._stage.environment
        complete = replace(
            command,
            cwd=command.cwd or stage.candidate.folder,
            user=environment.user,
            env={**environment.env, **command.env},
            env_file=environment.env_file,
        )
        said = bytearray()

        def tell(chunk: bytes) -> None:
            said.extend(chunk)
            scene.job.output(chunk)

        ask = Ask(environment, _nobody, lambda each, job: stage.host.run(stage.ground, each, job))
        answer = ask.answer(complete, scene.job.stop, tell)
        if answer.code != 0:
            raise self._failed(file, answer.code, bytes(said))
        return _read(answer.text, file)

    def _failed(self, file: str, code: int, said: bytes) -> StepFailed:
        message = f"cannot back up the database to {file}"
        if _NO_SPACE in said or self._stage.host.free_bytes(posixpath.dirname(file)) < _FULL:
            return StepFailed(Cause.disk, f"{message}: the disk is full")
        last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
        why = last[0][:300] if last else f"it exited with {code}"
        return StepFailed(Cause.backup, f"{message}: {why}")

    def _remove(self, folder: str, names: list[str], scene: Scene) -> None:
        for name in names:
            with self._stage.host.guard(self._stage.ground):
                self._stage.host.remove(f"{folder}/{name}", user=self._stage.environment.user)
            scene.output.line(f"removed backup {name}")


_nobody: Any = None  # a dump asks no framework


def _read(text: str, file: str) -> Dump:
    try:
        found = json.loads(text.strip().splitlines()[-1])
        if "nothing" in found:
            return Dump(nothing=str(found["nothing"])[:200])
        return Dump(
            path=file,
            bytes=int(found["bytes"]),
            sha256=str(found["sha256"])[:64],
            entries=int(found["entries"]),
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        message = f"cannot back up the database to {file}: the dump was not verified"
        raise StepFailed(Cause.backup, message) from error
