"""How a release is made from a commit: what the deployments of all types have in common."""

from __future__ import annotations

from dataclasses import replace

from fraisier.deployers.common import Candidate, in_release
from fraisier.domain.acts import Command, LinkShared, Seal, Send, Unpack
from fraisier.domain.fraise import BuildOn, Environment
from fraisier.domain.plan import Act, StepName
from fraisier.domain.release import Layout


def made(
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
