"""Raises an alert where no backup of an environment was verified for too long."""

from __future__ import annotations

from collections.abc import Iterable

from fraisier.application.ports import Clock, Store
from fraisier.domain.backup import Copy
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import JobKind
from fraisier.domain.run import Alert, AlertKind

_DAY = 86400.0
_WATCHED = (
    "(backups)"  # no job is called so: the time that is noted for it is when the watch began, and stays
)


class WatchBackups:
    """Looked at again and again, by one worker of all."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._since: dict[EnvironmentKey, float] = {}  # environments without a backup, and since when

    def __call__(self, environments: Iterable[Environment]) -> list[Alert]:
        """Raise what is to be raised, and end what has; returns alerts that are new."""
        raised = []
        for environment in environments:
            if environment.backup is None or environment.backup.verified_within <= 0:
                continue
            job = next(
                (name for name, job in environment.jobs.items() if job.kind is JobKind.verify), "verify"
            )
            if why := self._overdue(environment, environment.backup.verified_within):
                alert = _alert(environment.key, job, why)
                if self._store.raise_alert(alert):
                    raised.append(alert)
            elif self._stands(environment.key):
                self._store.clear_alert(environment.key, job, (AlertKind.unverified,), by="fraisier")
        return raised

    def _stands(self, key: EnvironmentKey) -> bool:
        rows = self._store.alerts(key.fraise, key.environment)
        return any(row["kind"] == AlertKind.unverified for row in rows)

    def _overdue(self, environment: Environment, within: float) -> str:
        """'' or what is wrong. Who has just begun has as much time as everybody."""
        now = self._clock.now()
        copies = [copy for copy in self._store.copies(environment.key) if not copy.safety]
        verified = max((copy.verified_at or 0.0 for copy in copies if _counts(copy)), default=None)
        if verified is not None and now - verified <= within:
            return ""
        if verified is not None:
            return f"no backup was verified for {(now - verified) / _DAY:.1f} days"
        since = min((copy.made_at for copy in copies), default=None)
        if since is None:
            since = self._begun(environment.key, now)
        if now - since <= within:
            return ""
        return "no backup was ever verified" if copies else "there is no backup"

    def _begun(self, key: EnvironmentKey, now: float) -> float:
        """When it was first seen without a backup, by whichever worker."""
        if key not in self._since:
            plan = (key.fraise, key.environment, _WATCHED)
            known = self._store.planned_until([key]).get(plan)
            if known is None:
                self._store.note_planned({plan: now})
            self._since[key] = now if known is None else known
        return self._since[key]


def _counts(copy: Copy) -> bool:
    return copy.verified_at is not None and copy.is_good


def _alert(key: EnvironmentKey, job: str, why: str) -> Alert:
    hint = f"Try one: fraisier backup verify {key.fraise} {key.environment}; what keeps it is in its output"
    return Alert(environment=key, job=job, kind=AlertKind.unverified, message=why, hint=hint)
