"""Calls a run off: one that waits, one that a worker performs, or one that systemd started."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.application import units_program
from fraisier.application.ports import Row, Store
from fraisier.application.read_reports import Reports
from fraisier.application.request_deployment import find_environment
from fraisier.application.tools import Tools
from fraisier.deployers.scheduled import install
from fraisier.deployers.timer_units import service_of
from fraisier.domain.errors import Cause, Conflict, StepFailed
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.report import invocation_in


class CancelRun:
    """Whoever performs it is told to end it; it has ended once that one says so."""

    def __init__(
        self, environments: Mapping[EnvironmentKey, Environment], tools: Tools, store: Store
    ) -> None:
        self._environments = environments
        self._tools = tools
        self._store = store

    def __call__(self, run: str, *, by: str) -> Row:
        """Cancel the run with this id; its row, which may say that it is under way still.

        Raises:
            NotFound: no such run, or its environment has left the configuration.
            Conflict: it has ended.
            StepFailed: its host cannot be told.
        """
        row = self._store.run(run)
        if row["status"] != "running" or not row["invocation"]:
            return self._store.cancel_run(row["id"], by=by)
        self._stop_unit(row)
        self._store.audit(
            actor=by, action="cancel_run", subject=row["id"], detail={"unit": row["invocation"]}
        )
        return self._store.run(row["id"])

    def _stop_unit(self, row: Row) -> None:
        key = EnvironmentKey(row["fraise_id"], row["environment"])
        environment = find_environment(self._environments, key)
        host, unit = self._tools.host(environment), service_of(key, row["job"])
        running = Reports(environment, host, also={row["job"]}).under_way()
        if running.get(unit) != invocation_in(row["invocation"]):
            message = f"cannot cancel the run {row['id']}: {host.name} does not run it any more"
            raise Conflict(message, "Wait until its end was reported: fraisier runs")
        words = units_program.call("stop", install(environment, ""), unit)
        done = host.act(words, timeout=units_program.PATIENCE)
        if done.code != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            message = f"cannot cancel the run {row['id']}: {said.removeprefix('cannot ')}"
            raise StepFailed(Cause.host, message, f"On {host.name}: sudo systemctl stop {unit}")
