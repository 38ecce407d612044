"""Asks for the way back to an earlier release, as a deployment of its own that goes first."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.application.find_holds import FindHolds
from fraisier.application.ports import Requested, Store
from fraisier.application.release_marker import Marker, running_release, whole_releases
from fraisier.application.request_deployment import find_environment
from fraisier.application.tools import Tools
from fraisier.domain.deployment import Trigger, Wish
from fraisier.domain.errors import NotFound
from fraisier.domain.fraise import Environment, EnvironmentKey
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

    def __call__(self, key: EnvironmentKey, *, to: str = "", by: str) -> Requested:
        """Go back to release `to` (its name, number or commit), or to the good one before the running one.

        Raises:
            NotFound: no such environment or release, or nothing to go back to.
        """
        environment = find_environment(self._environments, key)
        marker = self._choose(environment, to)
        wish = Wish(
            environment=key,
            ref=marker.ref,
            commit=marker.commit,
            release=marker.release,
            trigger=Trigger.rollback,
            requested_by=by,
            instead_of=self._holds.held_in(key),
        )
        return self._store.request(wish)

    def _choose(self, environment: Environment, to: str) -> Marker:
        host, layout = self._tools.host(environment), Layout(environment.app_path)
        markers = whole_releases(host, layout)
        running = running_release(host, layout)
        if to:
            found = [m for m in markers if _is_meant(m, to)]
        else:
            newest = release_number(running) or float("inf")
            found = [m for m in markers if m.proven_at and release_number(m.release) < newest]
        if not found:
            what = f"release {to!r}" if to else "an earlier release"
            names = ", ".join(m.release for m in markers) or "none"
            message = f"cannot roll {environment.key} back: {what} is not on {host.name}"
            raise NotFound(message, f"Whole releases there: {names} (running: {running or 'none'})")
        return found[0]


def _is_meant(marker: Marker, to: str) -> bool:
    number = marker.release.partition("-")[0]
    return to in (marker.release, number) or (len(to) >= 7 and marker.commit.startswith(to))
