"""Collects what runs that systemd started tell of themselves, from each host, into the history."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from fraisier.application.check_timers import units_of_before
from fraisier.application.left_places import LeftPlaces
from fraisier.application.perform_run import dependents
from fraisier.application.read_reports import Reports
from fraisier.application.run_command import MOST_ARTEFACTS, listing, paths_in
from fraisier.deployers.scheduled import may_have_units
from fraisier.deployers.timer_units import kept_jobs, patience, service_of
from fraisier.domain.errors import Cause, FraisierError, LivesElsewhere, StoreUnavailable
from fraisier.domain.release import Layout
from fraisier.domain.report import (
    Report,
    file_of,
    invocation_in,
    lost,
    name_of_run,
    of_environment,
    read_report,
    runs_of,
)
from fraisier.domain.run import Reported, RunStatus, RunTrigger
from fraisier.domain.secret import Redactor

if TYPE_CHECKING:
    from fraisier.application.ports import EnvironmentCodec, Host, Listener, Row, Store
    from fraisier.application.tools import Tools
    from fraisier.domain.fraise import Environment

_LISTING = 10.0  # seconds
AT_ONCE = 50  # reports of one environment in one go
TIDY_EVERY = 3600.0  # seconds between two looks for reports that are nobody's
_LONG_AGO = 86400.0  # seconds behind a run's latest end, by when its host would have told


class CollectReports:
    """Any number of workers may: a report says of what it is, so one that is told twice is stored once.

    A report is removed only after it was stored, so that none is lost with whoever collects it.
    """

    def __init__(self, tools: Tools, store: Store, codec: EnvironmentCodec, listener: Listener) -> None:
        self._tools = tools
        self._store = store
        self._codec = codec
        self._listener = listener
        self._told: dict[str, bytes] = {}  # what was stored of those that are under way
        self._away: set[str] = set()  # environments whose hosts did not answer, as was told
        self._quiet: set[str] = set()  # those of which systemd starts nothing, nor runs what it had started
        self._places = LeftPlaces(store, codec)
        self._known: dict[str, tuple[Environment, Collection[str]]] = {}  # and the jobs that it had before
        self._tidied: dict[str, float] = {}

    def __call__(self, environments: Iterable[Environment]) -> int:
        """Collect from all of them; how many reports are done with. A host that is away has to wait.

        Raises:
            StoreUnavailable: what was not stored is collected again.
        """
        done = 0
        self._places.learn()
        for environment in environments:
            key = str(environment.key)
            if kept_jobs(environment) or self._is_new(environment):
                self._quiet.discard(key)
            elif key in self._quiet:
                continue
            try:
                done += self._collect(environment, self._tools.host(environment))
                self._away.discard(key)
            except LivesElsewhere:
                continue
            except StoreUnavailable:
                raise
            except (FraisierError, OSError) as error:
                if key not in self._away:
                    self._listener("reports_not_collected", {"environment": key, "error": str(error)})
                self._away.add(key)
        return done

    def of_left(self, place: Environment, host: Host, *, only_reports: bool) -> bool:
        """Collect where an environment is no longer, or is otherwise; whether there is more to come.

        `only_reports`: of what is under way on the host somebody else says when it has ended. What its runs
        printed is not shown: the secrets that it is to be cleared of left with the configuration.

        Raises:
            StepFailed: the host cannot be asked.
            StoreUnavailable: what was not stored is collected again.
        """
        begun = [] if only_reports else self._begun(place, host)
        reports = Reports(place, host, also={row["job"] for row in begun})
        names = reports.names()
        if names or begun:
            self._store_all(place, reports, names, begun, shows=False)
        return bool(names or begun)

    def give_up(self, place: Environment) -> None:
        """End the runs of a host that nobody could ask for longer than they may have taken."""
        now = self._tools.clock.now()
        for row in self._store.active_runs(place.key):
            job = place.jobs.get(row["job"])
            if row["invocation"] and row["host"] == place.hosts[0] and job is not None:
                began = datetime.fromisoformat(row["started_at"]).timestamp()
                if now > began + patience(job) + _LONG_AGO:
                    self._end(place, row)

    def _is_new(self, environment: Environment) -> bool:
        """Whether its jobs may be others than at the last look: by the configuration, or by a deployment."""
        known = (environment, self._places.jobs(environment.key))
        found = self._known.get(str(environment.key))
        self._known[str(environment.key)] = known
        return found is None or found[0] is not environment or found[1] != known[1]

    def _begun(self, environment: Environment, host: Host) -> list[Row]:
        """What the host was to perform, as far as is known."""
        rows = self._store.active_runs(environment.key)
        return [row for row in rows if row["invocation"] and row["host"] == host.name]

    def _collect(self, environment: Environment, host: Host) -> int:
        key, begun = str(environment.key), self._begun(environment, host)
        if not begun and not may_have_units(environment):
            self._quiet.add(key)
            return 0
        before = self._places.jobs(environment.key)
        reports = Reports(environment, host, also={*before, *(row["job"] for row in begun)})
        self._tidy(key, reports)
        names = reports.names()
        if names or begun:
            return self._store_all(environment, reports, names, begun)
        if not kept_jobs(environment) and not any(units_of_before(environment.key, host)):
            self._quiet.add(key)
        return 0

    def _tidy(self, key: str, reports: Reports) -> None:
        """Remove what no job that we know of has reported, before it is without end."""
        now = self._tools.clock.monotonic()
        if now < self._tidied.get(key, now):
            return
        self._tidied[key] = now + TIDY_EVERY
        if removed := reports.remove_strangers():
            self._listener("reports_removed", {"environment": key, "reports": removed})

    def _store_all(
        self,
        environment: Environment,
        reports: Reports,
        names: Sequence[str],
        begun: Sequence[Row],
        *,
        shows: bool = True,
    ) -> int:
        """How many of the reports are done with."""
        stored = {file_of(row["job"], row["invocation"]): row for row in begun}
        # In this order: the report of what was stored as under way is there, or nobody will have it.
        under_way = reports.under_way()
        files = sorted(names, key=lambda file: _runs(environment, file, under_way))[:AT_ONCE]
        found = reports.read([*dict.fromkeys([*files, *stored])])
        for file in stored.keys() - found.keys():
            self._end_without(environment, stored[file], under_way)
        told = _Told(reports, found, under_way, shows=shows)
        done = [file for file in files if self._store_one(environment, file, told)]
        if done:
            reports.remove(done)
        for file in done:
            self._told.pop(f"{environment.key}/{file}", None)
        return len(done)

    def _end_without(self, environment: Environment, row: Row, under_way: Mapping[str, str]) -> None:
        """End a run whose report is gone, once its unit has ended: nobody else would ever."""
        unit = service_of(environment.key, row["job"])
        if under_way.get(unit) != invocation_in(row["invocation"]):
            self._end(environment, row)

    def _end(self, environment: Environment, row: Row) -> None:
        about = of_environment(environment.key, row["host"], row["job"], "")
        ended = replace(about, invocation=row["invocation"], ending=lost())
        self._store.report_run(_or_left(environment, ended))

    def _store_one(self, environment: Environment, file: str, told: _Told) -> bool:
        """Whether the report is needed no more."""
        job, found = (name_of_run(file) or ("", ""))[0], told.found
        runs = _runs(environment, file, told.under_way)
        report = read_report(found.get(file, b""), now=self._tools.clock.now())
        if report is None:
            if not runs:
                self._listener("report_not_understood", {"environment": str(environment.key), "file": file})
            return not runs
        key = f"{environment.key}/{file}"
        if runs and self._told.get(key) == found[file]:
            return False
        if report.trigger is RunTrigger.manual and self._is_followed(environment, job):
            return False
        for reported in self._runs(environment, report, file, told, runs=runs):
            self._store.report_run(reported)
        self._told[key] = found[file]
        return not runs

    def _is_followed(self, environment: Environment, job: str) -> bool:
        """Whether a worker follows the run that it had systemd start: then it is that worker's to tell."""
        rows = self._store.active_runs(environment.key)
        return any(row["job"] == job and not row["invocation"] for row in rows)

    def _runs(
        self, environment: Environment, report: Report, file: str, told: _Told, *, runs: bool
    ) -> list[Reported]:
        job, invocation = name_of_run(file) or ("", "")
        host = told.reports.host
        made = runs_of(report, of_environment(environment.key, host.name, job, invocation), runs=runs)
        last = made[-1]
        if last.ending is not None:
            last = replace(last, output=self._printed(environment, told, job, invocation))
            if last.ending is not None and last.ending.status is RunStatus.success:
                artefacts = self._artefacts(environment, host, last)
                ending = replace(last.ending, then=dependents(environment, job), artefacts=artefacts)
                last = replace(last, ending=ending)
        return [*made[:-1], _or_left(environment, last)]

    def _artefacts(self, environment: Environment, host: Host, run: Reported) -> tuple[str, ...]:
        """Files that it has made, as far as its release is there and nobody has to wait for long."""
        job = environment.jobs.get(run.job)
        if job is None or not job.artefacts or not run.release:
            return ()
        folder = Layout(environment.app_path).release(run.release)
        command = listing(job, folder, max(0.0, self._tools.clock.now() - run.started_at))
        try:
            said = host.ask(replace(command, user=environment.user, timeout=_LISTING))
        except FraisierError:
            return ()
        return paths_in(said.stdout, folder)[:MOST_ARTEFACTS]

    def _printed(self, environment: Environment, told: _Told, job: str, invocation: str) -> str:
        host = told.reports.host
        if not told.shows:
            return f"See on {host.name}: journalctl _SYSTEMD_INVOCATION_ID={invocation}\n"
        content = host.read(environment.env_file) if environment.env_file else None
        redactor = Redactor(self._codec.secrets(environment, content))
        return redactor.text(told.reports.printed(job, invocation))


@dataclass(frozen=True, slots=True)
class _Told:
    """What a host told of an environment's runs; whether what they printed may be shown."""

    reports: Reports
    found: Mapping[str, bytes]
    under_way: Mapping[str, str]
    shows: bool = field(kw_only=True)


def _or_left(environment: Environment, run: Reported) -> Reported:
    """A unit runs its hooks itself; where it was cut off, as by a power cut, the worker that ends the run."""
    job = environment.jobs.get(run.job)
    if job is None or not job.on_failure or run.ending is None or run.ending.cause is not Cause.interrupted:
        return run
    return replace(run, ending=None, left=True)


def _runs(environment: Environment, file: str, under_way: Mapping[str, str]) -> bool:
    """Whether the run of this report is under way."""
    job, invocation = name_of_run(file) or ("", "")
    return under_way.get(service_of(environment.key, job)) == invocation
