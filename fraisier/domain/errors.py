"""Everything that can be refused, as a tree. Each error says what cannot be done, why, and what to do.

FraisierError
├── UsageError            the command line or the configuration is wrong
│   ├── InvalidConfig     fraises.yaml, with every problem at once
│   └── UnusableExport    a file that `fraisier db import` cannot take over
├── NotFound              a fraise, environment, deployment or release that does not exist
│   └── Ambiguous         several are meant by what was given of a name
├── Conflict              a status that may not follow, an owner that is another
│   ├── ForbiddenTransition
│   ├── ForeignOwner      the folder on the host belongs to another installation
│   └── TokenOutdated     another worker has taken the environment over
├── Unreachable           the store, a worker or a host cannot be reached
│   ├── StoreUnavailable
│   ├── StoreTooNew       the database was written by a newer Fraisier
│   ├── NoWorker
│   ├── OnHold           the deployment is stored, and waits for a person or for a window
│   └── LivesElsewhere    the environment is on a machine with labels that this one has not
├── DeliveryRefused       a webhook delivery that is answered with a 4xx
│   ├── MalformedDelivery, UnknownForge, BadSignature, TooLarge, UnsupportedMediaType, TooManyFailures
└── StepFailed            a step of a deployment ended badly; carries a `Cause`
    └── HostUnreachable   a host cannot be reached, or lets nobody in
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class FraisierError(Exception):
    """An expected refusal. `message` starts with "cannot"; `hint` says what to do; `code` is stable."""

    code = "internal"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class UsageError(FraisierError):
    """The command line, or a request's arguments, cannot be understood."""

    code = "usage"


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong in a configuration file. Lines and columns count from 1; 0 = unknown."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.file}{place}: {self.message}"


class InvalidConfig(UsageError):
    """The configuration cannot be used; `problems` has every reason."""

    code = "invalid_config"

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        listed = "\n".join(str(problem) for problem in problems)
        hint = "Mend the lines named above"
        if not any(problem.line for problem in problems):  # it was not even read
            hint = "Or name another one: --config FILE, or $FRAISIER_CONFIG"
        super().__init__(f"cannot use the configuration:\n{listed}", hint)
        self.problems = tuple(problems)


class UnusableExport(UsageError):
    """The file is no whole export, or one of a Fraisier that this one does not understand."""

    code = "unusable_export"


class NotFound(FraisierError):
    """Something that was named does not exist."""

    code = "not_found"


class Ambiguous(NotFound):
    """What was given of a name is the beginning of more than one."""


class Conflict(FraisierError):
    """The present state does not allow what was asked."""

    code = "conflict"


class ForbiddenTransition(Conflict):
    """A status that may not follow the present one."""

    code = "forbidden_transition"


class ForeignOwner(Conflict):
    """The folder on the host belongs to another installation, fraise or environment."""

    code = "foreign_owner"


class TokenOutdated(Conflict):
    """The fencing token is no longer the newest: another worker owns the environment now."""

    code = "token_outdated"


class Unreachable(FraisierError):
    """The store, a worker or a host does not answer."""

    code = "unreachable"


class StoreUnavailable(Unreachable):
    """The database cannot be opened or written within the time allowed."""

    code = "store_unavailable"


class StoreTooNew(Unreachable):
    """The database was migrated by a newer Fraisier."""

    code = "store_too_new"


class NoWorker(Unreachable):
    """The deployment is stored, but nothing is there that would perform it."""

    code = "no_worker"


class OnHold(Unreachable):
    """The deployment is stored, in an environment that is paused or outside of its allowed times."""

    code = "on_hold"


class LivesElsewhere(Unreachable):
    """An environment's labels say that it is on another machine than this one."""

    code = "lives_elsewhere"


class DeliveryRefused(FraisierError):
    """A webhook delivery that deploys nothing and is answered with an error."""

    code = "refused"


class MalformedDelivery(DeliveryRefused):
    """The body or a header cannot be what the forge documents."""

    code = "malformed"


class UnknownForge(DeliveryRefused):
    """No forge, or more than one, fits the path and headers."""

    code = "unknown_forge"


class BadSignature(DeliveryRefused):
    """The delivery is not signed with a secret of ours."""

    code = "bad_signature"


class TooLarge(DeliveryRefused):
    """The body is larger than the cap."""

    code = "too_large"


class UnsupportedMediaType(DeliveryRefused):
    """The content type, or encoding, is none that a forge sends."""

    code = "unsupported_media_type"


class TooManyFailures(DeliveryRefused):
    """Too many failed authentications from one address. `retry_after` is in seconds."""

    code = "too_many_failures"

    def __init__(self, message: str, hint: str = "", *, retry_after: int = 60) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class Cause(StrEnum):
    """Why a deployment ended otherwise than `success`; stable words for machines."""

    preflight = "preflight"
    repository = "repository"
    commit_not_found = "commit_not_found"
    commit_not_on_ref = "commit_not_on_ref"
    force_push_refused = "force_push_refused"
    older_than_current = "older_than_current"
    paths_unchanged = "paths_unchanged"
    superseded = "superseded"
    build = "build"
    migration = "migration"
    migration_interrupted = "migration_interrupted"
    irreversible = "irreversible"
    backup = "backup"
    database = "database"
    restart = "restart"
    unhealthy = "unhealthy"
    run = "run"
    timeout = "timeout"
    disk = "disk"
    network = "network"
    host = "host"
    store = "store"
    owner = "owner"
    cancelled = "cancelled"
    quarantined = "quarantined"
    interrupted = "interrupted"
    rollback = "rollback"
    internal = "internal"

    @property
    def is_retried(self) -> bool:
        """Tried again with backoff until `retry_for` has passed: the commit is not to blame."""
        return self in _RETRIED


_RETRIED = frozenset({Cause.disk, Cause.network, Cause.host, Cause.store, Cause.database})

# What to do, for who knows only the cause.
_ADVICE = {
    Cause.repository: "See that the repository can be read: fraisier doctor",
    Cause.migration_interrupted: "Look at the database, mend it by hand, then deploy again with --force",
    Cause.irreversible: "Make its migrations reversible, or set `on_irreversible: backup` or `proceed`",
    Cause.backup: "See its output, and docs/deployment-backup.md for what a backup needs",
    Cause.database: "See that the environment's database can be reached, and who else works on it",
    Cause.run: "See what it printed: fraisier logs",
    Cause.disk: "Make room on the disk, then deploy again: the commit is not to blame",
    Cause.network: "See that the repository can be reached: fraisier doctor",
    Cause.host: "See that the host can be used: fraisier doctor",
    Cause.store: "See that the database can be used: fraisier doctor",
    Cause.cancelled: "Request it again with `fraisier deploy`",
    Cause.interrupted: "See in the workers' log why they ended, then deploy again",
}


class StepFailed(FraisierError):
    """A step ended badly. Its `cause` decides what follows: another try, a quarantine, or neither.

    Without a `hint` of its own it has the cause's.
    """

    code = "step_failed"

    def __init__(self, cause: Cause, message: str, hint: str = "") -> None:
        super().__init__(message, hint or _ADVICE.get(cause, ""))
        self.cause = cause


class HostUnreachable(StepFailed):
    """A host does not answer, or does not let us in: tried again, because the commit is not to blame."""

    code = "host_unreachable"


EXIT_DONE, EXIT_ENDED_OTHERWISE, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_UNREACHABLE = range(5)

# One table: code -> (HTTP status, exit status of the CLI). Codes not listed are (500, 1).
STATUS_OF_CODE: dict[str, tuple[int, int]] = {
    "usage": (400, EXIT_USAGE),
    "invalid_config": (400, EXIT_USAGE),
    "unusable_export": (400, EXIT_USAGE),
    "not_found": (404, EXIT_NOT_FOUND),
    "conflict": (409, EXIT_ENDED_OTHERWISE),
    "forbidden_transition": (409, EXIT_ENDED_OTHERWISE),
    "foreign_owner": (409, EXIT_ENDED_OTHERWISE),
    "token_outdated": (409, EXIT_ENDED_OTHERWISE),
    "unreachable": (503, EXIT_UNREACHABLE),
    "store_unavailable": (503, EXIT_UNREACHABLE),
    "store_too_new": (503, EXIT_UNREACHABLE),
    "no_worker": (503, EXIT_UNREACHABLE),
    "on_hold": (503, EXIT_UNREACHABLE),
    "lives_elsewhere": (503, EXIT_UNREACHABLE),
    "host_unreachable": (503, EXIT_UNREACHABLE),
    "refused": (400, EXIT_ENDED_OTHERWISE),
    "malformed": (400, EXIT_ENDED_OTHERWISE),
    "unknown_forge": (400, EXIT_ENDED_OTHERWISE),
    "bad_signature": (401, EXIT_ENDED_OTHERWISE),
    "too_large": (413, EXIT_ENDED_OTHERWISE),
    "unsupported_media_type": (415, EXIT_ENDED_OTHERWISE),
    "too_many_failures": (429, EXIT_ENDED_OTHERWISE),
}


def http_status(error: FraisierError) -> int:
    """The HTTP status that `error` is answered with."""
    return STATUS_OF_CODE.get(error.code, (500, EXIT_ENDED_OTHERWISE))[0]


def exit_status(error: FraisierError) -> int:
    """The CLI's exit status for `error`."""
    return STATUS_OF_CODE.get(error.code, (500, EXIT_ENDED_OTHERWISE))[1]
