"""Collects what runs that systemd started tell of themselves, from each host, into the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fraisier.application.perform_run import dependents
from fraisier.application.read_reports import Reports
from fraisier.application.run_command import MOST_ARTEFACTS, listing, paths_in
from fraisier.deployers.timer_units import kept_jobs, service_of
from fraisier.domain.errors import FraisierError, LivesElsewhere, StoreUnavailable
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

    def __call__(self, environments: Iterable[Environment]) -> int:
        """Collect from all of them; how many reports are done with. A host that is away has to wait.

        Raises:
            StoreUnavailable: what was not stored is collected again.
        """
        done = 0
        for environment in environments:
            key = str(environment.key)
            if kept_jobs(environment):
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

    def _collect(self, environment: Environment, host: Host) -> int:
        begun = [row for row in self._store.active_runs(environment.key) if row["invocation"]]
        if not begun and not kept_jobs(environment):
            self._quiet.add(str(environment.key))
            return 0
        reports = Reports(environment, host, also={row["job"] for row in begun})
        names = reports.names()
        stored = {file_of(row["job"], row["invocation"]): row for row in begun}
        if not names and not stored:
            return 0
        # In this order: the report of what was stored as under way is there, or nobody will have it.
        under_way = reports.under_way()
        files = sorted(names, key=lambda file: _runs(environment, file, under_way))[:AT_ONCE]
        found = reports.read([*dict.fromkeys([*files, *stored])])
        for file in stored.keys() - found.keys():
            self._end_without(environment, stored[file], under_way)
        done = [file for file in files if self._store_one(environment, host, file, found, under_way)]
        if done:
            reports.remove(done)
        for file in done:
            self._told.pop(f"{environment.key}/{file}", None)
        return len(done)

    def _end_without(self, environment: Environment, row: Row, under_way: Mapping[str, str]) -> None:
        """End a run whose report is gone, once its unit has ended: nobody else would ever."""
        key, job = environment.key, row["job"]
        if under_way.get(service_of(key, job)) == invocation_in(row["invocation"]):
            return
        about = of_environment(key, row["host"], job, "")
        self._store.report_run(replace(about, invocation=row["invocation"], ending=lost()))

    def _store_one(
        self,
        environment: Environment,
        host: Host,
        file: str,
        found: Mapping[str, bytes],
        under_way: Mapping[str, str],
    ) -> bool:
        """Whether the report is needed no more."""
        job, invocation = name_of_run(file) or ("", "")
        runs = _runs(environment, file, under_way)
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
        for reported in self._runs(environment, host, report, job, invocation, runs=runs):
            self._store.report_run(reported)
        self._told[key] = found[file]
        return not runs

    def _is_followed(self, environment: Environment, job: str) -> bool:
        """Whether a worker follows the run that it had systemd start: then it is that worker's to tell."""
        rows = self._store.active_runs(environment.key)
        return any(row["job"] == job and not row["invocation"] for row in rows)

    def _runs(
        self, environment: Environment, host: Host, report: Report, job: str, invocation: str, *, runs: bool
    ) -> list[Reported]:
        about = of_environment(environment.key, host.name, job, invocation)
        made = runs_of(report, about, runs=runs)
        last = made[-1]
        if last.ending is not None:
            last = replace(last, output=self._printed(environment, host, job, invocation))
            if last.ending is not None and last.ending.status is RunStatus.success:
                artefacts = self._artefacts(environment, host, last)
                ending = replace(last.ending, then=dependents(environment, job), artefacts=artefacts)
                last = replace(last, ending=ending)
        return [*made[:-1], last]

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

    def _printed(self, environment: Environment, host: Host, job: str, invocation: str) -> str:
        content = host.read(environment.env_file) if environment.env_file else None
        redactor = Redactor(self._codec.secrets(environment, content))
        return redactor.text(Reports(environment, host).printed(job, invocation))


def _runs(environment: Environment, file: str, under_way: Mapping[str, str]) -> bool:
    """Whether the run of this report is under way."""
    job, invocation = name_of_run(file) or ("", "")
    return under_way.get(service_of(environment.key, job)) == invocation
