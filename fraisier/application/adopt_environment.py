"""Takes an environment's folder over from another owner, because a person says so."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.application.ports import Store
from fraisier.application.request_deployment import find_environment
from fraisier.application.takeover import ground_of
from fraisier.application.tools import Tools
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.release import Layout


class AdoptEnvironment:
    """Makes this installation the owner of an environment's folder on its host.

    The database's token is raised above the host's first, so that whoever owned the folder before is
    outdated there from now on, and every later claim of ours is not.
    """

    def __init__(
        self, environments: Mapping[EnvironmentKey, Environment], tools: Tools, store: Store
    ) -> None:
        self._environments = environments
        self._tools = tools
        self._store = store

    def __call__(self, key: EnvironmentKey, *, by: str) -> None:
        """Take over; what the other owner still runs there is ended before this returns.

        Raises:
            NotFound: no such environment.
            Conflict: one of our own workers is deploying to it.
        """
        environment = find_environment(self._environments, key)
        host = self._tools.host(environment)
        found = host.read(Layout(environment.app_path).own + "/token") or b"0"
        above = int(found) if found.strip().isdigit() else 0
        token = self._store.raise_token(key, above=above, by=by)
        host.adopt(ground_of(self._store, environment, token), force=True)
