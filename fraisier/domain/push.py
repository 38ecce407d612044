"""What a forge told us, without the forge's words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

_OBJECT_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_ZEROS = frozenset({"0" * 40, "0" * 64})
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
LONGEST_REF = 1024  # bytes; git itself is bounded by the file system's name length, forges by 250 and less


class RefKind(StrEnum):
    """A branch and a tag of the same name are two things."""

    branch = "branch"
    tag = "tag"

    @property
    def prefix(self) -> str:
        """Where git keeps refs of this kind."""
        return "refs/heads/" if self is RefKind.branch else "refs/tags/"


def is_sha(text: str) -> bool:
    """True for a full object name (SHA-1 or SHA-256, lower case) that is not the zero one."""
    return is_object_name(text) and text not in _ZEROS


def is_object_name(text: str) -> bool:
    """True for a full object name, the zero one included."""
    return _OBJECT_NAME.match(text) is not None


def is_zero_sha(text: str) -> bool:
    """True for git's "no object": 40 or 64 zeros."""
    return text in _ZEROS


def is_ref_name(name: str) -> bool:
    """Whether git accepts `refs/heads/<name>`.

    The rules of git-check-ref-format(1): https://git-scm.com/docs/git-check-ref-format
    """
    parts = name.split("/")
    return (
        0 < len(name.encode("utf-8", "replace")) <= LONGEST_REF
        and not _REF_FORBIDDEN.search(name)
        and not name.endswith((".", "/"))
        and not name.startswith("/")
        and not any(part.startswith(".") or part.endswith(".lock") or not part for part in parts)
        and _is_encodable(name)
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Change(NamedTuple):
    """One ref that moved. `before` and `after` are object names as the forge told them; '' = not told.

    `commit` is what would be deployed: '' for a deletion. For a tag it may still be the tag's object;
    the first fetch peels it.
    """

    kind: RefKind
    name: str
    before: str = ""
    after: str = ""
    commit: str = ""
    created: bool = False
    deleted: bool = False
    forced: bool = False

    @property
    def ref(self) -> str:
        """The full name, e.g. refs/heads/main."""
        return self.kind.prefix + self.name


class EventKind(StrEnum):
    """What a delivery means to us, whatever the forge calls it."""

    push = "push"
    ping = "ping"
    other = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One authentic delivery.

    `type` is the forge's own word for the event (shown, never acted on); `kind` is ours. `repository` is
    the full path on the forge ("group/sub/project"); it is compared, never fetched from. A delivery that
    is no push has no changes; `reason` then says why it is ignored.
    """

    forge: str
    type: str
    kind: EventKind
    delivery_id: str
    repository: str = ""
    sender: str = ""
    changes: tuple[Change, ...] = field(default=())
    reason: str = ""
