"""Looks whether hosts that could not be reached are back, and asks for what brings them along."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fraisier.domain.deployment import Trigger, Wish
from fraisier.domain.errors import FraisierError, LivesElsewhere, NotFound

if TYPE_CHECKING:
    from fraisier.application.ports import Configuration, Listener, Store
    from fraisier.application.tools import Tools
    from fraisier.domain.fraise import Environment, EnvironmentKey

FIRST = 5.0  # seconds until the first look
LONGEST = 300.0  # between two of them
BY = "fraisier"
_GLANCE = 0.05  # seconds between two looks at whether hosts have answered


class LookAfterHosts:
    """Every worker does so for the environments that it may take; whoever asks first is heard.

    What is done about a host that is back is a deployment with trigger `heal`: it goes through the
    environment's claim and token like any other, and its steps are journaled.
    """

    def __init__(self, tools: Tools, store: Store, listener: Listener, stop: threading.Event) -> None:
        self._stop = stop
        self._tools = tools
        self._store = store
        self._listener = listener
        self._looks: dict[tuple[EnvironmentKey, str], int] = {}
        self._next: dict[tuple[EnvironmentKey, str], float] = {}

    def __call__(self, configuration: Configuration) -> None:
        """Look at every host whose time has come; returns at once when the worker is to stop."""
        for environment in configuration.environments.values():
            if len(environment.hosts) > 1:
                self._look_after(environment)

    def _look_after(self, environment: Environment) -> None:
        key = environment.key
        ill = {
            each.host
            for each in self._store.standings(key)
            if each.is_healed_by_itself and each.host in environment.hosts
        }
        for place in [place for place in self._looks if place[0] == key and place[1] not in ill]:
            del self._looks[place], self._next[place]
        due = [host for host in sorted(ill) if self._is_due(key, host)]
        if due and (back := self._answering(environment, due)):
            self._ask(key, back)

    def _is_due(self, key: EnvironmentKey, host: str) -> bool:
        place, now = (key, host), self._tools.clock.monotonic()
        looks = self._looks.setdefault(place, 0)
        if self._next.setdefault(place, now + FIRST) > now:
            return False
        self._looks[place] = looks + 1
        self._next[place] = now + min(FIRST * 2 ** min(looks + 1, 10), LONGEST)
        return True

    def _answering(self, environment: Environment, hosts: Sequence[str]) -> list[str]:
        """Those of the hosts that answer. A connection that hangs must not keep the worker from ending."""
        found: list[str] = []

        def look(name: str) -> None:
            try:
                self._tools.host(environment.on(name)).kind(environment.app_path)
            except LivesElsewhere:
                return
            except (FraisierError, OSError) as error:
                told = {"environment": str(environment.key), "host": name, "error": str(error)}
                self._listener("host_unreachable", told)
                return
            found.append(name)

        for start in range(0, len(hosts), self._tools.at_once):
            looks = [
                threading.Thread(target=look, args=(name,), name=f"look-after-{name}", daemon=True)
                for name in hosts[start : start + self._tools.at_once]
            ]
            for each in looks:
                each.start()
            while any(each.is_alive() for each in looks) and not self._stop.wait(_GLANCE):
                pass
        return [] if self._stop.is_set() else sorted(found)

    def _ask(self, key: EnvironmentKey, hosts: Sequence[str]) -> None:
        try:
            asked = self._store.request(Wish(environment=key, ref="", trigger=Trigger.heal, requested_by=BY))
        except NotFound:
            return  # it has left the configuration since
        if asked.deployment is not None:
            told = {"environment": str(key), "hosts": list(hosts), "deployment": asked.deployment.id}
            self._listener("healing_requested", told)
