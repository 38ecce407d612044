"""`fraisier deploy`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from fraisier.cli.options import (
    check_commit,
    commit_options,
    environment_argument,
    fraise_argument,
    json_option,
    label_option,
    wait_option,
)
from fraisier.cli.session import Session, asker


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The command line of `deploy`."""

    fraise: str
    environment: str
    commit: str
    ref: str
    force: bool
    wait: bool
    dry_run: bool
    as_json: bool


@click.command("deploy")
@fraise_argument()
@environment_argument()
@commit_options
@click.option("--force", is_flag=True, help="Even a commit that failed here before; even now.")
@wait_option
@click.option("--dry-run", is_flag=True, help="Change nothing; the same as `fraisier plan`.")
@json_option
@label_option
@click.pass_obj
def command(session: Session, /, **options: Any) -> None:
    """Bring ENVIRONMENT of FRAISE to a commit, and watch until it has ended.

    Without --commit or --ref it is the tip of the branch that the environment follows; one that follows
    tags needs either. Where no worker lives that may take the environment, this process performs the
    deployment itself; if labels say that it lives, or may live, on another machine, it exits 4. Ctrl-C lets
    a worker's deployment go on, and cancels one that this process performs.

    Where the environment is paused, or outside of its allowed times, the deployment is stored and waits like
    a push, and this exits 4 at once. --force does not wait. A commit that runs already is deployed anew, into
    another release: that heals what `fraisier status --verify` finds.

    \b
    Examples:
      fraisier deploy api production
      fraisier deploy api production --commit 5f1c0d…  (all 40 digits)
      fraisier deploy api staging --ref feature/login
      fraisier deploy api production --no-wait         print the id, and go
      fraisier deploy api production --force           a commit that failed before, or in a pause
    """
    wanted = Wanted(**options)
    check_commit(wanted.commit, wanted.ref)
    key = session.key(wanted.fraise, wanted.environment)
    with session.fraisier(readonly=wanted.dry_run) as fraisier:
        if wanted.dry_run:
            from fraisier.cli.plan import print_plan

            plan = fraisier.plan(key, commit=wanted.commit, ref=wanted.ref)
            print_plan(fraisier, key, plan, commit=wanted.commit, as_json=wanted.as_json)
            return
        from fraisier.cli.deployment_waiting import conclude

        requested = fraisier.request_deployment(
            key, commit=wanted.commit, ref=wanted.ref, by=asker(), force=wanted.force
        )
        conclude(fraisier, requested, wait=wanted.wait, as_json=wanted.as_json)
