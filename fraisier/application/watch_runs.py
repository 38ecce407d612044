"""The heartbeat of jobs: an alert where a run failed, came late or never came; the next good one ends it.

What is told is told of what is in the database, so that it does not matter who performed a run, who died, and
who looks: runs of Fraisier's workers, and those that systemd's timers began and hosts reported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fraisier.application.plan_runs import ON_TIME, JobKey, is_kept_by_systemd, key_of
from fraisier.application.ports import Clock, Configuration, Listener, Newest, Row, Store
from fraisier.deployers.timer_units import patience
from fraisier.domain.errors import NotFound
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import Job
from fraisier.domain.run import Alert, AlertKind, RunTrigger, RunWish
from fraisier.domain.schedule import Times, last_until, newest_until, times_of

REPORTS_TAKE = 30.0  # seconds until a host's report of a run is collected
PATIENCE = 60.0  # seconds that whoever begins to watch waits for the reports that lie on hosts
OURS = (AlertKind.missed, AlertKind.late, AlertKind.failed)


@dataclass(slots=True)
class _Watched:
    """A job. `times` are those of its schedule; `seen` is what its alerts were last decided on.

    `judged`: for jobs of systemd, up to when it is known what became of each time. `look_at` is when a run
    that waits will have waited for too long.
    """

    environment: Environment
    job: Job
    times: Times | None
    seen: Newest = field(default_factory=Newest)
    judged: float = 0.0
    look_at: float = 0.0

    @property
    def key(self) -> JobKey:
        return key_of(self.environment.key, self.job.name)

    @property
    def allowance(self) -> float:
        """Seconds after its due time in which a run may begin."""
        schedule = self.job.schedule
        return max(schedule.grace, ON_TIME if is_kept_by_systemd(self.job) else 1.0) if schedule else 0.0

    @property
    def heard_within(self) -> float:
        """Seconds after which a host has told of a run that was to begin."""
        schedule = self.job.schedule
        return self.allowance + (schedule.jitter if schedule else 0.0) + REPORTS_TAKE


class WatchRuns:
    """Call it again and again. For one thread, of one worker of all."""

    def __init__(self, store: Store, clock: Clock, listener: Listener) -> None:
        self._store, self._clock, self._listener = store, clock, listener
        self._configuration: Configuration | None = None
        self._jobs: dict[JobKey, _Watched] = {}
        self._begun_at = 0.0

    def __call__(self, configuration: Configuration) -> None:
        """Raise what is to be raised, and end what is over.

        Raises:
            StoreUnavailable: the next look does the same.
        """
        now = self._clock.now()
        if configuration is not self._configuration:
            self._begin(configuration, now)
        newest = self._store.newest_runs()
        if now - self._begun_at >= PATIENCE and self._judge_timers(newest, now):
            newest = self._store.newest_runs()
        standing = {_key_of_alert(row): row for row in self._store.alerts() if row["kind"] in OURS}
        for key, watched in self._jobs.items():
            found = newest.get(key, Newest())
            if found != watched.seen or 0 < watched.look_at <= now:
                self._look(watched, found, standing, now)
                watched.seen = found
        self._end_what_is_gone(standing)

    def forget(self) -> None:
        """Somebody else watches."""
        self._configuration = None

    def _begin(self, configuration: Configuration, now: float) -> None:
        known = self._store.planned_until(list(configuration.environments))
        self._configuration, self._begun_at = configuration, now
        self._jobs = {}
        for environment in configuration.environments.values():
            for job in environment.jobs.values():
                times = times_of(job.schedule, job.keeper) if job.schedule else None
                watched = _Watched(environment, job, times)
                watched.judged = min(now, known.get(watched.key, now))
                self._jobs[watched.key] = watched
        # Whoever is not planned is not among the newest runs.
        self._store.note_planned({key: each.judged for key, each in self._jobs.items() if key not in known})

    # ------------------------------------------------------------------------------------- timers
    def _judge_timers(self, newest: Mapping[JobKey, Newest], now: float) -> bool:
        """Note as missed what systemd was to begin and nobody heard of; whether there was any."""
        late = {watched.key: due for watched in self._jobs.values() if (due := _overdue(watched, now))}
        if not late:
            return False
        deployed = {(row["fraise_id"], row["environment"]): row for row in self._store.fraise_status()}
        begun = self._store.runs_at({newest[key].begun for key in late if key in newest} - {0})
        judged = {}
        for key, due in late.items():
            watched, place = self._jobs[key], deployed.get(key[:2])
            run = begun.get(newest.get(key, Newest()).begun)
            has_begun = run is not None and _unix(run["started_at"]) >= due - 1
            if run is not None and not has_begun and _holds_up(watched, run, due, now):
                continue
            was_there = (
                place is not None and place["current_release"] and _unix(place["last_deployed"]) <= due
            )
            if was_there and not has_begun:
                self._note_missed(watched, due)
            watched.judged = judged[key] = due
        self._store.note_planned(judged)
        return bool(judged)

    def _note_missed(self, watched: _Watched, due: float) -> None:
        environment = watched.environment
        wish = RunWish(
            environment=environment.key,
            job=watched.job.name,
            trigger=RunTrigger.scheduled,
            due=due,
            concurrency=watched.job.concurrency,
        )
        try:
            self._store.note_missed(
                wish, why=f"{environment.hosts[0]} has not told of a run since it was due"
            )
        except NotFound:  # published no more
            return

    # ------------------------------------------------------------------------------------- alerts
    def _look(
        self, watched: _Watched, newest: Newest, standing: Mapping[tuple[str, str, str, str], Row], now: float
    ) -> None:
        rows = self._store.runs_at({newest.success, newest.failed, newest.missed, newest.waiting} - {0})
        wanted = [
            alert
            for alert in (
                _failed(watched, newest, rows),
                _missed(watched, newest, rows),
                self._waiting(watched, rows.get(newest.waiting), now),
                _late(watched, newest, rows),
            )
            if alert is not None
        ]
        for alert in wanted:
            if (*watched.key, alert.kind.value) not in standing and not self._was_ended(alert):
                self._raise(alert)
        if newest.success and newest.success == max(newest.success, newest.failed, newest.missed):
            over = {kind for kind in OURS if (*watched.key, kind.value) in standing}
            self._clear(watched.key, over - {alert.kind for alert in wanted}, by="the next good run")

    def _waiting(self, watched: _Watched, row: Row | None, now: float) -> Alert | None:
        """A run that should have begun. Sets when to look again."""
        watched.look_at = 0.0
        if row is None or row["due"] is None or row["attempt"] > 1:
            return None
        at = max(_unix(row["due"]), _unix(row["not_before"])) + watched.allowance
        if now < at:
            watched.look_at = at
            return None
        message = f"{watched.job.name} was due at {row['due']} and has not begun"
        hint = "See with `fraisier doctor` whether a worker may take it, in `fraisier runs` what is before it"
        return _alert(watched, AlertKind.missed, message, hint, row)

    def _was_ended(self, alert: Alert) -> bool:
        """Whether somebody has seen to just this: it is not told twice."""
        key = alert.environment
        before = self._store.alerts(key.fraise, key.environment, standing=False)
        return any(
            row["run_id"] == alert.run and (row["job"], row["kind"]) == (alert.job, alert.kind)
            for row in before
        )

    def _raise(self, alert: Alert) -> None:
        try:
            is_new = self._store.raise_alert(alert)
        except NotFound:  # published no more
            return
        if is_new:
            told = {"environment": str(alert.environment), "job": alert.job, "kind": alert.kind.value}
            self._listener("alert_raised", {**told, "message": alert.message, "run": alert.run})

    def _clear(self, key: JobKey, kinds: Collection[AlertKind], *, by: str) -> None:
        if not kinds:
            return
        for row in self._store.clear_alert(EnvironmentKey(key[0], key[1]), key[2], sorted(kinds), by=by):
            told = {"environment": f"{key[0]}/{key[1]}", "job": key[2], "kind": row["kind"]}
            self._listener("alert_cleared", {**told, "by": by, "run": row["run_id"]})

    def _end_what_is_gone(self, standing: Mapping[tuple[str, str, str, str], Row]) -> None:
        for fraise, environment, job, kind in standing:
            if (fraise, environment, job) not in self._jobs:
                self._clear(
                    (fraise, environment, job), {AlertKind(kind)}, by="the configuration has no such job"
                )


def _key_of_alert(row: Row) -> tuple[str, str, str, str]:
    return row["fraise_id"], row["environment"], row["job"], row["kind"]


def _overdue(watched: _Watched, now: float) -> float | None:
    """The newest time that a timer should have kept by now, and that nobody has looked at."""
    schedule = watched.job.schedule
    if schedule is None or watched.times is None or not is_kept_by_systemd(watched.job):
        return None
    until = now - watched.heard_within
    following = watched.times.after(watched.judged)
    if following is None or following > until:
        return None
    return newest_until(watched.times, following, until)[0]


def _holds_up(watched: _Watched, run: Row, due: float, now: float) -> bool:
    """Whether systemd could not begin what was due, as a run was under way: it does once that has ended.

    No run is under way for longer than its unit lets it, whatever its host has not told.
    """
    over = run["ended_at"]
    until = _unix(over) if over else _unix(run["started_at"]) + patience(watched.job)
    return until > due and now < until + watched.heard_within


def _failed(watched: _Watched, newest: Newest, rows: Mapping[int, Row]) -> Alert | None:
    row = rows.get(newest.failed)
    if row is None or newest.failed < max(newest.success, newest.retry):
        return None
    tries = f" after {row['attempt']} tries" if row["attempt"] > 1 else ""
    message = f"{watched.job.name} failed{tries}: {row['error_message'] or 'it does not say why'}"
    return _alert(
        watched, AlertKind.failed, message, f"See what it printed: `fraisier logs {row['id'][:8]}`", row
    )


def _missed(watched: _Watched, newest: Newest, rows: Mapping[int, Row]) -> Alert | None:
    row = rows.get(newest.missed)
    if row is None or newest.missed < newest.success:
        return None
    message = f"{watched.job.name} was due at {row['due']} and never began: {row['error_message']}"
    key = watched.environment.key
    hint = f"`fraisier run {key.fraise} {key.environment}` makes up for it"
    return _alert(watched, AlertKind.missed, message, hint, row)


def _late(watched: _Watched, newest: Newest, rows: Mapping[int, Row]) -> Alert | None:
    row = rows.get(newest.success)
    if row is None or newest.success < max(newest.failed, newest.missed) or row["attempt"] > 1:
        return None
    started, due = _unix(row["started_at"]), _due_of(watched, row)
    if due is None or started - due <= watched.allowance:
        return None
    message = f"{watched.job.name} began {started - due:.0f} s after it was due"
    hint = "See with `fraisier doctor` whether workers and hosts were there, and whether its `grace` is right"
    return _alert(watched, AlertKind.late, message, hint, row)


def _due_of(watched: _Watched, row: Row) -> float | None:
    """When a run should have begun; None: by no schedule."""
    if row["due"] is not None:
        return max(_unix(row["due"]), _unix(row["not_before"]))
    schedule, times = watched.job.schedule, watched.times
    if row["trigger"] != RunTrigger.scheduled or schedule is None or times is None:
        return None
    due = last_until(times, _unix(row["started_at"]) + 1)
    return None if due is None else due + schedule.jitter


def _alert(watched: _Watched, kind: AlertKind, message: str, hint: str, row: Row) -> Alert:
    return Alert(
        environment=watched.environment.key,
        job=watched.job.name,
        kind=kind,
        message=message,
        hint=hint,
        run=row["id"],
    )


def _unix(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
