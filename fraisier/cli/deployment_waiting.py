"""What follows a request to deploy: watch it to its end, or let go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fraisier.application.find_workers import FindWorkers, Lack
from fraisier.cli.progress import progress_on
from fraisier.cli.screen import print_json
from fraisier.cli.session import asker
from fraisier.cli.text import SHORT_ID
from fraisier.cli.waiting import EndedOtherwise, Waiting, nobody_begins
from fraisier.domain.deployment import Deployment
from fraisier.domain.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from fraisier.application.ports import Requested, Row
    from fraisier.wiring import Fraisier
    from fraisier.worker import Worker

REASONS = {
    "quarantined": (
        "this commit failed here before and is quarantined",
        "Deploy it all the same with --force",
    ),
    "already_requested": (
        "the newest deployment already asked for this commit",
        "See `fraisier history`; --force asks again",
    ),
    "refused": ("this commit was refused before", "Deploy it all the same with --force"),
}


def conclude(fraisier: Fraisier, requested: Requested, *, wait: bool, as_json: bool) -> None:
    """Do what `--wait` or `--no-wait` promises for what was requested.

    Raises:
        Conflict: nothing was requested, for a reason.
        NoWorker: nobody lives who may perform it, and we were told not to wait, or may not either.
        OnHold: the environment is paused, or outside of its allowed times.
        EndedOtherwise: it ended otherwise than `success`.
    """
    deployment = requested.deployment
    if deployment is None:
        raise _nothing_requested(requested.reason)
    if not wait:
        _hand_over(fraisier, deployment, as_json=as_json)
        return
    DeploymentWaiting(fraisier, deployment, as_json=as_json).to_the_end()


def _nothing_requested(reason: str) -> Conflict:
    why, hint = REASONS.get(reason, (reason, "See `fraisier status`"))
    return Conflict(f"cannot deploy: {why}", hint)


def _hand_over(fraisier: Fraisier, deployment: Deployment, *, as_json: bool) -> None:
    if as_json:
        print_json(fraisier.store.deployment(deployment.id))
    else:
        click.echo(deployment.id)
    if (lack := _lack(fraisier, deployment.id)) is not None:
        raise nobody_begins("deployment", deployment.id, lack)


def _lack(fraisier: Fraisier, deployment: str) -> Lack | None:
    """Why no worker goes on with it.

    Raises:
        OnHold: none will begin it, because somebody wants it so.
    """
    fraisier.holds().check(deployment)
    return FindWorkers(fraisier.store).lack_of(deployment)


class DeploymentWaiting(Waiting):
    """Watches one deployment, and performs it in this process where no worker that lives may take it."""

    what = "deployment"

    def __init__(self, fraisier: Fraisier, deployment: Deployment, *, as_json: bool) -> None:
        super().__init__(fraisier, deployment.id, deployment.environment, as_json=as_json)

    def _lack(self) -> Lack | None:
        return _lack(self._fraisier, self._id)

    def _perform(self, worker: Worker) -> None:
        worker.perform(self._id)

    def _cancel(self) -> None:
        self._fraisier.cancel(self._id, by=asker())

    def _row(self) -> Row:
        return self._fraisier.store.deployment(self._id)

    def _follow(self, attend: Callable[[], None], *, quiet: bool) -> Row:
        from fraisier.application.follow_deployment import FollowDeployment

        row: Row = {}
        with progress_on(self._screen, quiet=quiet) as progress:
            for glimpse in FollowDeployment(self._fraisier.store)(self._id, attend=attend):
                progress.show(glimpse)
                row = glimpse.deployment
        return row

    def _tell_success(self, row: Row) -> None:
        mark = self._screen.style("✓", "green")
        release = f", release {row['release']}" if row.get("release") else ""
        self._screen.say(f"{mark} {self._environment} runs {row['commit'][:10]}{release}")

    def _ended_otherwise(self, row: Row) -> EndedOtherwise:
        why = row.get("error_message") or "no reason was stored"
        hint = row.get("hint") or f"See `fraisier show {row['id'][:SHORT_ID]}`"
        status = str(row["status"]).replace("_", " ")
        message = f"cannot bring {row['fraise_id']}/{row['environment']} to the commit ({status}):\n{why}"
        return EndedOtherwise(message, hint)
