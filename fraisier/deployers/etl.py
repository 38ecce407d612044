"""What the deployment of a pipeline consists of: a release that is tried before it is switched to.

Nothing serves, so nothing is restarted: the next run starts in the release that `current` names then.
"""

from __future__ import annotations

from dataclasses import replace

from fraisier.deployers.common import Candidate, Parts, in_release, steps, switch_to
from fraisier.deployers.making import made
from fraisier.domain.acts import Command, Fetch, Preflight, Prove, Prune, Switch
from fraisier.domain.fraise import Environment
from fraisier.domain.job import JobKind, OnRunning, variables
from fraisier.domain.job_acts import HoldRuns
from fraisier.domain.plan import Act, Phase, Plan, StepName
from fraisier.domain.release import Layout


def plan_deployment(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Make a release beside the old one, try it in its own folder, then switch to it."""
    layout = Layout(environment.app_path)
    fetch = Fetch(clone_url=environment.source.clone_url, ref=release.ref, commit=release.commit)
    prune = Prune(folder=layout.releases, keep=environment.keep_releases)
    return Plan(
        release=release.name,
        steps=steps(
            Phase.deploy,
            (StepName.preflight, (Preflight(),)),
            (StepName.fetch, (fetch,)),
            *made(environment, release, parts.target.build),
            *_migrated(environment, parts.backup, parts.migrate_up),
            (StepName.check_health, (*trial(environment, release), *_hold(environment))),
            *_switched(environment, release.name, parts, prune),
        ),
    )


def plan_return(environment: Environment, release: Candidate, parts: Parts) -> Plan:
    """Go back to a release that was good once, because a person asked for it: it is not tried again."""
    return Plan(
        release=release.name,
        steps=steps(
            Phase.deploy,
            (StepName.preflight, (Preflight(),)),
            *_migrated(environment, (), parts.migrate_down),
            (StepName.check_health, _hold(environment)),
            *_switched(environment, release.name, parts),
        ),
    )


def plan_rollback(environment: Environment, previous: str, parts: Parts) -> Plan:
    """Back to `previous` after a failure behind the switch; '' = there was nothing before."""
    database = (StepName.migrate, parts.migrate_down)
    back = (StepName.activate, (_switch(environment, previous),))
    if not previous:
        stop = (StepName.restart, (*parts.target.release_failure, *parts.target.stop))
        return Plan(release="", steps=steps(Phase.rollback, stop, database, back))
    return Plan(
        release=previous,
        steps=steps(Phase.rollback, database, back, (StepName.restart, _installed(parts))),
    )


def trial(environment: Environment, release: Candidate) -> tuple[Command, ...]:
    """What shows that a release can do its work, before anything uses it."""
    smoke = environment.smoke
    if smoke is None:
        return ()
    line = in_release(environment, release, smoke.run, smoke.timeout)
    return (replace(line, env={**line.env, **_as_in_a_run(environment)}, background=True),)


def _as_in_a_run(environment: Environment) -> dict[str, str]:
    """What a run of the only job would be told where nobody gives it parameters."""
    lines = [job for job in environment.jobs.values() if job.kind is JobKind.command]
    return {"FRAISIER_JOB": lines[0].name, **variables(lines[0].parameters)} if len(lines) == 1 else {}


def _hold(environment: Environment) -> tuple[Act, ...]:
    """Runs go on in the release that they began with; whether one may be under way at the switch."""
    if not environment.jobs or environment.on_running is OnRunning.new_release_next:
        return ()
    return (HoldRuns(on_running=environment.on_running),)


def _migrated(
    environment: Environment, backup: tuple[Act, ...], migration: tuple[Act, ...]
) -> tuple[tuple[StepName, tuple[Act, ...]], ...]:
    """A run stands on its database as on its release, so it has ended before that is changed; and before it
    is backed up, so that what it has written is not missing there. The waiting is no part of `migrate`: once
    that has begun, no rollback cuts a deployment short. Runs are held back once more before the switch, for
    another try, which does not migrate again.
    """
    hold = _hold(environment) if migration else ()
    return ((StepName.backup, (*hold, *backup)), (StepName.migrate, migration))


def _switched(
    environment: Environment, name: str, parts: Parts, *tidy: Act
) -> tuple[tuple[StepName, tuple[Act, ...]], ...]:
    return (
        (StepName.activate, (_switch(environment, name),)),
        (StepName.restart, _installed(parts)),
        (StepName.finish, (Prove(release=name), *tidy)),
    )


def _switch(environment: Environment, name: str) -> Switch:
    return replace(switch_to(environment, name), restarts=False)


def _installed(parts: Parts) -> tuple[Act, ...]:
    return (*parts.target.install, *parts.target.release_failure, *parts.target.restart)
