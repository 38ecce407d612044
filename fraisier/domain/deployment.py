"""The wish to bring one environment to one commit, what may become of it, and when a push is one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from fraisier.domain.errors import Cause, ForbiddenTransition
from fraisier.domain.fraise import EnvironmentKey


class Status(StrEnum):
    """One spelling everywhere: database, JSON, GraphQL, CLI."""

    pending = "pending"
    running = "running"
    success = "success"
    failed = "failed"
    rolled_back = "rolled_back"
    rollback_failed = "rollback_failed"
    cancelled = "cancelled"
    superseded = "superseded"

    @property
    def is_final(self) -> bool:
        """Nothing follows; a new deployment is the way out."""
        return not MAY_FOLLOW[self]

    def check(self, following: Status) -> Status:
        """`following`, if it may follow this status.

        Raises:
            ForbiddenTransition: it may not.
        """
        if following not in MAY_FOLLOW[self]:
            message = f"cannot change a deployment from {self} to {following}"
            raise ForbiddenTransition(message, "A deployment that ended stays as it is; request a new one")
        return following


# Which status may follow which; nothing else changes one. running -> pending: waiting for the next
# attempt after a disk, network, host or store failure. running -> superseded: the fetched commit turned
# out to be an ancestor of what runs.
MAY_FOLLOW: dict[Status, frozenset[Status]] = {
    Status.pending: frozenset({Status.running, Status.cancelled, Status.superseded, Status.failed}),
    Status.running: frozenset(
        {
            Status.success,
            Status.failed,
            Status.rolled_back,
            Status.rollback_failed,
            Status.cancelled,
            Status.superseded,
            Status.pending,
        }
    ),
    Status.success: frozenset(),
    Status.failed: frozenset(),
    Status.rolled_back: frozenset(),
    Status.rollback_failed: frozenset(),
    Status.cancelled: frozenset(),
    Status.superseded: frozenset(),
}


class Trigger(StrEnum):
    """Who, or what, asked."""

    webhook = "webhook"
    manual = "manual"
    api = "api"
    scheduled = "scheduled"
    sweep = "sweep"
    rollback = "rollback"
    heal = "heal"  # a worker brings hosts along that could not be reached


REPLACEABLE = frozenset({Trigger.webhook, Trigger.sweep, Trigger.api})  # superseded by a newer wish
UNSEEN_TIP = "?"  # begins an environment's seen_tip after a person's decision, until a sweep has looked
NO_TIP = "0" * 40  # the same where the branch does not exist
AUTOMATIC = frozenset({Trigger.webhook, Trigger.sweep})  # ask for nothing that was already decided on


def unseen_tip(seen: str, at: float) -> str:
    """What `seen_tip` becomes when a person decides at `at` on wherever the branch is: `?<last known>@<at>`,
    or `?` where none is known. `at` is Unix seconds.
    """
    known = known_tip(seen)
    return f"{UNSEEN_TIP}{known}@{int(at)}" if known else UNSEEN_TIP


def known_tip(seen: str) -> str:
    """The last tip of a `seen_tip` that is known; '' = none ever was."""
    return seen.removeprefix(UNSEEN_TIP).partition("@")[0]


def decided_at(seen: str) -> float:
    """When the person decided whose decision made the `seen_tip` an unseen one; 0 where nobody noted it."""
    _, _, at = seen.partition("@")
    return float(at) if at.isdecimal() else 0.0


def goes_through(trigger: str, *, force: bool) -> bool:
    """Whether a deployment is begun even where nothing begins by itself: in a paused environment, or outside
    of its windows.

    The way back always is: what is broken must not wait for Monday. So is what a person insists on with
    `force`; without it, his wish waits like a push. (Argo CD's windows and Spinnaker's let persons through
    only where that was said, too; `kubectl rollout pause` records and waits.) The same rule in SQL is part of
    each store's claims.
    """
    return force or trigger == Trigger.rollback


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A request for a deployment, before it is one.

    `commit` may be '' (unknown until the first fetch). `tip` is the ref's tip that the wish decides on; it
    becomes the environment's `seen_tip`. `release` names the release that a rollback goes back to, and
    `with_database` says that its database goes back, too. `seen` is what `seen_tip` was when a sweep looked
    for the tip: one that has changed since makes the wish void; with `only_notes` it asks for nothing, and
    `tip` is where the branch was when a person decided, whose decision stands until it moves on. `instead_of`
    are wishes of persons that are held back, in a paused environment or outside of its windows: a person who
    decides anew does not want them to begin, and undo this, when the hold ends.
    """

    environment: EnvironmentKey
    ref: str  # full, e.g. refs/heads/main; '' for a bare commit
    trigger: Trigger
    commit: str = ""
    tip: str = ""
    requested_by: str = ""
    event_id: str = ""
    force: bool = False
    release: str = ""
    with_database: bool = False
    seen: str | None = None
    only_notes: bool = False
    instead_of: frozenset[str] = frozenset()

    @property
    def new_seen_tip(self) -> str:
        """What the environment's `seen_tip` becomes; '' = it stays, UNSEEN_TIP = see `unseen_tip`.

        A rollback, or a person who names a commit, decides on whatever the branch is at now, so that no
        sweep undoes it.
        """
        if self.tip:
            return self.tip
        decides = self.trigger is Trigger.rollback or (self.trigger not in AUTOMATIC and bool(self.commit))
        return UNSEEN_TIP if decides else ""

    def is_void(self, seen_tip: str) -> bool:
        """Whether somebody has decided on the branch's tip since it was looked up."""
        return self.seen is not None and self.seen != seen_tip


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A stored wish and what became of it. Times are Unix seconds, UTC; ids are uuids as text."""

    id: str
    environment: EnvironmentKey
    ref: str
    commit: str
    status: Status
    trigger: Trigger
    requested_by: str
    requested_at: float
    force: bool = False
    event_id: str = ""
    started_at: float | None = None
    completed_at: float | None = None
    cause: Cause | None = None
    error_message: str = ""
    hint: str = ""
    release: str = ""
    previous_release: str = ""
    with_database: bool = False
    cancel_requested_by: str = ""
    not_before: float = 0.0

    def becomes(
        self, status: Status, *, cause: Cause | None = None, error: str = "", hint: str = ""
    ) -> Deployment:
        """This deployment with the next status.

        Raises:
            ForbiddenTransition: `status` may not follow the present one.
        """
        self.status.check(status)
        return replace(self, status=status, cause=cause, error_message=error, hint=hint)


class Earlier(Protocol):
    """What deciding on a wish needs to know of an earlier deployment."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def trigger(self) -> str: ...
    @property
    def commit(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What a wish leads to: a deployment that supersedes others, or nothing, for a reason."""

    requested: bool
    reason: str = ""
    superseded: tuple[str, ...] = ()


def decide(
    wish: Wish,
    newest: Earlier | None,
    pending: Iterable[Earlier],
    *,
    quarantined: bool,
    refused: bool = False,
) -> Decision:
    """Whether `wish` becomes a deployment, and which pending ones it supersedes.

    `newest` is the environment's newest deployment that is not superseded, `pending` all that wait. A
    push or sweep asks for nothing only if its commit is what `newest` asked for, or is quarantined, or was
    refused; so pushes A, B, A deploy A twice. Only `force` brings a quarantined commit again; a way back
    to a release that was good once is never barred. Hosts are healed where nothing else waits: what waits
    brings them along.
    """
    if wish.trigger is Trigger.heal:
        busy = newest is not None and newest.status in (Status.pending, Status.running)
        return Decision(requested=False, reason="busy") if busy or any(pending) else Decision(requested=True)
    automatic = wish.trigger in AUTOMATIC and bool(wish.commit)
    if automatic and newest is not None and newest.commit == wish.commit:
        return Decision(requested=False, reason="already_requested")
    if quarantined and not wish.force and wish.trigger is not Trigger.rollback:
        return Decision(requested=False, reason="quarantined")
    if automatic and refused:
        return Decision(requested=False, reason="refused")
    waiting = tuple(e.id for e in pending if e.trigger in REPLACEABLE or e.id in wish.instead_of)
    return Decision(requested=True, superseded=waiting)
