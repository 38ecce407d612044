"""Which branches an environment gets, by itself or by the older way to route."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.application.ports import Configuration
from fraisier.domain.fraise import EnvironmentKey


def branches(configuration: Configuration) -> Mapping[EnvironmentKey, frozenset[str]]:
    """Every environment that follows branches, and which: its own, or those of `routes` instead."""
    routed: dict[EnvironmentKey, frozenset[str]] = {}
    for branch, keys in configuration.routes.items():
        for key in keys:
            routed[key] = routed.get(key, frozenset()) | {branch}
    own = {
        key: frozenset({environment.branch})
        for key, environment in configuration.environments.items()
        if environment.branch
    }
    return own | routed
