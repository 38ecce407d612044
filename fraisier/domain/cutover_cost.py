"""What each way of cutting over costs those who ask meanwhile, in words."""

from __future__ import annotations

from fraisier.domain.fraise import Cutover, Environment

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
