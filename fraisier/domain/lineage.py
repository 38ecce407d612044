"""Whether a fetched commit is deployed, seen beside what runs: order by ancestry, not by arrival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fraisier.domain.deployment import AUTOMATIC, Status, Trigger
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Environment, OnForcePush


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """How the fetched commit stands to the one that runs. `changed` is None where it cannot be told."""

    commit: str
    tip: str
    current: str  # '' = nothing runs yet
    is_ancestor_of_current: bool = False
    is_descendant_of_current: bool = False
    changed: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a fetched commit is not deployed after all, and the status that the deployment ends with."""

    status: Status
    cause: Cause
    message: str
    hint: str = ""


def judge(environment: Environment, trigger: Trigger, lineage: Lineage) -> Refusal | None:
    """None: deploy it. Only pushes and sweeps are judged; a person who names a commit gets it."""
    if trigger not in AUTOMATIC or not lineage.current or lineage.commit == lineage.current:
        return None
    if lineage.is_ancestor_of_current and lineage.commit != lineage.tip:
        message = f"the commit is an ancestor of {lineage.current[:12]}, which runs"
        return Refusal(Status.superseded, Cause.older_than_current, message)
    if not lineage.is_descendant_of_current and environment.on_force_push is OnForcePush.refuse:
        message = f"cannot deploy a force push: the commit does not descend from {lineage.current[:12]}"
        command = f"fraisier deploy {environment.fraise} {environment.name} --commit {lineage.commit}"
        hint = f"Deploy it with `{command}`"
        return Refusal(Status.failed, Cause.force_push_refused, message, hint)
    if lineage.changed is not None and not touches(environment, lineage.changed):
        message = "nothing that this environment deploys has changed"
        return Refusal(Status.cancelled, Cause.paths_unchanged, message)
    return None


def watches_paths(environment: Environment) -> bool:
    """Whether the environment deploys only some of the repository's changes."""
    return bool(environment.paths or environment.root)


def touches(environment: Environment, changed: Sequence[str]) -> bool:
    """Whether one of the changed paths concerns the environment. Patterns are fnmatch's; `*` crosses '/'."""
    if not watches_paths(environment):
        return True
    return any(_matches(pattern, path) for pattern in _patterns(environment) for path in changed)


def _patterns(environment: Environment) -> tuple[str, ...]:
    return environment.paths or (environment.root.rstrip("/") + "/*",)


def _matches(pattern: str, path: str) -> bool:
    folder = pattern.rstrip("/")
    return fnmatchcase(path, pattern) or path == folder or path.startswith(folder + "/")
