"""What the deployment of a web service consists of, and the way back from it."""

from __future__ import annotations

from fraisier.deployers.common import Candidate, Parts, steps
from fraisier.deployers.cutover import bring_back, bring_in, bring_instance_back, clean_up, take_away
from fraisier.deployers.making import made
from fraisier.domain.acts import Fetch, Preflight, Prune
from fraisier.domain.fraise import Environment
from fraisier.domain.plan import Phase, Plan, StepName
from fraisier.domain.release import Layout


def plan_deployment(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Bring a new release in: build it beside the old one, then switch, restart and check."""
    layout = Layout(environment.app_path)
    fetch = Fetch(clone_url=environment.source.clone_url, ref=release.ref, commit=release.commit)
    return Plan(
        release=release.name,
        steps=steps(
            Phase.deploy,
            (StepName.preflight, (Preflight(), *clean_up(environment))),
            (StepName.fetch, (fetch,)),
            *made(environment, release, parts.target.build),
            (StepName.backup, parts.backup),
            (StepName.migrate, parts.migrate_up),
            *bring_in(
                environment,
                release.name,
                parts,
                Prune(folder=layout.releases, keep=environment.keep_releases),
            ),
        ),
    )


def plan_return(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Go back to a release that is whole, because a person asked for it.

    The database is left as it is, unless `parts` say how it goes back: before the code does.
    """
    return Plan(
        release=release.name,
        steps=steps(
            Phase.deploy,
            (StepName.preflight, (Preflight(), *clean_up(environment))),
            (StepName.migrate, parts.migrate_down),
            *bring_in(environment, release.name, parts),
        ),
    )


def plan_rollback(
    environment: Environment, previous: str, parts: Parts, *, as_instance: bool = False
) -> Plan:
    """Back to `previous` after a failure behind the switch; '' = there was nothing before.

    The code must be back before the restart, so this is not the plan reversed. The database goes first:
    the old code should not meet the new schema, and only the new release's folder knows the way down.
    With `as_instance` that release served as an instance of its own, and may do so still.
    """
    database = (StepName.migrate, parts.migrate_down)
    if not previous:
        return Plan(release="", steps=steps(Phase.rollback, *take_away(environment, parts, database)))
    way = bring_instance_back if as_instance else bring_back
    return Plan(release=previous, steps=steps(Phase.rollback, *way(environment, previous, parts, database)))
