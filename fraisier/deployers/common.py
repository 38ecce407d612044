"""What the deployers of all types share: the release in question, the environment of commands, the switch."""

from __future__ import annotations

from dataclasses import dataclass, field

from fraisier.domain.acts import Command, Switch
from fraisier.domain.fraise import Environment
from fraisier.domain.plan import Act, Phase, Step, StepName, TargetActs
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The release that a plan is about. `folder` is its final path on the host."""

    name: str
    folder: str
    commit: str
    ref: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What brands contribute to a plan, as data: the target's commands, the database's acts."""

    target: TargetActs = field(default_factory=TargetActs)
    backup: tuple[Act, ...] = ()
    migrate_up: tuple[Act, ...] = ()
    migrate_down: tuple[Act, ...] = ()


def candidate(environment: Environment, name: str, commit: str, ref: str = "") -> Candidate:
    """The release called `name` of this environment."""
    folder = Layout(environment.app_path).release(name)
    return Candidate(name=name, folder=folder, commit=commit, ref=ref)


def command_env(environment: Environment, release: Candidate) -> dict[str, str | Secret]:
    """What a build, migration or health command sees besides PATH, HOME, LANG and the env_file."""
    told = {"FRAISIER_COMMIT": release.commit, "FRAISIER_REF": release.ref, "FRAISIER_RELEASE": release.name}
    return {**environment.env, **told}


def in_release(environment: Environment, release: Candidate, line: str, timeout: float) -> Command:
    """A shell line that runs in the release's folder as the environment's user."""
    return Command.shell(
        line,
        cwd=release.folder,
        user=environment.user,
        env=command_env(environment, release),
        env_file=environment.env_file,
        timeout=timeout,
    )


def switch_to(environment: Environment, name: str) -> Switch:
    """`current` pointed at a release; '' removes it."""
    layout = Layout(environment.app_path)
    return Switch(release=name, current=layout.current, to=layout.link_target(name) if name else "")


def steps(phase: Phase, *pairs: tuple[StepName, tuple[Act, ...]]) -> tuple[Step, ...]:
    """The steps that have something to do."""
    return tuple(Step(name=name, acts=acts, phase=phase) for name, acts in pairs if acts)
