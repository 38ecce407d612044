"""What a worker does beside deployments and runs: one loop each, so that a host that hangs holds up one."""

from __future__ import annotations

from collections.abc import Callable

from fraisier.application.collect_reports import CollectReports
from fraisier.application.look_after_hosts import LookAfterHosts
from fraisier.application.remove_left_units import RemoveLeftUnits
from fraisier.application.sweep_refs import SweepRefs
from fraisier.loop import SLOW_POLL, Loop, Tell
from fraisier.wiring import Fraisier

SWEEP_PAUSE = 1.0  # seconds at least between two looks for a repository that is to be asked
COLLECT_PAUSE = 3.0  # seconds between two looks for what runs that systemd started tell
HEAL_PAUSE = 2.0  # seconds between two looks for hosts that are to be looked after
LEFT_PAUSE = 5.0  # seconds between two looks for units of what is no longer there


def house_loops(
    parts: Fraisier, *, idle: Callable[[], str], is_eldest: Callable[[], bool], tell: Tell
) -> list[Loop]:
    """The loops, to be started. `idle` says why nothing is to be done; '' = nothing speaks against it."""
    tools, store = parts.tools, parts.store

    def swept() -> float:
        if not idle() and is_eldest():
            sweep(parts.configuration, sweeping.stopping)
        return min(SLOW_POLL, sweep.due_in)

    def healed() -> float:
        if not idle():
            look_after(parts.configuration)
        return HEAL_PAUSE

    def collected() -> float:
        if not idle():
            collect(list(parts.configuration.environments.values()))
        return COLLECT_PAUSE

    def removed() -> float:
        if not idle():
            remove(parts.configuration, removing.stopping)
        return LEFT_PAUSE

    sweeping = Loop("worker-sweep", swept, tell, at_least=SWEEP_PAUSE)
    healing = Loop("worker-heal", healed, tell, at_least=HEAL_PAUSE, after=HEAL_PAUSE)
    collecting = Loop("worker-collect", collected, tell, at_least=COLLECT_PAUSE, after=COLLECT_PAUSE)
    removing = Loop("worker-left", removed, tell, at_least=LEFT_PAUSE, after=LEFT_PAUSE)
    sweep = SweepRefs(tools.repository, store, parts.clock, tell)
    look_after = LookAfterHosts(tools, store, tell, healing.stopping)
    collect = CollectReports(tools, store, parts.codec, tell)
    remove = RemoveLeftUnits(tools, store, parts.codec, tell)
    return [sweeping, healing, collecting, removing]
