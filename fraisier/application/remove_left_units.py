"""Removes the units of environments that are no longer where they were deployed, and hears their last runs.

What runs is not ended: no further one begins, and its unit stays until it has ended by itself, with what its
job does then; it reports, and is in the history. Only what is certain is removed: units that say whose they
are, on a host where the folder is this installation's, still.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

from fraisier.application import units_program
from fraisier.application.check_timers import FOLDER, removal, units_written
from fraisier.application.collect_reports import CollectReports
from fraisier.application.left_places import Left, LeftPlaces, Place
from fraisier.application.ports import Configuration, EnvironmentCodec, Host, Listener, Store
from fraisier.application.read_reports import Reports
from fraisier.application.takeover import ground_of, owner_of
from fraisier.application.tools import Tools
from fraisier.deployers.scheduled import install
from fraisier.domain.errors import Cause, FraisierError, LivesElsewhere, StepFailed, StoreUnavailable
from fraisier.domain.fraise import Environment
from fraisier.domain.release import Layout

BY = "fraisier"
SOON = 5.0  # seconds between two looks at a host where something is under way
LATER = 3600.0  # seconds between two looks where there was nothing
_TOLD_AT = 2  # the look that fails and is told


@dataclass(slots=True)
class _Look:
    """When a place is looked at next, and the pause behind that where it cannot be."""

    at: float = 0.0
    pause: float = SOON
    failures: int = 0
    paused: bool = False  # its timers are stopped, and what runs is waited for


class RemoveLeftUnits:
    """Call it again and again. Any number of workers may: each removal has a token of its own."""

    def __init__(self, tools: Tools, store: Store, codec: EnvironmentCodec, listener: Listener) -> None:
        self._tools, self._store, self._listener = tools, store, listener
        self._places = LeftPlaces(store, codec)
        self._collect = CollectReports(tools, store, codec, listener)
        self._looks: dict[Place, _Look] = {}

    def __call__(self, configuration: Configuration, stop: Event) -> None:
        """Look at every place whose time has come; of hosts that do not answer at one at most after `stop`.

        Raises:
            StoreUnavailable: the next look does the same.
        """
        found = {left.place: left for left in self._places(configuration)}
        self._looks = {place: self._looks.get(place, _Look()) for place in found}
        present = {(each.key, each.hosts[0]) for each in configuration.environments.values()}
        for place, left in found.items():
            if self._looks[place].at <= self._tools.clock.monotonic() and not stop.is_set():
                self._look_at(left, only_reports=place[:2] in present)

    def _look_at(self, left: Left, *, only_reports: bool) -> None:
        look = self._looks[left.place]
        try:
            host = self._tools.host(left.environment)
            units = units_written(left.environment.key, host)
            stays = bool(units) and not (left.why and self._remove(left, host, units))
            more = self._collect.of_left(left.environment, host, only_reports=only_reports)
            look.pause, look.failures = (SOON if more or (stays and not only_reports) else LATER), 0
        except StoreUnavailable:
            raise
        except LivesElsewhere:
            look.pause = LATER
        except (FraisierError, OSError) as error:
            self._tell_again(left, look, error)
            look.pause = min(LATER, look.pause * 2)
            self._collect.give_up(left.environment)
        look.at = self._tools.clock.monotonic() + look.pause

    def _tell_again(self, left: Left, look: _Look, error: Exception) -> None:
        """Not the first time: another worker may have been quicker, or a deployment is under way."""
        look.failures += 1
        if look.failures == _TOLD_AT:
            key, host, _ = left.place
            told = {"environment": str(key), "host": host, "error": str(error)}
            self._listener("units_not_removed", told)

    def _remove(self, left: Left, host: Host, units: Sequence[str]) -> bool:
        """Under the lock and with a newer token than any deployment's, as a deployment does."""
        environment, store = left.environment, self._store
        if self._serves(environment, host, units):
            return False
        if _owner_on(host, environment) != owner_of(store, environment):
            message = (
                f"cannot remove units of {environment.key}: {environment.app_path} is not its own any more"
            )
            raise StepFailed(Cause.owner, message, removal(environment.key, units))
        look = self._looks[left.place]
        if Reports(environment, host).under_way():  # without its unit a run would lose what follows its end
            if not look.paused:
                self._call("pause", environment, host, units)
            look.paused = True
            return False
        self._call("remove", environment, host, units)
        told = {"host": host.name, "units": list(units), "why": left.why}
        store.audit(actor=BY, action="remove_units", subject=str(environment.key), detail=told)
        self._listener("units_removed", {"environment": str(environment.key), **told})
        return True

    def _call(self, verb: str, environment: Environment, host: Host, units: Sequence[str]) -> None:
        token = self._store.raise_token(environment.key, above=0, by=BY)
        ground = ground_of(self._store, environment, token)
        host.adopt(ground)
        with host.guard(ground):
            words = units_program.call(verb, install(environment, ""))
            done = host.act(words, timeout=units_program.PATIENCE)
        if done.code != 0:
            said = done.stderr.decode(errors="replace").strip() or f"it exited with {done.code}"
            message = f"cannot remove units of {environment.key}: {said.removeprefix('cannot ')}"
            raise StepFailed(Cause.host, message, removal(environment.key, units))

    def _serves(self, environment: Environment, host: Host, units: Sequence[str]) -> bool:
        """Whether they are those of the present release: its host is this one by another name."""
        rows = self._store.fraise_status(environment.fraise, environment.name)
        release = f'"FRAISIER_RELEASE={rows[0]["current_release"]}"'.encode() if rows else b'"'
        services = (each for each in units if each.endswith(".service"))
        return bool(rows) and any(release in (host.read(f"{FOLDER}/{each}") or b"") for each in services)


def _owner_on(host: Host, environment: Environment) -> object:
    try:
        return json.loads(host.read(f"{Layout(environment.app_path).own}/owner") or b"null")
    except ValueError:
        return None
