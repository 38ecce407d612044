"""What the commands share: the configuration and what is opened from it, each only when it is needed."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from fraisier.domain.errors import NotFound, UsageError
from fraisier.domain.fraise import EnvironmentKey

if TYPE_CHECKING:
    from pathlib import Path

    from fraisier.application.ports import Configuration, Database, Settings, Store
    from fraisier.wiring import Fraisier


class Session:
    """One call of the command line. `path` is `--config`, or None."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.labels: tuple[str, ...] = ()  # `--label`; none: those of the configuration

    @cached_property
    def configuration(self) -> Configuration:
        """The checked configuration.

        Raises:
            UsageError: there is none, or it is wrong (InvalidConfig).
        """
        from fraisier import wiring
        from fraisier.cli.secrets_file import lend_secrets

        lend_secrets(self.path)
        return wiring.load(self.path, labels=self.labels)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, for reading."""
        from fraisier import wiring

        refuse_strangers(self.configuration.settings)
        _tell_of_nothing(self.configuration.settings)
        store = wiring.open_store(self.configuration, readonly=True)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The database as a whole, whatever its migrations are."""
        from fraisier import wiring

        refuse_strangers(self.configuration.settings)
        database = wiring.open_database(self.configuration)
        try:
            yield database
        finally:
            database.close()

    @contextmanager
    def fraisier(self, *, readonly: bool = False) -> Iterator[Fraisier]:
        """The whole application, for commands that change something, or look at more than the store."""
        from fraisier import wiring

        refuse_strangers(self.configuration.settings)
        store = wiring.open_store(self.configuration, readonly=readonly)
        fraisier = wiring.assemble(self.configuration, store=store)
        try:
            yield fraisier
        finally:
            fraisier.store.close()

    def key(self, fraise: str, environment: str) -> EnvironmentKey:
        """The configured environment of these names.

        Raises:
            NotFound: there is none; the hint names those that exist.
        """
        self.check_fraise(fraise)
        known = list(self.configuration.fraises[fraise].environments)
        if environment not in known:
            raise unknown(f"environment {environment!r} of {fraise!r}", environment, known)
        return EnvironmentKey(fraise, environment)

    def check_fraise(self, fraise: str) -> None:
        """Return if a fraise of this name is configured.

        Raises:
            NotFound: it is not.
        """
        known = list(self.configuration.fraises)
        if fraise not in known:
            raise unknown(f"fraise {fraise!r}", fraise, known)

    def keys(self, fraise: str = "", environment: str = "") -> list[EnvironmentKey]:
        """Every configured environment, or those of one fraise, or one.

        Raises:
            NotFound: a name is unknown.
        """
        if environment:
            return [self.key(fraise, environment)]
        if fraise:
            self.check_fraise(fraise)
        return [key for key in self.configuration.environments if fraise in ("", key.fraise)]


def unknown(what: str, name: str, known: list[str]) -> NotFound:
    """The error for a name that does not exist, with the nearest one that does."""
    from difflib import get_close_matches  # slow to import, and needed for mistakes only

    near = get_close_matches(name, known, n=1)
    suggestion = f"Did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(repr(each) for each in known) or "none"
    return NotFound(
        f"cannot find the {what}", f"{suggestion}The configuration has {listed}; see `fraisier list`"
    )


def asker() -> str:
    """Who asks, for the record: the person behind sudo, else the user we run as."""
    return os.environ.get("SUDO_USER") or _name_of(os.geteuid())


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # as sudo -u takes it


def refuse_strangers(settings: Settings) -> None:
    """Return if we own the database file, or there is none yet; where it is on a server, the state folder.

    A file that root creates beside the database, or a mirror that it makes, would lock their owner out.

    Raises:
        UsageError: somebody else owns it; the hint says how to run as that user.
    """
    from pathlib import Path  # slow to import, and `list` and the help do without

    database = _file_of(settings)
    place = database or settings.state_folder
    owner = _owner(Path(place))
    if owner in (None, os.geteuid()):
        return
    name = _name_of(owner or 0)
    what = "database" if database else "state folder"
    message = f"cannot use the {what} {place} as {_name_of(os.geteuid())}: it is {name}'s"
    raise UsageError(message, f"Run it as its owner: sudo -u {name} fraisier …")


def _file_of(settings: Settings) -> str:
    """SQLite's file; '' where the database is on a server."""
    from urllib.parse import unquote, urlsplit  # slow to import, too

    parts = urlsplit(settings.database_url)
    return unquote(parts.path) if parts.scheme == "sqlite" else ""


def _tell_of_nothing(settings: Settings) -> None:
    """A wrong path, or a disk that is not mounted, shall not look like an installation without a past."""
    from click import get_current_context

    context, place = get_current_context(silent=True), _file_of(settings)
    if context is not None and context.params.get("as_json"):
        return  # what a program reads on stderr is one document
    if not place:
        return
    try:
        os.stat(place)  # noqa: PTH116 - pathlib costs start-up time
    except FileNotFoundError:
        from fraisier.cli.screen import Screen

        Screen.of_stdout().note(f"There is no database {place} yet: the first `serve` or `deploy` makes it.")
    except OSError:
        return  # for whoever opens it to report


def _owner(database: Path) -> int | None:
    """The owner of the database, or of its folder where that is closed to us; None: nobody's yet."""
    try:
        return database.stat().st_uid
    except PermissionError:
        return _owner_of_folder(database)
    except NotADirectoryError:
        return None
    except FileNotFoundError:
        return _owner_of_folder(database) if os.geteuid() == 0 else None


def _owner_of_folder(database: Path) -> int | None:
    try:
        return database.parent.stat().st_uid
    except OSError:
        return None
