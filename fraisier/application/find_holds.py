"""Tells which deployments wait because somebody wants it so: a paused environment, a closed window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fraisier.application.ports import Row, Store
from fraisier.domain.deployment import Status, goes_through
from fraisier.domain.errors import OnHold
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.window import is_open, opens_at, shown_opening


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing begins by itself, and what to do. `until`: when a window opens; None: a person decides."""

    reason: str
    hint: str
    until: float | None


class FindHolds:
    """Looks at pauses, in the store, and at the configuration's windows; `now` is in Unix seconds."""

    def __init__(self, environments: Mapping[EnvironmentKey, Environment], store: Store, now: float) -> None:
        self._environments = environments
        self._store = store
        self._now = now

    def hold(self, key: EnvironmentKey) -> Hold | None:
        """Why nothing begins by itself in an environment; None: it does."""
        rows = self._store.fraise_status(key.fraise, key.environment)
        return self.hold_of_row(key, rows[0] if rows else {})

    def hold_of_row(self, key: EnvironmentKey, row: Row) -> Hold | None:
        """The same, of the environment's row of v_fraise_status."""
        paused, closed = self._pause(row), self._window(key)
        if not paused or not closed:
            return paused or closed
        return Hold(f"{paused.reason}; and {closed.reason}", paused.hint, None)

    def hold_of(self, deployment: str) -> Hold | None:
        """Why this deployment is not begun; None: it is, or was, or it waits for something else."""
        for row in self._store.unfinished():
            if row["id"] == deployment and _is_held(row):
                return self.hold(_key(row))
        return None

    def replaced_by(self, key: EnvironmentKey, *, goes_first: bool) -> frozenset[str]:
        """The deployments of an environment whose place a person's newer wish takes.

        Those that are held; and where it goes first (a rollback, or `force`) those that wait for their next
        try: they would undo it.
        """
        rows = [row for row in self._store.unfinished() if _key(row) == key]
        held = {row["id"] for row in rows if _is_held(row)}
        if held and self.hold(key) is None:
            held.clear()
        return frozenset(held | {row["id"] for row in rows if goes_first and self._is_tried_again(row)})

    def _is_tried_again(self, row: Row) -> bool:
        return row["status"] == Status.pending and bool(self._store.deployment(row["id"])["not_before"])

    def check(self, deployment: str) -> None:
        """Return unless the deployment is held.

        Raises:
            OnHold: it waits, for nobody knows how long, or until tomorrow.
        """
        if (hold := self.hold_of(deployment)) is not None:
            message = f"cannot begin deployment {deployment[:8]} now: {hold.reason}"
            raise OnHold(message, f"It is stored and waits. {hold.hint}")

    def waiting(self) -> dict[EnvironmentKey, Hold]:
        """Every environment with a deployment that is held."""
        keys = {_key(row) for row in self._store.unfinished() if _is_held(row)}
        rows = {_key(row): row for row in self._store.fraise_status()} if keys else {}
        holds = {key: self.hold_of_row(key, rows[key]) for key in sorted(keys) if key in rows}
        return {key: hold for key, hold in holds.items() if hold is not None}

    def _pause(self, row: Row) -> Hold | None:
        if not row.get("paused"):
            return None
        command = f"fraisier resume {row['fraise_id']} {row['environment']}"
        return Hold(paused_by(row), f"`{command}` lets it begin; with --force it would not wait", None)

    def _window(self, key: EnvironmentKey) -> Hold | None:
        environment = self._environments.get(key)
        if environment is None or is_open(environment.allowed, self._now):
            return None
        opening = shown_opening(environment.allowed, self._now)
        reason = f"{key} is outside of its allowed times ({in_words(environment)}) until {opening}"
        hint = "It begins by itself then; with --force it would not wait"
        return Hold(reason, hint, opens_at(environment.allowed, self._now))


def paused_by(row: Row) -> str:
    """api/production is paused by anna since 2026-11-23 07:00 UTC: why."""
    since = f" since {row['paused_at'][:16].replace('T', ' ')} UTC" if row["paused_at"] else ""
    by = f" by {row['paused_by']}" if row["paused_by"] else ""
    why = f": {row['paused_reason']}" if row["paused_reason"] else ""
    return f"{_key(row)} is paused{by}{since}{why}"


def in_words(environment: Environment) -> str:
    """The windows of an environment: mon-fri 08:00-17:00."""
    return ", ".join(map(str, environment.allowed))


def _is_held(row: Row) -> bool:
    return row["status"] == Status.pending and not goes_through(row["trigger"], force=row["force"])


def _key(row: Row) -> EnvironmentKey:
    return EnvironmentKey(row["fraise_id"], row["environment"])
