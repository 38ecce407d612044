"""What the deployment of a web service consists of, and the way back from it."""

from __future__ import annotations

from dataclasses import replace

from fraisier.deployers.common import Candidate, Parts, in_release, steps
from fraisier.deployers.cutover import bring_back, bring_in, bring_instance_back, clean_up, take_away
from fraisier.domain.acts import Command, Fetch, LinkShared, Preflight, Prune, Seal, Send, Unpack
from fraisier.domain.cutover_acts import Retire
from fraisier.domain.fraise import BuildOn, Environment
from fraisier.domain.plan import Act, Phase, Plan, Step, StepName
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
            *_made(environment, release, parts.target.build),
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


def plan_clean_up() -> Step:
    """After a failure before the switch: an instance that was started beside the one that serves."""
    return Step(name=StepName.restart, acts=(Retire(keep=None),), phase=Phase.rollback)


def _made(
    environment: Environment, release: Candidate, of_target: tuple[Act, ...]
) -> tuple[tuple[StepName, tuple[Act, ...]], ...]:
    """The steps from a commit to a whole release on its host; what the target makes, it makes there."""
    unpack, links = _unpack(environment, release), _links(environment, release)
    build = _build(environment, release)
    seal = Seal(release=release.name, folder=release.folder)
    if environment.build_on is not BuildOn.here:
        return (
            (StepName.prepare, (unpack,)),
            (StepName.link_shared, links),
            (StepName.build, (*build, *of_target, seal)),
        )
    # What is shared is on the host alone.
    names = tuple(name.rstrip("/") for name in environment.shared)
    there = (Send(folder=release.folder, leave_out=names), *links, *of_target, seal)
    return (
        (StepName.prepare, (replace(unpack, here=True),)),
        (StepName.build, (*(replace(each, here=True) for each in build), *there)),
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


def _build(environment: Environment, release: Candidate) -> tuple[Command, ...]:
    lines = (in_release(environment, release, line.run, line.timeout) for line in environment.build)
    return tuple(replace(line, background=True) for line in lines)
