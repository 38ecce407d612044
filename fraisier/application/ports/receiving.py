"""What the store is handed when a push or a wish arrives, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from fraisier.domain.deployment import Deployment, Wish
from fraisier.domain.push import Push


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An authentic delivery on its way to the store. `received_at` is Unix time in seconds."""

    push: Push
    payload: bytes
    received_at: float
    remote: str = ""
    wishes: tuple[Wish, ...] = ()  # one per environment that follows one of the refs
    reason: str = ""  # why it asks for nothing, where `wishes` is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What became of a delivery, on disk. `status`: accepted, ignored, duplicate or pong."""

    event_id: str
    status: str
    reason: str = ""
    deployments: tuple[Deployment, ...] = ()
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """What became of one wish. `deployment` is None if nothing was to do, for `reason`.

    `database` says in words what a rollback does with the environment's database; '' where there is none.
    """

    deployment: Deployment | None
    reason: str = ""
    superseded: tuple[str, ...] = ()
    database: str = ""
