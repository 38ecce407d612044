"""What each way of cutting over costs those who ask meanwhile, or run, in words."""

from __future__ import annotations

from fraisier.domain.fraise import Cutover, Environment
from fraisier.domain.job import OnRunning
from fraisier.domain.plan import Plan, StepName

_COSTS = {
    Cutover.restart: (
        "restart: from the unit's stop until the new release listens, requests are refused; those under way"
        " have until the stop's timeout"
    ),
    Cutover.socket: "socket: nobody is refused; while the unit restarts, requests wait for the new release",
    Cutover.blue_green: (
        "blue_green: no request is dropped; two releases run at a time, on one database, until the old one"
        " has ended its requests"
    ),
}
BETTER = "cutover: socket makes them wait instead, cutover: blue_green drops none"


def cost_of(environment: Environment) -> str:
    """One sentence; '' where nothing is restarted."""
    return _COSTS.get(environment.cutover, "") if environment.target else ""


def risk_of(environment: Environment, plan: Plan) -> str:
    """What a plan may do to runs that are under way; '' = nothing."""
    is_migrated = any(step.name is StepName.migrate for step in plan.steps)
    if not is_migrated or not environment.jobs or environment.on_running is not OnRunning.new_release_next:
        return ""
    return (
        "on_running: new_release_next: runs of the old release go on while the database is migrated, and"
        " begin until the switch. on_running: wait or cancel spares them"
    )
