"""What the deployment of a web service consists of, and the way back from it."""

from __future__ import annotations

from dataclasses import replace

from fraisier.deployers.common import Candidate, Parts, in_release, steps, switch_to
from fraisier.domain.fraise import Environment
from fraisier.domain.plan import (
    Act,
    CheckHealth,
    Fetch,
    LinkShared,
    Phase,
    Plan,
    Preflight,
    Prove,
    Prune,
    Seal,
    StepName,
    TargetActs,
    Unpack,
)
from fraisier.domain.release import Layout


def plan_deployment(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Bring a new release in: build it beside the old one, then switch, restart and check."""
    layout = Layout(environment.app_path)
    fetch = Fetch(clone_url=environment.source.clone_url, ref=release.ref, commit=release.commit)
    return Plan(
        release=release.name,
        steps=steps(
            Phase.deploy,
            (StepName.preflight, (Preflight(),)),
            (StepName.fetch, (fetch,)),
            (StepName.prepare, (_unpack(environment, release),)),
            (StepName.link_shared, _links(environment, release)),
            (
                StepName.build,
                (*_build(environment, release), Seal(release=release.name, folder=release.folder)),
            ),
            (StepName.migrate, parts.migrate_up),
            *_bring_in(environment, release.name, parts.target),
            (
                StepName.finish,
                (
                    Prove(release=release.name),
                    Prune(folder=layout.releases, keep=environment.keep_releases),
                ),
            ),
        ),
    )


def plan_return(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Go back to a release that is whole, because a person asked for it. The database is left as it is."""
    return Plan(
        release=release.name,
        steps=steps(
            Phase.deploy,
            (StepName.preflight, (Preflight(),)),
            *_bring_in(environment, release.name, parts.target),
            (StepName.finish, (Prove(release=release.name),)),
        ),
    )


def plan_rollback(environment: Environment, previous: str, parts: Parts) -> Plan:
    """Back to `previous` after a failure behind the switch; '' = there was nothing before.

    The code must be back before the restart, so this is not the plan reversed. The database goes first:
    the old code should not meet the new schema, and only the new release's folder knows the way down.
    """
    database = (StepName.migrate, parts.migrate_down)
    if previous:
        return Plan(
            release=previous,
            steps=steps(Phase.rollback, database, *_bring_in(environment, previous, parts.target)),
        )
    return Plan(
        release="",
        steps=steps(
            Phase.rollback,
            (StepName.restart, (*parts.target.release_failure, *parts.target.stop)),
            database,
            (StepName.activate, (switch_to(environment, ""),)),
        ),
    )


def _bring_in(
    environment: Environment, name: str, target: TargetActs
) -> tuple[tuple[StepName, tuple[Act, ...]], ...]:
    restart = (*target.install, *target.release_failure, *target.restart)
    watched = environment.target is not None or environment.health_check is not None
    return (
        (StepName.activate, (switch_to(environment, name),)),
        (StepName.restart, restart),
        (StepName.check_health, (CheckHealth(check=environment.health_check),) if watched else ()),
    )


def _unpack(environment: Environment, release: Candidate) -> Unpack:
    return Unpack(
        release=release.name,
        folder=release.folder,
        root=environment.root,
        submodules=environment.submodules,
        lfs=environment.lfs,
    )


def _links(environment: Environment, release: Candidate) -> tuple[Act, ...]:
    layout = Layout(environment.app_path)
    return tuple(
        LinkShared(
            name=name,
            shared=f"{layout.shared}/{name.rstrip('/')}",
            link=f"{release.folder}/{name.rstrip('/')}",
        )
        for name in environment.shared
    )


def _build(environment: Environment, release: Candidate) -> tuple[Act, ...]:
    lines = (in_release(environment, release, line.run, line.timeout) for line in environment.build)
    return tuple(replace(line, background=True) for line in lines)
