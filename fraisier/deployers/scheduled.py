"""What the deployment of scheduled commands consists of: a pipeline's, and the units that keep schedules.

The units belong to the release: they are written down beside it before they are installed, so that the way
back installs those that it had, whatever the configuration says by then.
"""

from __future__ import annotations

from dataclasses import replace

from fraisier.deployers import etl
from fraisier.deployers.common import Candidate, Parts
from fraisier.deployers.timer_units import hidden_of, kept_jobs, name_of, timer_of, units_of
from fraisier.domain.acts import UnitCommand
from fraisier.domain.fraise import Environment, FraiseType
from fraisier.domain.job import OnRunning
from fraisier.domain.job_acts import HoldRuns
from fraisier.domain.plan import Act, Phase, Plan, Step, StepName, TargetActs
from fraisier.domain.release import Layout
from fraisier.domain.timer_acts import InstallUnits, QuietUnits, RemoveUnits, WriteUnits

_QUICK = 10.0  # seconds for a command that only looks


def plan_deployment(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """A pipeline's; once it is switched to, its schedules are kept, and those that are gone are not.

    Raises:
        StepFailed: preflight, for a job that cannot be written into units.
    """
    plan = etl.plan_deployment(environment, release, _with_units(environment, release, parts))
    return _in_quiet(environment, plan)


def plan_return(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Back to a release that was good once, with the schedules that the configuration has now."""
    plan = etl.plan_return(environment, release, _with_units(environment, release, parts))
    return _in_quiet(environment, plan)


def plan_rollback(environment: Environment, previous: str, parts: Parts) -> Plan:
    """Back to `previous` and to the schedules that were kept with it; '' = there was nothing before."""
    if not may_have_units(environment):
        return etl.plan_rollback(environment, previous, parts)
    acts: tuple[Act, ...] = (install(environment, previous) if previous else _remove(environment),)
    target = parts.target
    more = replace(target, install=(*target.install, *acts)) if previous else _first(target, acts)
    return etl.plan_rollback(environment, previous, replace(parts, target=more))


def _in_quiet(environment: Environment, plan: Plan) -> Plan:
    """Nothing runs as the database is migrated, nor as it is switched, of jobs that go with this neither.
    Whatever fails from then on ends with units that are installed: on the way back, or by `wake`.
    """
    if not may_have_units(environment) or environment.on_running is OnRunning.new_release_next:
        return plan
    cancel = environment.on_running is OnRunning.cancel
    quiet = QuietUnits(name=name_of(environment.key), cancel=cancel)
    return replace(plan, steps=tuple(_with_quiet(quiet, step) for step in plan.steps))


def _with_quiet(quiet: QuietUnits, step: Step) -> Step:
    if step.name is StepName.activate:
        return replace(step, acts=(quiet, *step.acts))
    if step.name is StepName.backup and isinstance(step.acts[0], HoldRuns):
        hold, *others = step.acts
        return replace(step, acts=(hold, quiet, *others))
    return step


def wake(environment: Environment, previous: str) -> Step | None:
    """After a failure before the switch: systemd goes on with the schedules that it kept; None: with none."""
    if not previous or not may_have_units(environment):
        return None
    return Step(name=StepName.restart, acts=(install(environment, previous),), phase=Phase.rollback)


def _first(target: TargetActs, acts: tuple[Act, ...]) -> TargetActs:
    return replace(target, stop=(*acts, *target.stop))


def may_have_units(environment: Environment) -> bool:
    """Whether there are units of it, or may be some of before."""
    return environment.type in (FraiseType.scheduled, FraiseType.etl) or bool(kept_jobs(environment))


def install(environment: Environment, release: str) -> InstallUnits:
    """Have systemd keep the schedules that were written down beside `release`."""
    return InstallUnits(
        name=name_of(environment.key),
        source=Layout(environment.app_path).units(release),
        user=environment.user,
        app_path=environment.app_path,
        env_file=environment.env_file,
        log_file=environment.log_file,
    )


def _remove(environment: Environment) -> RemoveUnits:
    return RemoveUnits(name=name_of(environment.key))


def _with_units(environment: Environment, release: Candidate, parts: Parts) -> Parts:
    if not may_have_units(environment):
        return parts
    target, jobs = parts.target, kept_jobs(environment)
    acts: tuple[Act, ...] = (_remove(environment),)
    if jobs:
        acts = (write(environment, release), install(environment, release.name))
    timers = [timer_of(environment.key, job.name) for job in jobs if job.schedule is not None]
    active = tuple(
        UnitCommand(argv=("systemctl", "is-active", "--quiet", timer), timeout=_QUICK) for timer in timers
    )
    more = replace(target, install=(*target.install, *acts), restart=(*target.restart, *active))
    return replace(parts, target=more)


def write(environment: Environment, release: Candidate) -> WriteUnits:
    """Write down beside `release` the units of an environment that has jobs for systemd.

    Raises:
        StepFailed: preflight, if something cannot stand in a unit.
    """
    layout = Layout(environment.app_path)
    return WriteUnits(
        destination=layout.units(release.name),
        units=units_of(environment, release),
        reports=layout.reports,
        user=environment.user,
        env=hidden_of(environment),
    )
