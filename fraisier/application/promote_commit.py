"""Promotes: deploys to one environment exactly the commit that runs in good health in another one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from fraisier.application.ports import EnvironmentCodec, History, Requested, Row, Store
from fraisier.application.request_deployment import RequestDeployment, find_environment
from fraisier.application.tools import Tools
from fraisier.domain.errors import Conflict, StepFailed, UsageError
from fraisier.domain.fraise import Environment, EnvironmentKey, Source

MOST_SHOWN = 20  # commits


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What would be deployed where.

    `brought` and `taken` are the commits that come and go with it; None where this machine cannot tell.
    """

    source: EnvironmentKey
    target: EnvironmentKey
    commit: str
    release: str  # the release of `source` that serves the commit
    replaces: str  # the commit that runs in `target`; '' = none
    busy: str = ""  # the deployment that is under way in `source`, or ''
    runs_already: bool = False  # in good health, and nothing else is asked for
    brought: History | None = None
    taken: History | None = None


class PromoteCommit:
    """Looks with `plan`; a promotion is then requested through the one door, like `deploy --commit`.

    So no sweep undoes it; the next push that the target follows does.
    """

    def __init__(
        self,
        environments: Mapping[EnvironmentKey, Environment],
        tools: Tools,
        store: Store,
        codec: EnvironmentCodec,
        request: RequestDeployment,
    ) -> None:
        self._environments = environments
        self._tools = tools
        self._store = store
        self._codec = codec
        self._request = request

    def plan(self, source: EnvironmentKey, target: EnvironmentKey) -> Promotion:
        """What a promotion would bring; changes nothing.

        Raises:
            NotFound: no such environment.
            UsageError: both are the same.
            Conflict: nothing runs in `source`, or not in good health, or it is another repository's.
        """
        there, here = (find_environment(self._environments, key) for key in (source, target))
        if source == target:
            raise UsageError(f"cannot promote {source} to itself", "Name another environment")
        row = self._row(source)
        self._check(source, row)
        self._check_repository(there, here, row)
        there_now = self._row(target)
        commit, replaces = row["current_commit"], there_now.get("current_commit", "")
        open_there = bool(there_now) and (there_now["running_deployment_id"] or there_now["pending"])
        return Promotion(
            source=source,
            target=target,
            commit=commit,
            release=row["current_release"],
            replaces=replaces,
            busy=row["running_deployment_id"] or "",
            runs_already=commit == replaces and bool(there_now["healthy"]) and not open_there,
            brought=self._history(here, replaces, commit),
            taken=self._history(here, commit, replaces) if replaces else None,
        )

    def request(self, promotion: Promotion, *, by: str, force: bool = False) -> Requested:
        """Ask for what was planned.

        Raises:
            NotFound: the environment is gone.
        """
        requested = self._request(promotion.target, commit=promotion.commit, by=by, force=force)
        if requested.deployment is not None:
            detail = {
                "from": str(promotion.source),
                "to": str(promotion.target),
                "commit": promotion.commit,
                "replaces": promotion.replaces,
            }
            self._store.audit(actor=by, action="promote", subject=requested.deployment.id, detail=detail)
        return requested

    def _row(self, key: EnvironmentKey) -> Row:
        rows = self._store.fraise_status(key.fraise, key.environment)
        return rows[0] if rows else {}

    def _check(self, key: EnvironmentKey, row: Row) -> None:
        if not row or not row["current_commit"]:
            message = f"cannot promote from {key}: nothing runs there"
            raise Conflict(message, f"Deploy to it first: fraisier deploy {key.fraise} {key.environment}")
        if not row["healthy"]:
            message = f"cannot promote from {key}: {row['current_release']} is not healthy there"
            raise Conflict(message, f"See why: fraisier status {key.fraise} {key.environment}")

    def _check_repository(self, there: Environment, here: Environment, row: Row) -> None:
        """What serves may have been deployed before the configuration named another repository."""
        serving, ours = self._served_from(row) or there.source, here.source
        if (serving.forge, serving.repository) != (ours.forge, ours.repository):
            message = (
                f"cannot promote from {there.key} to {here.key}: it runs {serving.repository} of "
                f"{serving.forge}, the other one is for {ours.repository} of {ours.forge}"
            )
            raise Conflict(message, f"Deploy to {there.key} what its repository has now, then promote that")

    def _served_from(self, row: Row) -> Source | None:
        """The source as it was; None where that cannot be told, e.g. because a secret of then is gone."""
        resolved = self._store.resolved(row["current_deployment_id"] or "")
        with suppress(UsageError):
            return self._codec.load(resolved).source if resolved else None
        return None

    def _history(self, environment: Environment, old: str, new: str) -> History | None:
        try:
            return self._tools.repository.history(environment.source, old=old, new=new, limit=MOST_SHOWN)
        except StepFailed:  # only shown: the deployment's own fetch heals a mirror, or says what is wrong
            return None
