"""From a ref and two object names, as forges tell them, to a `Change`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from fraisier.domain.errors import MalformedDelivery
from fraisier.domain.push import Change, EventKind, Push, RefKind, is_object_name, is_ref_name, is_zero_sha
from fraisier.git.payload import Object, first_text, object_of, text_of

LONGEST_SHOWN = 200  # characters of a ref or an event in a reason
_REFS_REMEMBERED = 256  # the same few refs are pushed again and again
_PREFIXES = tuple((kind.prefix, kind) for kind in RefKind)


@dataclass(frozen=True, slots=True)
class Unfollowed:
    """A ref that moved and is neither branch nor tag: notes, merge requests, pull requests."""

    ref: str


class Names(NamedTuple):
    """What an event is about and who caused it, as far as it tells."""

    repository: str = ""
    sender: str = ""


def names_of(payload: Object, repository: Callable[[Object], str], sender: Callable[[Object], str]) -> Names:
    """What `repository` and `sender` find in the payload of an event that is no push.

    It asks for nothing, so that a field of another type is no reason to refuse it: nothing is told then.
    """
    return Names(_found(repository, payload), _found(sender, payload))


def _found(told: Callable[[Object], str], payload: Object) -> str:
    try:
        return told(payload)
    except MalformedDelivery:
        return ""


class Event(NamedTuple):
    """What every delivery has, whatever happened: the brand, its word for the event, the delivery's id."""

    forge: str
    type: str
    delivery_id: str

    def ping(self, names: Names) -> Push:
        """A test of the connection."""
        return self._push(EventKind.ping, names)

    def other(self, names: Names, what: str = "") -> Push:
        """An event that is no push; `what` is the forge's finer word, if it has one."""
        reason = f"event_not_a_push: {(what or self.type)[:LONGEST_SHOWN]}"
        return self._push(EventKind.other, names, reason)

    def push(
        self, *, repository: str, sender: str, moves: Iterable[Change | Unfollowed], empty: str = "no_changes"
    ) -> Push:
        """A push. `empty` is the reason why it asks for nothing if nothing moved.

        Raises:
            MalformedDelivery: it does not say of which repository.
        """
        if not repository:
            raise MalformedDelivery(
                "cannot read the delivery: the push does not name its repository",
                "Send what the forge documents",
            )
        changes: list[Change] = []
        skipped: list[str] = []
        for move in moves:
            if isinstance(move, Change):
                changes.append(move)
            else:
                skipped.append(move.ref)
        reason = f"ref_not_followed: {skipped[0][:LONGEST_SHOWN]}" if skipped else empty
        return Push(
            forge=self.forge,
            type=self.type,
            kind=EventKind.push,
            delivery_id=self.delivery_id,
            repository=repository,
            sender=sender,
            changes=tuple(changes),
            reason="" if changes else reason,
        )

    def _push(self, kind: EventKind, names: Names, reason: str = "") -> Push:
        return Push(
            forge=self.forge,
            type=self.type,
            kind=kind,
            delivery_id=self.delivery_id,
            repository=names.repository,
            sender=names.sender,
            reason=reason,
        )


@lru_cache(_REFS_REMEMBERED)
def split_ref(ref: str) -> tuple[RefKind, str] | None:
    """Kind and name of a full ref, None for one that is neither branch nor tag.

    Raises:
        MalformedDelivery: git would refuse the name, or it is not a full one.
    """
    for prefix, kind in _PREFIXES:
        if ref.startswith(prefix):
            return kind, checked_name(ref.removeprefix(prefix))
    if not ref.startswith("refs/") or not is_ref_name(ref):
        raise _bad_ref()
    return None


def checked_name(name: str) -> str:
    """`name`, if git accepts it for a branch or a tag.

    Raises:
        MalformedDelivery: it does not.
    """
    if not is_ref_name(name):
        raise _bad_ref()
    return name


def typed_ref(kind: str, name: str) -> tuple[RefKind, str] | Unfollowed:
    """Kind and name of a ref that is told as two words, "branch" or "tag" and a short name.

    Raises:
        MalformedDelivery: one of them is missing, or git would refuse the name.
    """
    if not kind or not name:
        raise _bad_ref()
    if kind not in RefKind.__members__:
        return Unfollowed(f"{kind} {name}")
    return RefKind(kind), checked_name(name)


def sha_of(holder: Object, key: str) -> str:
    """The object name in a field, zeros included; '' where it is missing, null or empty.

    Raises:
        MalformedDelivery: it is neither a full SHA-1 nor a full SHA-256 name.
    """
    value = holder.get(key)
    if isinstance(value, str) and is_object_name(value):
        return value
    if text_of(holder, key):
        raise MalformedDelivery(
            f"cannot read the delivery: `{key}` is no full object name", "Send what the forge documents"
        )
    return ""


def moved(change: Change) -> Change:
    """`change` with what follows from it: no commit for a deletion, created and deleted by zero names.

    Raises:
        MalformedDelivery: it neither deletes the ref nor says what the ref is now.
    """
    gone = change.deleted or is_zero_sha(change.after)
    came = not gone and (change.created or is_zero_sha(change.before))
    if not gone and not (change.after and change.commit):
        raise MalformedDelivery(
            "cannot read the delivery: it does not tell the commit that was pushed",
            "Send what the forge documents",
        )
    if not gone and came is change.created:  # nearly every push: nothing to add
        return change
    return change._replace(commit="" if gone else change.commit, created=came, deleted=gone)


def full_name(repository: Object) -> str:
    """`owner/name` of a repository as GitHub, Gitea, Forgejo and Gogs describe it; '' if it is not told.

    Raises:
        MalformedDelivery: a field that is used has another type.
    """
    told = text_of(repository, "full_name")
    if told:
        return told
    owner = first_text(object_of(repository, "owner"), "login", "username", "name")
    name = text_of(repository, "name")
    return f"{owner}/{name}" if owner and name else ""


def _bad_ref() -> MalformedDelivery:
    return MalformedDelivery(
        "cannot read the delivery: the name of its ref is one that git refuses",
        "Send a full ref as git names it",
    )
