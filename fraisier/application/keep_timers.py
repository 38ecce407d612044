"""Performs the acts about the units by which systemd keeps schedules."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from fraisier.application import units_program
from fraisier.application.check_timers import units_of_before
from fraisier.application.read_reports import Reports
from fraisier.application.stage import Scene, Stage
from fraisier.deployers.scheduled import install
from fraisier.deployers.timer_units import kept_jobs
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.timer_acts import InstallUnits, QuietUnits, RemoveUnits, WriteUnits

_LOOK = 0.5  # seconds between two looks at what runs


class KeepTimers:
    """The timers of one stage's environment, on its host."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @property
    def table(self) -> Mapping[type, Callable[[Any, Scene], None]]:
        """What it performs."""
        return {
            WriteUnits: self._write,
            InstallUnits: self._install,
            QuietUnits: self._quiet,
            RemoveUnits: self._remove,
        }

    def _write(self, act: WriteUnits, scene: Scene) -> None:
        host = self._stage.host
        with host.guard(self._stage.ground):
            host.make_folder(act.reports, user=act.user)
            host.make_folder(posixpath.dirname(act.destination), mode=0o700)
            host.write(act.destination, units_program.bundle(act), mode=0o600)
        scene.output.line(f"$ {act.describe()}")

    def _install(self, act: InstallUnits, scene: Scene) -> None:
        self._call("apply", act, act.describe(), scene)

    def _quiet(self, act: QuietUnits, scene: Scene) -> None:
        environment, host = self._stage.environment, self._stage.host
        if not kept_jobs(environment) and not any(units_of_before(environment.key, host)):
            return  # and there may be no systemd
        row = install(environment, "")
        self._call("pause", row, act.describe(), scene)
        reports = Reports(environment, host)
        if act.cancel:
            for unit in reports.under_way():
                self._call("stop", row, f"systemctl stop {unit}", scene, unit)
        told: set[str] = set()
        while running := reports.under_way():
            for unit in sorted(set(running) - told):
                scene.output.line(f"waiting for {unit}, which runs")
            told |= set(running)
            if scene.job.stop.wait(_LOOK):
                raise StepFailed(
                    Cause.cancelled, "cannot wait any longer for a run: the step was told to stop"
                )

    def _remove(self, act: RemoveUnits, scene: Scene) -> None:
        row = InstallUnits(name=act.name, source="", user="", app_path="")
        self._call("remove", row, act.describe(), scene)

    def _call(self, verb: str, row: InstallUnits, shown: str, scene: Scene, *words: str) -> None:
        stage = self._stage
        scene.output.line(f"$ {shown}")
        with stage.host.guard(stage.ground):
            done = stage.host.act(units_program.call(verb, row, *words), timeout=units_program.PATIENCE)
        scene.job.output(done.stdout + done.stderr)
        if done.code != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            why = said[-1].removeprefix("cannot ") if said else f"it exited with {done.code}"
            message = f"cannot have systemd on {stage.host.name} keep the schedules: cannot {why}"
            raise StepFailed(Cause.restart, message, units_program.hint(row.name))
