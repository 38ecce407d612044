"""What the deployment of a backup consists of: its scripts, brought in as a pipeline's are.

Only a backup with a repository has releases. Commands that dump and restore are performed in the one that
runs; what was backed up with an older one is brought back with the present one.
"""

from __future__ import annotations

from fraisier.deployers import etl
from fraisier.deployers.common import Candidate, Parts
from fraisier.domain.fraise import Environment
from fraisier.domain.plan import Plan


def plan_deployment(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Make a release beside the old one, try it by `smoke`, then switch to it; no backup is made."""
    return etl.plan_deployment(environment, release, parts)


def plan_return(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Go back to a release that was good once; backups stay as they are."""
    return etl.plan_return(environment, release, parts)


def plan_rollback(environment: Environment, previous: str, parts: Parts) -> Plan:
    """Back to `previous` after a failure behind the switch; '' = there was nothing before."""
    return etl.plan_rollback(environment, previous, parts)
