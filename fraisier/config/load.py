"""From a file to a checked configuration."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from hashlib import sha256

from fraisier.application.plugins import plugins
from fraisier.application.settings import Configuration
from fraisier.config import build, checks, document
from fraisier.config.codec import canonical
from fraisier.config.codec import document as published
from fraisier.config.keys import ROOT
from fraisier.config.reading import Reader, Refused
from fraisier.config.sections import Parsed
from fraisier.domain.errors import InvalidConfig


def load_configuration(
    path: str,
    *,
    environ: Mapping[str, str] | None = None,
    known_forges: Collection[str] | None = None,
    known_targets: Collection[str] | None = None,
    known_migrations: Collection[str] | None = None,
    labels: tuple[str, ...] = (),
    systemd: bool | None = None,
) -> Configuration:
    """Read and check a whole `fraises.yaml`.

    `environ` (by default the process's) gives `${VAR}` its values. `known_forges` and its like are
    brands beside our own, by default those of installed plugins. `labels` are this machine's, if not those of
    the file. `systemd` says whether this machine runs it, if it is not to be looked for.

    Raises:
        InvalidConfig: with every problem at once, each with its line and column.
    """
    given = {
        "fraisier.forges": known_forges,
        "fraisier.targets": known_targets,
        "fraisier.migrations": known_migrations,
    }

    def brands(group: str) -> Collection[str]:
        names = given.get(group)
        return plugins(group) if names is None else names

    reader = Reader(path, os.environ if environ is None else environ, brands=brands)
    try:
        tree = document.parse(_content(path), reader.report)
        root = ROOT.read(tree, reader)
        labels = labels or (root["worker"]["labels"] if root["worker"] else ())
        checks.check(root, reader, labels)
    except document.Broken as error:
        reader.report(error.line, error.column, error.message)
    except Refused as refused:
        reader.keep(refused)
    if reader.problems:
        raise InvalidConfig(
            sorted(set(reader.problems), key=lambda each: (each.line, each.column, each.message))
        )
    return _configuration(path, root, labels, systemd=systemd)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
            return file.read(document.MAX_BYTES + 1)
    except IsADirectoryError:
        raise document.Broken(0, 0, "is a folder; expected a file, e.g. fraises.yaml in it") from None
    except FileNotFoundError:
        raise document.Broken(0, 0, "does not exist; `fraisier init` writes one to begin with") from None
    except PermissionError:
        told = "is not for you to read; run this as Fraisier's user: sudo -u fraisier fraisier …"
        raise document.Broken(0, 0, told) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise document.Broken(0, 0, f"cannot be read: {reason}") from None


def _configuration(
    path: str, root: Parsed, labels: tuple[str, ...], *, systemd: bool | None
) -> Configuration:
    fraises = build.fraises(root, systemd=systemd)
    routes = build.routes(root)
    environments = {each.key: each for fraise in fraises.values() for each in fraise.environments.values()}
    return Configuration(
        path=path,
        digest=_digest(fraises, routes),
        settings=replace(build.settings(root), labels=labels),
        fraises=fraises,
        environments=environments,
        routes=routes,
        documents={key: published(each) for key, each in environments.items()},
    )


def _digest(fraises: Mapping[str, object], routes: Mapping[str, object]) -> str:
    """Changes with what a deployment could notice. Secrets count by their references, not their values."""
    return sha256(
        canonical({"fraises": fraises, "routes": routes}).encode("utf-8", "surrogateescape")
    ).hexdigest()
