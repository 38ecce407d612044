"""The way back from a release, as a plan: to what the one before was served by."""

from __future__ import annotations

from dataclasses import replace

from fraisier.application.instances import recorded
from fraisier.application.release_marker import read_marker, running_release
from fraisier.application.stage import Stage
from fraisier.deployers import api
from fraisier.deployers.by_type import deployer_of
from fraisier.deployers.common import Candidate, Parts
from fraisier.domain.fraise import Cutover
from fraisier.domain.plan import Act, Plan


def way_back(stage: Stage, old: Candidate | None, down: tuple[Act, ...]) -> Plan:
    """Back to `old` (None: there was nothing). The configuration may have changed how releases are served."""
    environment, tools = stage.environment, stage.tools
    if old is None:
        parts = Parts(target=tools.parts(environment, stage.candidate).target, migrate_down=down)
        return deployer_of(environment).plan_rollback(environment, "", parts)
    marker = read_marker(stage.host, stage.layout, old.name)
    # Its record goes as it is stopped; that may have been done already.
    as_instance = old.name in recorded(stage.host, stage.layout) or bool(marker and marker.beside)
    served = environment
    if as_instance is not environment.is_blue_green:
        served = replace(environment, cutover=Cutover.blue_green if as_instance else Cutover.restart)
    parts = Parts(target=tools.parts(served, old).target, migrate_down=down)
    if as_instance:
        return api.plan_rollback(served, old.name, parts, as_instance=True)
    return deployer_of(environment).plan_rollback(environment, old.name, parts)


def has_leftovers(stage: Stage) -> bool:
    """Whether an instance may run that does not serve."""
    return bool(set(recorded(stage.host, stage.layout)) - {running_release(stage.host, stage.layout)})
