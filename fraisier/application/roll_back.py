"""Asks for the way back to an earlier release, as a deployment of its own that goes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from fraisier.application.find_holds import FindHolds
from fraisier.application.ports import Requested, Store
from fraisier.application.release_marker import Marker, running_release, whole_releases
from fraisier.application.request_deployment import find_environment
from fraisier.application.tools import Tools
from fraisier.domain.deployment import Trigger, Wish
from fraisier.domain.errors import Conflict, NotFound, StepFailed, UsageError
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.migration import DatabaseChange, Kind, Return, story_of, way_to
from fraisier.domain.release import Layout, release_number


class RollBack:
    """Chooses the release to go back to and requests it."""

    def __init__(
        self,
        environments: Mapping[EnvironmentKey, Environment],
        tools: Tools,
        store: Store,
        holds: FindHolds,
    ) -> None:
        self._environments = environments
        self._tools = tools
        self._store = store
        self._holds = holds

    def __call__(
        self, key: EnvironmentKey, *, to: str = "", by: str, with_database: bool = False
    ) -> Requested:
        """Go back to release `to` (its name, number or commit), or to the good one before the running one.

        Raises:
            NotFound: no such environment or release, or nothing to go back to.
            Conflict: `with_database`, but the database cannot be taken back.
            UsageError: nothing is deployed there.
        """
        environment = find_environment(self._environments, key)
        if not environment.deploys:
            message = f"cannot roll {key} back: it has no repository, and what is backed up no releases"
            hint = f"To bring a backup back: fraisier backup restore {key.fraise} {key.environment}"
            raise UsageError(message, hint)
        marker = self._choose(environment, to)
        said = self._database(environment, marker, with_database=with_database)
        wish = Wish(
            environment=key,
            ref=marker.ref,
            commit=marker.commit,
            release=marker.release,
            trigger=Trigger.rollback,
            requested_by=by,
            with_database=with_database,
            instead_of=self._holds.replaced_by(key, goes_first=True),
        )
        return replace(self._store.request(wish), database=said)

    def _database(self, environment: Environment, marker: Marker, *, with_database: bool) -> str:
        if self._tools.framework(environment) is None:
            if with_database:
                message = f"cannot take the database of {environment.key} back: nothing migrates it"
                raise Conflict(message, "Roll back without --with-database")
            return ""
        back = way_of_release(self._store, environment, marker)
        if with_database and back.refusal:
            message = f"cannot take the database of {environment.key} back: {back.refusal}"
            raise Conflict(message, "Without --with-database the code goes back, and the database stays")
        if with_database:
            return f"The database goes back from revision {back.now} to {back.way.to}."
        at = f"at revision {back.now}" if back.now else "as it is"
        if back.refusal:
            return f"The database stays {at}."
        if back.way.to == back.now:
            return f"The database stays {at}, where release {marker.release} left it."
        return (
            f"The database stays {at}; release {marker.release} was deployed with {back.way.to}."
            " --with-database takes it back there."
        )

    def _choose(self, environment: Environment, to: str) -> Marker:
        markers, running = self._releases(environment)
        if to:
            found = [m for m in markers if _is_meant(m, to)]
        else:
            newest = release_number(running) or float("inf")
            found = [m for m in markers if m.proven_at and release_number(m.release) < newest]
        if not found:
            what = f"release {to!r}" if to else "an earlier release"
            names = ", ".join(m.release for m in markers) or "none"
            where = ", ".join(environment.hosts)
            message = f"cannot roll {environment.key} back: {what} is not on {where}"
            raise NotFound(message, f"Whole releases there: {names} (running: {running or 'none'})")
        return found[0]

    def _releases(self, environment: Environment) -> tuple[list[Marker], str]:
        """Whole releases, newest first, and the one that runs: on most of those hosts that answer.

        Raises:
            StepFailed: no host answers.
        """
        layout = Layout(environment.app_path)
        found: dict[str, Marker] = {}
        running: Counter[str] = Counter()
        failures: list[StepFailed] = []
        for name in environment.hosts:
            host = self._tools.host(environment.on(name))
            try:
                found |= {marker.release: marker for marker in whole_releases(host, layout)}
                running[running_release(host, layout)] += 1
            except StepFailed as failure:
                failures.append(failure)
        if not running:
            raise failures[0]
        newest_first = sorted(found.values(), key=lambda m: release_number(m.release), reverse=True)
        return newest_first, running.most_common(1)[0][0]


def way_of_release(store: Store, environment: Environment, marker: Marker | None) -> Return:
    """The way of an environment's database back to where it was when a release had been deployed."""
    noted: dict[str, list[DatabaseChange]] = {}
    for row in store.database_changes(environment.key):
        change = DatabaseChange(kind=Kind(row["kind"]), revision=row["revision"], detail=row["detail"])
        noted.setdefault(row["deployment_id"], []).append(change)
    history = [(deployment, story_of(changes)) for deployment, changes in noted.items()]
    return way_to(history, marker.deployment if marker else "")


def _is_meant(marker: Marker, to: str) -> bool:
    number = marker.release.partition("-")[0]
    return to in (marker.release, number) or (len(to) >= 7 and marker.commit.startswith(to))
