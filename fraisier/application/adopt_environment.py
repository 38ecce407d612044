"""Takes an environment's folder over from another owner, because a person says so."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.application.ports import Ground, Host, Store
from fraisier.application.request_deployment import find_environment
from fraisier.application.takeover import ground_of, owner_of
from fraisier.application.tools import Tools
from fraisier.domain.errors import StepFailed
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
            StepFailed: a host cannot be reached, or used; the others have been taken over.
        """
        environment = find_environment(self._environments, key)
        hosts = [self._tools.host(environment.on(name)) for name in environment.hosts]
        failures: list[StepFailed] = []
        tokens = {index: self._token_on(host, environment, failures) for index, host in enumerate(hosts)}
        if len(failures) == len(hosts):
            raise failures[0]
        above = max(token for token in tokens.values() if token is not None)
        token = self._store.raise_token(key, above=above, by=by)
        for index, host in enumerate(hosts):
            if tokens[index] is not None:
                try:
                    host.adopt(ground_of(self._store, environment, token), force=True)
                    self._adopt_slots(host, environment)
                except StepFailed as failure:
                    failures.append(failure)
        if failures:
            raise failures[0]

    def _adopt_slots(self, host: Host, environment: Environment) -> None:
        """Runs have grounds of their own; what runs there is ended, too."""
        jobs = Layout(environment.app_path).own + "/jobs"
        slots = {slot: f"{jobs}/{slot}" for slot in host.list(jobs)}
        found = (host.read(f"{Layout(path).own}/token") or b"" for path in slots.values())
        tokens = [int(text) for text in found if text.strip().isdigit()]
        if not tokens:
            return
        token = self._store.raise_run_token(environment.key, above=max(tokens))
        for slot, path in slots.items():
            owner = {**owner_of(self._store, environment), "job": slot.rpartition("-")[0]}
            host.adopt(Ground(app_path=path, owner=owner, token=token, fleeting=True), force=True)

    def _token_on(self, host: Host, environment: Environment, failures: list[StepFailed]) -> int | None:
        try:
            found = host.read(Layout(environment.app_path).own + "/token") or b"0"
        except StepFailed as failure:
            failures.append(failure)
            return None
        return int(found) if found.strip().isdigit() else 0
