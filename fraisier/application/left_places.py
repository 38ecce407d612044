"""Where systemd was to keep schedules of environments that are no longer there, or are there otherwise.

Every attempt was stored with the environment that it was made with. So it is known where units may be of what
has left the configuration, moved to another host or folder, or changed its type.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fraisier.application.ports import Configuration, EnvironmentCodec, Store
from fraisier.deployers.scheduled import may_have_units
from fraisier.deployers.timer_units import kept_jobs
from fraisier.domain.errors import UsageError
from fraisier.domain.fraise import Environment, EnvironmentKey

Place = tuple[EnvironmentKey, str, str]  # environment, host, app_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """An environment as it was deployed once, with the jobs that systemd ran, and without its secrets.

    `why` its units should not be there any more; '' while they belong to what was deployed last, or are
    another folder's by now: then only reports of its runs are of interest.
    """

    environment: Environment
    why: str = ""

    @property
    def place(self) -> Place:
        """Where it was."""
        return self.environment.key, self.environment.hosts[0], self.environment.app_path


class LeftPlaces:
    """Call it again and again: it reads what is new since."""

    def __init__(self, store: Store, codec: EnvironmentCodec) -> None:
        self._store, self._codec = store, codec
        self._position = 0
        self._places: dict[Place, Environment] = {}
        self._jobs: dict[EnvironmentKey, frozenset[str]] = {}

    def __call__(self, configuration: Configuration) -> list[Left]:
        """Every place that is not as the configuration has it."""
        self.learn()
        return [left for each in self._places.values() if (left := self._left(each, configuration))]

    def jobs(self, key: EnvironmentKey) -> frozenset[str]:
        """Names of all jobs that systemd was ever given."""
        return self._jobs.get(key, frozenset())

    def learn(self) -> None:
        """Read what is new."""
        for row in self._store.resolved_since(self._position):
            self._position = row["attempt_pk"]
            environment = self._loaded(row["resolved"])
            if environment is None:
                continue
            jobs = {job.name: replace(job, artefacts=()) for job in kept_jobs(environment)}
            if jobs:
                left = Left(environment=replace(environment, jobs=jobs, env={}))
                self._places[left.place] = left.environment
                self._jobs[environment.key] = self.jobs(environment.key) | jobs.keys()

    def _loaded(self, text: str) -> Environment | None:
        """None: another version wrote it, or there is nothing."""
        try:
            return self._codec.load_place(text) if text else None
        except UsageError:
            return None

    def _left(self, place: Environment, configuration: Configuration) -> Left | None:
        now = configuration.environments.get(place.key)
        if now is None:
            # Another process may have read a newer file than ours, and have deployed by it.
            is_published = bool(self._store.fraise_status(place.fraise, place.name))
            return None if is_published else Left(environment=place, why="which has left the configuration")
        here = _stays(place, now)
        if all(here):
            return Left(environment=place) if place.app_path != now.app_path else None
        there = self._stays(place)
        gone = [why for why, *stays in zip(_reasons(now), here, there, strict=True) if not any(stays)]
        return Left(environment=place, why=gone[0] if gone else "")

    def _stays(self, place: Environment) -> tuple[bool, bool]:
        """By what was deployed last: until then a change of the configuration is only a wish."""
        rows = self._store.fraise_status(place.fraise, place.name)
        deployment = rows[0]["current_deployment_id"] if rows else None
        deployed = self._loaded(self._store.resolved(deployment)) if deployment else None
        return (True, True) if deployed is None else _stays(place, deployed)


def _stays(place: Environment, now: Environment) -> tuple[bool, bool]:
    return place.hosts[0] in now.hosts, may_have_units(now)


def _reasons(now: Environment) -> tuple[str, str]:
    return f"which is deployed to {', '.join(now.hosts)} now", f"which is of type {now.type.value} now"
