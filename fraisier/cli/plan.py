"""`fraisier plan`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fraisier.application.find_workers import FindWorkers
from fraisier.cli import times
from fraisier.cli.options import (
    check_commit,
    commit_options,
    environment_argument,
    fraise_argument,
    json_option,
)
from fraisier.cli.plan_backup import document, print_backup
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import Session
from fraisier.cli.text import printable, shorten
from fraisier.domain.cutover_cost import cost_of, risk_of
from fraisier.domain.labels import in_words
from fraisier.domain.rollout import planned_turns

if TYPE_CHECKING:
    from fraisier.domain.fraise import Environment, EnvironmentKey
    from fraisier.domain.plan import Plan
    from fraisier.wiring import Fraisier

MOST_TURNS = 20  # that are shown


@click.command("plan")
@fraise_argument()
@environment_argument()
@commit_options
@json_option
@click.pass_obj
def command(session: Session, fraise: str, environment: str, *, commit: str, ref: str, as_json: bool) -> None:
    """Show what a deployment of ENVIRONMENT would do, command by command. Changes nothing.

    Of a backup it shows what a run does, too: what is dumped, where it goes, and how long it is kept.

    \b
    Examples:
      fraisier plan api production
      fraisier plan api staging --ref feature/login
    """
    check_commit(commit, ref)
    key = session.key(fraise, environment)
    with session.fraisier(readonly=True) as fraisier:
        if not fraisier.environment(key).deploys:
            _print_backup(fraisier.environment(key), as_json=as_json)
            return
        print_plan(fraisier, key, fraisier.plan(key, commit=commit, ref=ref), commit=commit, as_json=as_json)


def print_plan(
    fraisier: Fraisier, key: EnvironmentKey, plan: Plan, *, commit: str = "", as_json: bool
) -> None:
    """The plan's steps with their commands, who would perform them, and what is known of the database."""
    environment = fraisier.environment(key)
    labels, cost = environment.labels, cost_of(environment)
    hold, outlook = fraisier.holds().hold(key), fraisier.outlook(key, commit=commit)
    if as_json:
        held = {"held_because": hold.reason, "held_until": times.iso(hold.until)} if hold else {}
        known = {"labels": labels, "cutover": environment.cutover, "cost": cost, "hosts": environment.hosts}
        known["risk"] = risk_of(environment, plan)
        told = {"rollout": _turns(environment), "database": outlook and asdict(outlook)}
        backed_up = {"backup": document(environment, environment.backup)} if environment.backup else {}
        print_json({**_document(plan, key), **known, **held, **told, **backed_up})
        return
    screen = Screen.of_stdout()
    screen.say(f"The next deployment of {screen.style(str(key), bold=True)} would do this:")
    for number, step in enumerate(plan.steps, 1):
        screen.say(f"{number:>3}. {screen.style(step.name, 'cyan')}")
        for act in step.acts:
            command, _, remark = printable(act.describe(), keep="\n").partition("    # ")
            remark = screen.style(f"  # {remark}", dim=True) if remark else ""
            screen.say("       " + command.replace("\n", "\n       ") + remark)
    if len(environment.hosts) > 1:
        _print_rollout(environment, screen)
    _print_cost(cost, risk_of(environment, plan), screen)
    if outlook is not None:
        for line in outlook.in_words():
            screen.say(printable(line))
    if labels:
        screen.say(f"By a worker with the labels {in_words(labels)}.")
        if lack := FindWorkers(fraisier.store).lack(labels):
            screen.say(screen.style(f"It would wait: {lack.reason}. {lack.hint}", "yellow"))
    if hold is not None:
        screen.say(screen.style(f"It would wait: {printable(hold.reason)}. {hold.hint}", "yellow"))
    if environment.backup is not None:
        print_backup(environment, environment.backup, screen)
        return
    screen.say(screen.style("Nothing was changed.", dim=True))


def _print_backup(environment: Environment, *, as_json: bool) -> None:
    """Of what has no repository: nothing is deployed there."""
    if environment.backup is None:
        return
    if as_json:
        key = environment.key
        steps: list[Any] = []
        nothing = {"fraise_id": key.fraise, "environment": key.environment, "release": None, "steps": steps}
        print_json({**nothing, "backup": document(environment, environment.backup)})
    else:
        print_backup(environment, environment.backup, Screen.of_stdout())


def _print_cost(cost: str, risk: str, screen: Screen) -> None:
    if cost:
        screen.say(f"What it costs: {cost}.")
    if risk:
        screen.say(screen.style(f"{risk}.", "yellow"))


def _turns(environment: Environment) -> list[list[str]] | None:
    """The hosts in the batches in which they come; None where there is one."""
    return planned_turns(environment.rollout, environment.hosts) if len(environment.hosts) > 1 else None


def _print_rollout(environment: Environment, screen: Screen) -> None:
    rollout, hosts = environment.rollout, environment.hosts
    screen.say(f"On {len(hosts)} hosts: prepared on all of them at once, then by turns:")
    turns = planned_turns(rollout, hosts)
    for number, turn in enumerate(turns[:MOST_TURNS], 1):
        screen.say(f"{number:>3}. {shorten(', '.join(turn), max(screen.width - 6, 40))}")
    if len(turns) > MOST_TURNS:
        screen.say(f"     … and {len(turns) - MOST_TURNS} more")
    pause = f", {rollout.pause:g} s apart" if rollout.pause else ""
    allowed = rollout.max_failures
    screen.say(
        f"Turns{pause}. If more than {allowed} host{'s' * (allowed != 1)} or a canary"
        f" ({rollout.canary}) should fail, every host goes back."
    )


def _document(plan: Plan, key: EnvironmentKey) -> dict[str, Any]:
    steps = [
        {"name": step.name, "phase": step.phase, "acts": [act.describe() for act in step.acts]}
        for step in plan.steps
    ]
    return {"fraise_id": key.fraise, "environment": key.environment, "release": plan.release, "steps": steps}
