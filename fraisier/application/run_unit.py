"""Performs a run that a person asked for, of a job whose schedule systemd keeps: by its unit.

So no two runs of the job meet, and each has the unit's limits. What the unit does by itself, tries and hooks,
is not done again here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from fraisier.application import units_program
from fraisier.application.ports import Desk
from fraisier.application.read_reports import Reports
from fraisier.application.run_command import artefacts, run_command
from fraisier.deployers.scheduled import install
from fraisier.deployers.timer_units import service_of
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.job import Job, Keeper
from fraisier.domain.release import Layout
from fraisier.domain.report import INVOCATION, of_environment, read_report, runs_of
from fraisier.domain.run import RunEnding, RunStatus

_LOOK = 1.0  # seconds between two looks at the unit
_END = 90.0  # seconds that it has to end when it was told to


def is_units(job: Job, parameters: Mapping[str, str]) -> bool:
    """Whether a run of the job is its unit's: nobody can give that other parameters."""
    defaults = {name: value or "" for name, value in job.parameters.items()}
    return job.keeper is Keeper.systemd and dict(parameters) in ({}, defaults)


def without_what_units_do(environment: Environment, name: str, *, was_cut_off: bool = False) -> Environment:
    """The environment as whoever follows a unit has to see it. One that was cut off ran no hook."""
    job = replace(environment.jobs[name], retries=0)
    if not was_cut_off:
        job = replace(job, on_success=(), on_failure=())
    return replace(environment, jobs={**environment.jobs, name: job})


def run_command_or_unit(desk: Desk) -> RunEnding:
    """Run the job's line, or have systemd do so.

    Raises:
        StepFailed: run, where its unit is under way; as `run_command`.
    """
    if desk.job.keeper is not Keeper.systemd:
        return run_command(desk)
    if is_units(desk.job, desk.claim.parameters):
        return _Unit(desk).run()
    if _Unit(desk).invocation_now():
        message = f"cannot run {desk.job.name!r} of {desk.environment.key}: its timer has started it"
        raise StepFailed(Cause.run, message, "Wait until it has ended: fraisier runs")
    return run_command(desk)


class _Unit:
    """The service of one job."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._name = service_of(desk.environment.key, desk.job.name)
        self._row = install(desk.environment, "")
        self._reports = Reports(desk.environment, desk.host)
        self._shown = 0

    def invocation_now(self) -> str:
        """That of its run that is under way; '' if there is none."""
        return self._reports.under_way().get(self._name, "")

    def run(self) -> RunEnding:
        """Start it, and follow it to its end."""
        began = self._call("start").strip().splitlines()
        invocation = began[-1] if began else ""
        if not INVOCATION.match(invocation):
            raise StepFailed(Cause.host, f"cannot follow {self._name}: systemd did not say which run it is")
        self._desk.say(f"systemd started {self._name}")
        try:
            while self.invocation_now() == invocation:
                self._show(invocation)
                self._desk.wait(_LOOK)
        except StepFailed as stopped:
            if stopped.cause is Cause.cancelled and not self._desk.is_let_go:
                self._stop(invocation)
            raise
        self._show(invocation)
        return self._ending(invocation)

    def _stop(self, invocation: str) -> None:
        self._call("stop")
        until = time.monotonic() + _END
        while self.invocation_now() == invocation and time.monotonic() < until:
            time.sleep(_LOOK / 4)
        self._show(invocation)
        self._reports.remove([self._file(invocation)])

    def _ending(self, invocation: str) -> RunEnding:
        file, desk = self._file(invocation), self._desk
        read = self._reports.read([file]).get(file, b"")
        report = read_report(read, now=time.time())
        if report is None:
            error = f"cannot say how {self._name} ended: it left no report. See its journal"
            return RunEnding(status=RunStatus.failed, cause=Cause.host, error=error)
        about = of_environment(desk.environment.key, desk.host.name, desk.job.name, invocation)
        tries = runs_of(report, about, runs=False)
        ending = tries[-1].ending
        assert ending is not None  # noqa: S101 - of what is not under way
        found: tuple[str, ...] = ()
        if ending.status is RunStatus.success:
            folder = Layout(desk.environment.app_path).release(tries[-1].release or desk.claim.release)
            found = artefacts(desk, folder, time.time() - tries[-1].started_at)
        self._reports.remove([file])  # as late as can be: where we die before, it is collected, and told
        return replace(ending, artefacts=found, detail={"unit": self._name, "tries": len(tries)})

    def _file(self, invocation: str) -> str:
        return f"{self._desk.job.name}.{invocation}"

    def _show(self, invocation: str) -> None:
        """What it has printed since, from the journal."""
        lines = self._reports.printed(self._desk.job.name, invocation).splitlines()
        if len(lines) < self._shown:  # the beginning is gone from what is read of it
            self._shown = 0
        for line in lines[self._shown :]:
            self._desk.say(line)
        self._shown = len(lines)

    def _call(self, verb: str) -> str:
        with self._desk.guard():
            words = units_program.call(verb, self._row, self._name)
            done = self._desk.host.act(words, timeout=units_program.PATIENCE)
        if done.code != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.code}"]
            why = said[-1].removeprefix("cannot ")
            message = f"cannot {verb} {self._name} on {self._desk.host.name}: {why}"
            raise StepFailed(Cause.run, message, units_program.hint(self._row.name))
        return done.stdout.decode("utf-8", "replace")
