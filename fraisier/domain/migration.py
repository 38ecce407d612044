"""What a deployment does to a database: what is pending, is there a way back, what was noted of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

BASE = "base"  # the revision of a database on which no migration was ever performed


class Verdict(StrEnum):
    """Whether pending migrations can be taken back."""

    reversible = "reversible"
    forward_only = "forward-only"  # there is no way down: the database stays when the code goes back
    restore_point = "restore point needed"  # they remove data, which only a backup brings back


class Reversible(StrEnum):
    """Who says whether migrations can be taken back: the framework, or a person."""

    auto = "auto"
    yes = "true"
    no = "false"


class OnIrreversible(StrEnum):
    """What becomes of a deployment whose migrations are not `reversible`."""

    refuse = "refuse"
    backup = "backup"  # a verified dump first
    proceed = "proceed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """One migration that a release has and the database has not, as its framework tells.

    `reversible`: it has a way down. `destroys`: it removes data. `atomic`: it is performed whole or not at
    all, so that the revision tells the truth whatever interrupts it.
    """

    name: str
    reversible: bool = True
    destroys: bool = False
    atomic: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WayDown:
    """Where a database is taken back to. `undone` are the migrations that this takes back, oldest first."""

    to: str
    undone: tuple[str, ...] = ()


def judge_migrations(pending: Sequence[Pending] | None, declared: Reversible, *, has_down: bool) -> Verdict:
    """The verdict on what is pending; None: the framework does not tell.

    `has_down`: there is a command that goes down at all.
    """
    known = pending or ()
    if declared is Reversible.yes and has_down:
        return Verdict.reversible
    if any(each.destroys for each in known):
        return Verdict.restore_point
    if declared is Reversible.no or not has_down or not all(each.reversible for each in known):
        return Verdict.reversible if pending == () else Verdict.forward_only
    return Verdict.reversible


class Kind(StrEnum):
    """What was noted of a database."""

    planned = "planned"  # the revision before, and what is pending: the migration is about to begin
    backed_up = "backed_up"
    migrated = "migrated"
    taken_back = "taken_back"
    left = "left"  # it was not taken back, for a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseChange:
    """A note of the journal. `revision` is where the database was then; '' = the framework does not tell.

    `detail` of `planned`: {database, framework, pending: [Pending], verdict, tells}; of `backed_up`: {path,
    bytes, sha256}; of `left`: {reason}.
    """

    kind: Kind
    revision: str
    attempt: int = 0
    at: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What one deployment has done to its database, by the newest notes of each kind.

    `planned`: a migration may have begun. `after` is the revision when it had ended. `tells`: its framework
    says where the database is. `target` is the revision that a rollback takes it to. `pending` is None where
    it does not say what is pending.
    """

    planned: bool = False
    before: str = ""
    after: str = ""
    migrated: bool = False
    taken_back: bool = False
    tells: bool = False
    verdict: Verdict = Verdict.forward_only
    target: str = ""
    pending: tuple[Pending, ...] | None = None
    backup: str = ""

    @property
    def is_atomic(self) -> bool:
        """Whether each of its migrations was performed whole or not at all."""
        return self.pending is not None and all(each.atomic for each in self.pending)

    @property
    def is_open(self) -> bool:
        """Whether a migration has begun of which the end was not noted."""
        return self.planned and not self.migrated and not self.taken_back

    @property
    def way_down(self) -> WayDown:
        """Back to where the database was."""
        return WayDown(to=self.before, undone=tuple(each.name for each in self.pending or ()))


def story_of(changes: Iterable[DatabaseChange]) -> Story:
    """The notes of one deployment, oldest first, as a whole. What was planned anew begins anew."""
    found: dict[str, Any] = {}
    for change in changes:
        match change.kind:
            case Kind.planned:
                found = {"planned": True, "before": change.revision, **_planned(change.detail)}
            case Kind.backed_up:
                found["backup"] = str(change.detail.get("path", ""))
            case Kind.migrated:
                found |= {"migrated": True, "after": change.revision}
            case Kind.taken_back:
                found["taken_back"] = True
            case Kind.left:
                pass
    return Story(**found)


def _planned(detail: Mapping[str, Any]) -> dict[str, Any]:
    listed = detail.get("pending")
    pending = None if listed is None else tuple(Pending(**each) for each in listed)
    verdict = Verdict(detail.get("verdict", Verdict.forward_only))
    told = {"tells": bool(detail.get("tells")), "target": str(detail.get("target", ""))}
    return {"pending": pending, "verdict": verdict, **told}


class Standing(StrEnum):
    """Where an interrupted migration has left its database."""

    before = "before"  # as it was: it may be repeated
    after = "after"  # it is done
    between = "between"


def standing(story: Story, now: str, left: Sequence[Pending] | None) -> Standing:
    """Where a database stands that is at the revision `now`, with `left` still pending in the release.

    A migration that is not atomic may have been performed in part before the revision says so.
    """
    if now == story.target if story.target else left is not None and not left:
        return Standing.after
    # Where the framework does not tell what is pending, its revision is believed.
    first = (story.pending or ())[:1]
    if now == story.before and all(each.atomic for each in first):
        return Standing.before
    return Standing.between


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """The way of a database back to where an earlier release had it; `refusal` says why there is none."""

    way: WayDown = field(default_factory=lambda: WayDown(to=""))
    now: str = ""  # where the database is, as the journal has it; '' = nobody knows
    refusal: str = ""


def way_to(history: Sequence[tuple[str, Story]], deployment: str) -> Return:
    """The way back to where the database was when `deployment` had ended.

    `history` has the stories of an environment's deployments that have one, by id, oldest first. All that has
    been migrated since must be reversible.
    """
    now = next((where for _, story in reversed(history) if (where := _ended_at(story))), "")
    index = next((i for i, (each, _) in enumerate(history) if each == deployment), None)
    if index is None or not _ended_at(history[index][1]):
        return Return(now=now, refusal="its revision was not noted when that release was deployed")
    since = [story for _, story in history[index + 1 :] if story.planned and not story.taken_back]
    if any(story.is_open for story in since):
        return Return(now=now, refusal="a migration since then did not come to its end")
    barred = next((story for story in since if story.verdict is not Verdict.reversible), None)
    if barred is not None:
        names = ", ".join(each.name for each in barred.pending or () if not each.reversible or each.destroys)
        what = f"{barred.verdict.value}: {names}" if names else barred.verdict.value
        return Return(now=now, refusal=f"what was migrated since then is {what}")
    to = _ended_at(history[index][1])
    if not _is_above(to, since):
        return Return(now=now, refusal="it was taken back further since then: deploy that commit again")
    undone = dict.fromkeys(each.name for story in since for each in story.pending or ())
    return Return(now=now, way=WayDown(to=to, undone=tuple(undone)))


def _is_above(revision: str, since: Iterable[Story]) -> bool:
    """Whether what happened since a database was at `revision` has left it there or above."""
    passed = [revision]  # from there to where it is
    for story in since:
        end = _ended_at(story)
        if end in passed:
            del passed[passed.index(end) + 1 :]
        elif story.target:
            passed.clear()
        elif passed or end == revision:
            passed.append(end)
    return bool(passed)


def _ended_at(story: Story) -> str:
    if story.taken_back:
        return story.before
    return story.after if story.migrated else ""
