"""Which deployer plans for which type of fraise: one row each."""

from __future__ import annotations

from typing import Protocol

from fraisier.deployers import api, backup, scheduled
from fraisier.deployers.common import Candidate, Parts
from fraisier.domain.fraise import Environment, FraiseType
from fraisier.domain.plan import Plan


class Deployer(Protocol):
    """What the deployment of one type consists of, as a module says it."""

    def plan_deployment(self, environment: Environment, release: Candidate, parts: Parts) -> Plan:
        """Bring a new release in."""
        ...

    def plan_return(self, environment: Environment, release: Candidate, parts: Parts) -> Plan:
        """Go back to a release that is whole, because a person asked for it."""
        ...

    def plan_rollback(self, environment: Environment, previous: str, parts: Parts) -> Plan:
        """Back to `previous` after a failure behind the switch; '' = there was nothing before."""
        ...


_DEPLOYERS: dict[FraiseType, Deployer] = {
    FraiseType.api: api,
    FraiseType.etl: scheduled,  # a pipeline may have its schedule kept by systemd, too
    FraiseType.scheduled: scheduled,
    FraiseType.backup: backup,
}


def deployer_of(environment: Environment) -> Deployer:
    """The deployer for an environment's type."""
    return _DEPLOYERS[environment.type]
