"""How what is on a host differs from what the database says, and what heals it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fraisier.domain.release import Layout


class Remedy(StrEnum):
    """What brings a host back to what the database says."""

    deploy = "deploy"  # the same commit anew, into a new release
    adopt = "adopt"  # a person has to say whose the folder is
    move = "move"  # something of somebody else's is in the way


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is otherwise than the database says. `check` names it in one word."""

    check: str
    message: str
    remedy: Remedy = Remedy.deploy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the database says of an environment on one host. `release` '' = nothing was deployed."""

    app_path: str
    owner: Mapping[str, str]
    token: int
    release: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What the process manager says, and the process itself.

    `release` is the one whose folder the process was started in, '' where that cannot be told. `is_older`
    tells whether it was started before `current` was last changed; None where that cannot be told either.
    """

    name: str
    known: bool
    running: bool
    detail: str = ""
    release: str = ""
    is_older: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is on the host. `current` is its kind: missing, link, folder, file, other.

    `owner` is None where nobody's name is there. `edited` are files that a deployment puts elsewhere on the
    host and that are otherwise there, `stopped` timers of jobs that start nothing. Where the release runs as
    an instance of its own, `listens` is the socket or port that it listens on, `dialled` what the link of the
    proxy leads to, or where the brand `proxy` says that it sends traffic, and `others` are the instances of
    other releases that run beside it.
    """

    current: str
    link: str = ""
    folder: bool = False  # of the release that is wanted
    marker: str | None = None  # the commit that its marker names; None: no marker
    owner: Mapping[str, str] | None = None
    token: int = 0
    unit: Unit | None = None
    edited: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    listens: str = ""
    dialled: str = ""
    proxy: str = ""  # '' = it dials the link, and nobody has to ask it
    others: tuple[str, ...] = ()


def differences(wanted: Wanted, found: Found) -> Iterator[Difference]:
    """Everything that differs, the weightiest first."""
    layout = Layout(wanted.app_path)
    if foreign := _foreign(wanted, found, layout):
        yield foreign
        return  # what somebody else has there is his
    if not wanted.release:
        if found.current != "missing":
            message = f"{layout.current} is there, and the database knows of no release"
            yield Difference("current", message, Remedy.deploy if found.current == "link" else Remedy.move)
        return
    if found.owner is None:
        yield Difference("owner", f"{layout.own}/owner is gone: the folder belongs to nobody")
    yield from _current(wanted, found, layout)
    yield from _release(wanted, found, layout)
    if found.unit is not None:
        yield from _unit(wanted, found.unit)
    if found.listens and found.dialled != found.listens:
        where = f"{layout.link} leads to {found.dialled}" if found.dialled else f"{layout.link} is gone"
        if found.proxy:
            where = f"{found.proxy} sends traffic to {found.dialled or 'nobody'}"
        yield Difference("traffic", f"{where}; {wanted.release} listens on {found.listens}")
    for release in found.others:
        yield Difference("instance", f"release {release} still runs beside {wanted.release}")
    for path in found.edited:
        yield Difference("file", f"{path} is not as a deployment of {wanted.release} would write it")
    for timer in found.stopped:
        yield Difference("timer", f"{timer} is stopped: it starts no run")


def _foreign(wanted: Wanted, found: Found, layout: Layout) -> Difference | None:
    if found.owner is not None and dict(found.owner) != dict(wanted.owner):
        message = f"{layout.app_path} belongs to another installation or environment"
        return Difference("owner", message, Remedy.adopt)
    if found.token > wanted.token:
        message = (
            f"{layout.app_path} was changed with token {found.token}, and the database only knows of "
            f"{wanted.token}: it is a restored one, or another machine deploys there too"
        )
        return Difference("token", message, Remedy.adopt)
    return None


def _current(wanted: Wanted, found: Found, layout: Layout) -> Iterator[Difference]:
    if found.current == "missing":
        yield Difference("current", f"{layout.current} is gone; it pointed to {wanted.release}")
    elif found.current != "link":
        message = f"{layout.current} is a {found.current}, not a link to {wanted.release}"
        yield Difference("current", message, Remedy.move)
    elif found.link.rstrip("/") not in (
        layout.link_target(wanted.release),
        layout.release(wanted.release),
    ):
        yield Difference("current", f"{layout.current} points to {found.link}, not to {wanted.release}")


def _release(wanted: Wanted, found: Found, layout: Layout) -> Iterator[Difference]:
    if not found.folder:
        yield Difference("release", f"{layout.release(wanted.release)} is gone")
    elif found.marker is None:
        yield Difference("release", f"release {wanted.release} has lost its marker: it counts as half built")
    elif found.marker != wanted.commit:
        message = f"release {wanted.release} is of commit {found.marker[:10]}, not of {wanted.commit[:10]}"
        yield Difference("commit", message)


def _unit(wanted: Wanted, unit: Unit) -> Iterator[Difference]:
    if not unit.known or not unit.running:
        what = "does not run" if unit.known else "is unknown"
        yield Difference("unit", f"{unit.name} {what}{f' ({unit.detail})' if unit.detail else ''}")
    elif unit.release and unit.release != wanted.release:
        message = f"{unit.name} was started from release {unit.release}, not from {wanted.release}"
        yield Difference("unit", message)
    elif not unit.release and unit.is_older:
        message = f"{unit.name} was started before `current` was last changed: it may run another release"
        yield Difference("unit", message)
